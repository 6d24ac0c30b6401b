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
train --resume "$work/runs/emoji40/again/state.safetensors" --n_epochs 2
grep -q "the run already has its 2 epochs; a larger --n_epochs continues it" "$work/log" ||
    { cat "$work/log"; fail "a finished run does not say so"; }

echo "the store of a sampler with momentum goes on too"
# data_of STATE prints its tensors without the header, which holds the flags
data_of() { tail -c +$((9 + $(od -An -tu8 -N8 "$1"))) "$1"; }
momentum=(--data_sampler greedy_coreset --data_batchmatch_bigbs 64 --data_mb_mom 0.9 --no_train_metrics)
train --n_epochs 2 --savename whole "${momentum[@]}"
train --n_epochs 1 --savename parts "${momentum[@]}"
train --resume "$work/runs/emoji40/parts/state.safetensors" --n_epochs 2 "${momentum[@]}"
cmp <(data_of "$work/runs/emoji40/whole/state.safetensors") \
    <(data_of "$work/runs/emoji40/parts/state.safetensors") || fail "the resumed state differs"

echo "the parameters of a resumed run start a run of their own"
grep -q '"resume":[[:space:]]*""' "$work/runs/emoji40/again/parameters.json" ||
    fail "a run that goes on in its folder has become another"
train --params "$work/runs/emoji40/again/parameters.json" --savename fresh --n_epochs 1
cmp <(losses one | head -2) <(losses fresh) || fail "--params resumed the run that it describes"

echo "the command that is kept is one that a shell reads back"
train --n_epochs 0 --savename quoted --group "it's \$HOME (1)"
grep -aqF -- "--group 'it'\\''s \$HOME (1)'" "$work/runs/runs.sqlite" || fail "the group is not quoted"

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
train --resume "$work/runs/emoji40/cut"
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
echo "batches without positives or negatives are told, where the criterion needs them"
mkdir -p "$work/data/pairs/images"
for class in "$source/data/emoji200/images"/{00,01,02,03,04,05,06,07,08,09,10,11}?.*; do
    mkdir "$work/data/pairs/images/${class##*/}"
    find "$class" -name '*.jpg' | sort | head -2 |
        xargs cp -t "$work/data/pairs/images/${class##*/}"
done
# lines_of PATTERN FLAGS... prints how many lines of a run's output have it
lines_of() {
    local pattern=$1
    shift
    train --dataset pairs --n_epochs 1 --no_train_metrics --evaluation_metrics e_recall@1 "$@"
    grep -c -- "$pattern" "$work/log" || true
}
[ "$(lines_of "--bs 32 --samples_per_class 32: 0 % of the images have one of another class" \
    --loss contrastive --batch_mining random --samples_per_class 32)" = 1 ] || fail "no negatives"
[ "$(lines_of "--samples_per_class 1: .* % of the images have another one of their class" \
    --loss multisimilarity --bs 2 --samples_per_class 1)" = 1 ] || fail "no positives"
[ "$(lines_of "% of the images" --loss proxynca --samples_per_class 32)" = 0 ] ||
    fail "proxies need no partners in a batch"
[ "$(lines_of "% of the images" --loss multisimilarity)" = 0 ] || fail "a usual batch is told"

echo "an image that is corrupt between whole ends is used and told, once"
victim=$(find "$work/data/pairs/images/001."* -name '*.jpg' | sort | head -1)
size=$(stat -c %s "$victim")
printf '\377\320\377\320\377\320' |
    dd of="$victim" bs=1 seek=$((size * 3 / 4)) conv=notrunc status=none
train --dataset pairs --n_epochs 2 --savename corrupt
[ "$(grep -c "$victim: Corrupt JPEG data: .*; what can be decoded of it is used" "$work/log")" = 1 ] ||
    { cat "$work/log"; fail "a corrupt image is not told once"; }
grep -q "Epoch 2 of 2.*, 1 images corrupt" "$work/log" || fail "a corrupt image is not counted"

echo "bad input: one line that names the culprit"
bad 2 "did you mean --loss" --lss margin
bad 2 "there is no criterion 'marginn'" --loss marginn
bad 2 "there is no batch miner 'distanc'" --batch_mining distanc
bad 2 "there is no batch miner 'distanc'" --loss softmax --batch_mining distanc # not used, but kept
bad 2 "--not_pretrained is a switch and takes no value: 'yes'" --not_pretrained yes
bad 2 "--seed: 1e+18 is out of bounds" --seed 1000000000000000512
bad 2 "--loss_mar is ambiguous: .* --loss_margin_nu --loss_margin_beta_constant$" --loss_mar 1
bad 2 "--loss_ is ambiguous: .* and [0-9]* more$" --loss_ 1
bad 2 "--bs 33 is not a multiple" --bs 33
bad 2 "--gamma: 7 is out of bounds" --gamma 7
bad 2 "resnet1" --arch resnet1
bad 2 "no option '_clsavg'" --arch googlenet_clsavg
[ ! -s "$work/out" ] || fail "data were read before a wrong --arch was told"
bad 1 "ties the images of a batch together" --micro_bs 8
[ ! -s "$work/out" ] || fail "data were read before a wrong --micro_bs was told"
status=0
"$dml" train "${base[@]}" --loss margin --bs 4096 >"$work/out" 2>&1 || status=$?
tail -1 "$work/out" | grep -q "larger than the training set" || fail "the message is not last"
bad 2 "no metric" --evaluation_metrics e_recal@1
bad 1 "evaluation_metrics, testing: recall@9999: k is beyond" --evaluation_metrics e_recall@9999
bad 1 "rho_spectrum@31: k is beyond the 7" --embed_dim 8 --storage_metrics rho_spectrum@31
bad 2 "--savename a/b: is not a name" --savename a/b
bad 2 "--dataset ../emoji40: is not a name" --dataset ../emoji40
for name in savename dataset group project; do
    bad 2 "--$name a.x1bb: has control characters" --$name $'a\x1bb'
done
bad 2 "--weights and --not_pretrained" --weights some.pth
bad 1 "/nowhere" --source_path /nowhere
bad 1 "state" --resume "$checkpoint"
state=$work/runs/emoji40/again/state.safetensors
bad 2 "--loss contrastive where it was --loss margin in $state: a resumed run must keep it" \
    --resume "$state" --loss contrastive
bad 2 "--batch_mining random where it was --batch_mining distance" --resume "$state" \
    --batch_mining random
bad 2 "--arch resnet18 where it was --arch resnet18_normalize" --resume "$state" --arch resnet18
bad 2 "--dataset cub200 where it was --dataset emoji40" --resume "$state" --dataset cub200
bad 2 "--loss_margin_beta 0.6 where it was --loss_margin_beta 1.2" --resume "$state" \
    --loss_margin_beta 0.6
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
bad 1 "step [0-9]* (epoch 1)" --lr 1e38
echo "all passed"
