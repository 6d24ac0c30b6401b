#!/usr/bin/env bash
# All that needs a card: tests/gpu.sh BUILD. Tests of networks and of class weights on the card itself
# instead of the one in plain C, compute-sanitizer over two of them, a run that is resumed to the same
# bits, ranks counted there, what `make bench NAME=gpu` measures, and PyTorch beside it where python3
# has it. It takes 10 minutes at most and ends with a table, which is also in BUILD/gpu.txt.
set -u
build=$(cd "${1:-build}" && pwd)
source=$(cd "$(dirname "$0")/.." && pwd)
dml=$build/dml
export DML_TEST_CARD=1 DML_BACKENDS=$build
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rows=() failed=0

step() { # NAME COMMAND...: runs it, and notes the result and the seconds
    local name=$1 start=$SECONDS result=ok left=$((600 - SECONDS))
    shift
    if [ $left -le 0 ]; then
        rows+=("$(printf '%-32s left out: 10 minutes are over' "$name")")
        return
    fi
    # The command may be a function of this file.
    timeout $((left < 300 ? left : 300)) bash -c '"$@"' step "$@" >"$work/log" 2>&1 || result=FAILED
    [ $result = ok ] || { failed=1; tail -20 "$work/log"; }
    rows+=("$(printf '%-32s %-7s %4d s' "$name" $result $((SECONDS - start)))")
}

train() { # FOLDER FLAGS...
    "$dml" train --gpu 0 --not_pretrained --arch resnet18_frozen_normalize --bs 32 --seed 1 \
        --dataset emoji200 --source_path "$source/data/emoji200" --save_path "$work/$1" \
        --savename run "${@:2}"
}

embed() { # RUN: the embeddings that its network gives the training images
    "$dml" embed --checkpoint "$work/$1"/emoji200/run/checkpoint*e_recall@1*.safetensors \
        --source_path "$source/data/emoji200" --part training --out "$work/$1"
}

# A run in one go, and one that is resumed after its first epoch. Timing might choose other plans in
# another process.
same_weights() {
    export DML_CUDA_PLANS=first
    train whole --n_epochs 2 && train parts --n_epochs 1 &&
        "$dml" train --gpu 0 --n_epochs 2 --resume "$work/parts/emoji200/run" &&
        embed whole && embed parts && cmp "$work/whole_embeddings.npy" "$work/parts_embeddings.npy"
}

same_ranks() { # the same values by ranks counted on the card and on the processor
    local files=(--embeddings "$work/whole_embeddings.npy" --labels "$work/whole_labels.npy" --json)
    "$dml" eval "${files[@]}" >"$work/a" &&
        "$dml" eval "${files[@]}" --evaluate_on_gpu >"$work/b" 2>"$work/said" &&
        [ ! -s "$work/said" ] && cmp "$work/a" "$work/b"
}

# What was measured: images a second, beside what the card could do and beside PyTorch.
figures() {
    local case value bound kind
    printf '%-48s %10s %10s %6s %10s %6s\n' "images a second" measured "at most" ratio PyTorch ratio
    while read -r case value bound; do
        kind=$(sed -n "s/.*\"case\": \"$case\", \"value\": \([0-9.e+]*\).*/\1/p" "$work/pytorch")
        awk -v c="$case" -v v="$value" -v b="$bound" -v p="$kind" 'BEGIN {
            printf "%-48s %10.0f %10.0f %6.2f", c, v, b, v / b
            if (p) printf " %10.0f %6.2f", p, v / p
            print ""
        }'
    done < <(sed -n 's/.*"case": "\([^"]*\)", "value": \([^,]*\), "unit": "images.s", "bound": \([^,]*\),.*/\1 \2 \3/p' \
        "$work/figures")
    grep -v 'images/s' "$work/figures"
}

export build source work dml
export -f train embed same_weights same_ranks

"$dml" devices
if "$dml" devices | grep -q '^GPU: none'; then
    echo "no card can be used: nothing was tested"
    exit 77
fi
for name in backend backbones bf16 grouped transformer_operations golden_criteria \
    golden_architectures golden_architectures2 golden_vit golden_trajectory golden_trajectory2; do
    step "$name" "$build/test_cuda_$name"
done
if command -v compute-sanitizer >/dev/null; then
    for name in grouped golden_criteria; do
        step "memcheck, $name" compute-sanitizer --error-exitcode 9 "$build/test_cuda_$name"
    done
    step "racecheck, golden_criteria" compute-sanitizer --tool racecheck --error-exitcode 9 \
        "$build/test_cuda_golden_criteria"
fi
step "resumed to the same bits" same_weights
step "ranks as the processor's" same_ranks
for precision in fp32 tf32 bf16; do
    step "one epoch, resnet18, $precision" train "$precision" --n_epochs 1 --precision "$precision"
done
touch "$work/figures" "$work/pytorch"
if [ -x "$build/bench_gpu" ]; then
    step "images a second" "$build/bench_gpu"
    cp "$work/log" "$work/figures"
fi
if python3 -c 'import torch, torchvision; assert torch.cuda.is_available()' 2>/dev/null; then
    step "PyTorch" python3 "$source/bench/peers/gpu.py" --seconds 150
    grep '^{' "$work/log" >"$work/pytorch"
fi
{
    "$dml" devices
    printf '%s\n' "${rows[@]}"
    [ ! -s "$work/figures" ] || figures
} | tee "$build/gpu.txt"
exit $failed
