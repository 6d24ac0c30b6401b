#!/usr/bin/env bash
# Training with sums of criteria, pair miners and cross-batch memory: what goes together runs, goes on
# after a break to the last bit, and what does not is refused in one line before data are read.
set -euo pipefail
dml=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 # so small a network gains little by more
fail() { echo "FAILED: $*" >&2; exit 1; }

mkdir -p "$work/data/emoji40/images"
cp -r "$source/data/emoji200/images"/0[0-3]?.* "$work/data/emoji40/images/"
base=(--dataset emoji40 --source_path "$work/data" --arch resnet18_normalize --not_pretrained
    --image_size 32 --embed_dim 32 --bs 32 --lr 0.001 --save_path "$work/runs" --no_train_metrics
    --evaluation_metrics e_recall@1 --no_plots)
train() { "$dml" train "${base[@]}" "$@" >"$work/log" 2>&1 || { cat "$work/log"; return 1; }; }
# data_of STATE prints its tensors without the header, which holds the flags
data_of() { tail -c +$((9 + $(od -An -tu8 -N8 "$1"))) "$1"; }

# says TEXT FLAGS...: one epoch with the flags tells TEXT; two at once end as one and one more do.
count=0
says() {
    local text=$1
    shift
    count=$((count + 1))
    train --n_epochs 2 --savename "whole$count" "$@"
    grep -qF -- "$text" "$work/log" || { cat "$work/log"; fail "no word of: $text"; }
    train --n_epochs 1 --savename "parts$count" "$@"
    train --resume "$work/runs/emoji40/parts$count" --n_epochs 2
    cmp <(data_of "$work/runs/emoji40/whole$count/state.safetensors") \
        <(data_of "$work/runs/emoji40/parts$count/state.safetensors") ||
        fail "the resumed state differs: $*"
}

echo "sums of criteria, each with its own miner"
says "criterion: margin + 0.5 tcm; batch miner: distance, none;" \
    --loss margin+tcm --loss_weights 1 0.5
says "criterion: margin + npair + softmax + arcface; batch miner: semihard, npair, none, none;" \
    --loss margin+npair+softmax+arcface --batch_mining npair+semihard
says "criterion: 2 supcon; batch miner: multisimilarity;" \
    --loss supcon --loss_weights 2 --batch_mining multisimilarity

echo "what criteria keep from batch to batch is part of the state"
says "criterion: dynamic_soft_margin + manifold;" --loss dynamic_soft_margin+manifold
says "criterion: contrastive; batch miner: none;" --loss contrastive --xbm_size 70
says "criterion: multisimilarity + softmax + supcon; batch miner: none, none, none;" \
    --loss multisimilarity+softmax+supcon --xbm_size 1000
for criterion in multisimilarity supcon; do
    grep -aq "\"criterion.$criterion.memory_labels\"" \
        "$work/runs/emoji40/whole$count/state.safetensors" || fail "the state has no memory"
done
for checkpoint in "$work/runs/emoji40/whole$count"/checkpoint_*.safetensors; do
    ! grep -aq multisimilarity.memory "$checkpoint" || fail "$checkpoint has the memory"
done

# refused TEXT FLAGS...: status 2, and one line that has TEXT.
refused() {
    local text=$1 status=0
    shift
    "$dml" train --dataset none --source_path "$work/nowhere" "$@" >"$work/log" 2>&1 || status=$?
    [ $status = 2 ] || fail "status $status: $*: $(cat "$work/log")"
    [ "$(wc -l <"$work/log")" = 1 ] || fail "more than one line: $*"
    grep -qF -- "$text" "$work/log" || { cat "$work/log"; fail "not told: $text"; }
}

echo "dml list tells which criteria may have a memory"
memory_of() { "$dml" list | sed -n "/^  $1 /,/^  $2 /p" | grep -c -- --xbm_size || true; }
[ "$(memory_of contrastive triplet) $(memory_of triplet margin)" = "1 0" ] ||
    fail "dml list does not tell who may have a memory"

echo "what does not go together is refused"
refused "there is no criterion 'tcmm'" --loss margin+tcmm
refused "there is no criterion ''" --loss margin+
refused "--loss margin+tcm+margin: has margin twice" --loss margin+tcm+margin
refused "--loss_weights has 3 numbers, --loss margin+tcm 2 criteria" --loss margin+tcm \
    --loss_weights 1 2 3
refused "--loss_weights: -1 is out of bounds" --loss margin+tcm --loss_weights 1 -1
refused "the criterion 'npair' needs pairs of anchor and positive, but the batch miner 'distance' gives triplets: use one of: npair" \
    --loss margin+npair
refused "the batch miner 'distance' gives triplets: leave out --batch_mining, or use one of: pair_margin, multisimilarity" \
    --loss circle --batch_mining distance
refused "no criterion of --loss margin+tcm has a use for the batch miner 'npair'" \
    --loss margin+tcm --batch_mining distance+npair
refused "the criterion 'triplet' cannot compare a batch with a memory: use one of: contrastive" \
    --loss triplet --xbm_size 1000
refused "--xbm_size 100 is less than --bs 112" --loss contrastive --xbm_size 100
refused "leave out the batch miner 'distance'" --loss contrastive --xbm_size 1000 \
    --batch_mining distance
echo "all held"
