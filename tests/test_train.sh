#!/usr/bin/env bash
# Training from end to end on the bundled data: what a run leaves behind, that it repeats to the
# last bit, goes on after an interrupt, and answers bad input with one line and the right status.
set -euo pipefail
dml=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

# Forty classes are enough to see everything work; the first twenty train.
mkdir -p "$work/data/emoji40/images"
cp -r "$source/data/emoji200/images"/0[0-3]?.* "$work/data/emoji40/images/"
base=(--dataset emoji40 --source_path "$work/data" --arch resnet18_normalize --not_pretrained
    --image_size 32 --embed_dim 32 --bs 32 --lr 0.001 --save_path "$work/runs"
    --evaluation_metrics e_recall@1 mAP@R rho_spectrum@1 --no_plots)
train() { "$dml" train "${base[@]}" "$@" >"$work/log" 2>&1 || { cat "$work/log"; return 1; }; }
losses() { cut -d, -f1 "$work/runs/emoji40/$1/CSV_Logs/Data_Train_loss.csv"; }

echo "a run leaves its results"
train --n_epochs 2 --savename one --kernels 1
run=$work/runs/emoji40/one
for file in parameters.json summary.json state.safetensors sample_recoveries.png \
    checkpoint_Test_discriminative_e_recall@1.safetensors CSV_Logs/Data_Train_loss.csv; do
    [ -s "$run/$file" ] || fail "$file is missing"
done
grep -q "training *19 classes, 1[0-9][0-9] images" "$work/log" || fail "the parts are not described"

echo "the same losses again with other loader threads; a taken name is not overwritten"
train --n_epochs 2 --savename one --kernels 3
cmp <(losses one) <(losses one_1) || fail "a repeated run gave other losses"

echo "parameters from a file, flags on the line win"
train --params "$run/parameters.json" --savename again --n_epochs 1
cmp <(losses one | head -2) <(losses again) || fail "--params gave other losses"

echo "going on from an epoch's end gives the losses of an uninterrupted run"
train --resume "$work/runs/emoji40/again/state.safetensors" --n_epochs 2
cmp <(losses one) <(losses again) || fail "--resume gave other losses"

echo "Ctrl-C ends after the step, or in the evaluation, with everything written; --resume goes on"
"$dml" train "${base[@]}" --n_epochs 2 --savename cut >"$work/log" 2>&1 &
pid=$!
csv="$work/runs/emoji40/cut/CSV_Logs"
for _ in $(seq 300); do
    [ -d "$csv" ] && cat "$csv"/*.csv 2>/dev/null | grep -q '^[0-9]' && break
    sleep 0.1
done
kill -INT $pid
status=0; wait $pid || status=$?
[ $status = 1 ] || { cat "$work/log"; fail "an interrupted run ended with $status"; }
[ -s "$work/runs/emoji40/cut/state.safetensors" ] || fail "no state after Ctrl-C"
train --resume "$work/runs/emoji40/cut/state.safetensors"
cmp <(losses one) <(losses cut) || fail "resumed losses differ"

echo "dml eval repeats the numbers of the log"
checkpoint="$run/checkpoint_Test_discriminative_e_recall@1.safetensors"
"$dml" eval --checkpoint "$checkpoint" --source_path "$work/data" --json >"$work/eval.json"
best=$(grep -o '"best": *[0-9.e-]*' "$run/summary.json" | head -1 | grep -o '[0-9.e-]*$')
grep -q "$best" "$work/eval.json" || { cat "$work/eval.json"; fail "eval does not give $best"; }

# bad STATUS PATTERN FLAGS...
bad() {
    local wanted=$1 pattern=$2 status=0
    shift 2
    "$dml" train "${base[@]}" --n_epochs 1 "$@" >"$work/out" 2>"$work/err" || status=$?
    [ $status = "$wanted" ] || { cat "$work/err"; fail "status $status for: $*"; }
    tail -1 "$work/err" | grep -q -- "$pattern" || { cat "$work/err"; fail "no '$pattern': $*"; }
}
echo "bad input: one line that names the culprit"
bad 2 "did you mean --loss" --lss margin
bad 2 "there is no criterion 'marginn'" --loss marginn
bad 2 "there is no batch miner 'distanc'" --batch_mining distanc
bad 2 "--bs 33 is not a multiple" --bs 33
bad 2 "--gamma: 7 is out of bounds" --gamma 7
bad 2 "resnet1" --arch resnet1
bad 2 "no metric" --evaluation_metrics e_recal@1
bad 1 "evaluation_metrics, testing: recall@9999: k is beyond" --evaluation_metrics e_recall@9999
bad 1 "rho_spectrum@31: k is beyond the 7" --embed_dim 8 --storage_metrics rho_spectrum@31
bad 2 "--savename a/b: is no name" --savename a/b
bad 2 "--dataset ../emoji40: is no name" --dataset ../emoji40
bad 2 "--weights and --not_pretrained" --weights some.pth
bad 1 "/nowhere" --source_path /nowhere
bad 1 "state" --resume "$checkpoint"
bad 2 "--bs 4096: larger than the training set" --bs 4096
(   # a full disk, as a limit on file sizes shows it
    trap '' XFSZ
    ulimit -f 1000
    bad 1 "safetensors: cannot be written: File too large"
)
mkdir -p "$work/broken/images"
cp -r "$source/data/emoji200/images"/00[1-4].* "$work/broken/images/"
victim=$(find "$work/broken" -name '*.jpg' | sort | head -1)
head -c 300 "$victim" >"$victim.cut" && mv "$victim.cut" "$victim"
bad 1 "$(basename "$victim")" --source_path "$work" --dataset broken --bs 8
bad 1 "step [0-9]* (epoch 0)" --lr 1e38
echo "all passed"
