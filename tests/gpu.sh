#!/usr/bin/env bash
# All that needs a card: tests/gpu.sh BUILD [SECONDS]. What matters most comes first: tests of networks
# and of class weights on the card itself instead of the one in plain C, a run that is resumed to the
# same bits, ranks counted there, what `make bench NAME=gpu` measures, PyTorch beside it where python3
# has it; then the golden architectures and trajectories, and compute-sanitizer over two of the tests.
# It takes SECONDS at most (600) and ends with a table. The table is also in BUILD/gpu.txt, as far as
# it goes, whenever the script is ended. A part that fails or takes too long does not end the rest.
set -u
[ -x "${1:-build}/dml" ] || { echo "usage: tests/gpu.sh BUILD [SECONDS]: no dml in '${1:-build}'" >&2; exit 2; }
build=$(cd "${1:-build}" && pwd)
seconds=${2:-600}
source=$(cd "$(dirname "$0")/.." && pwd)
dml=$build/dml
export DML_TEST_CARD=1 DML_BACKENDS=$build
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rows=() failed=0 child=
touch "$work/figures" "$work/pytorch"

# What was measured: images a second, beside what the card could do and beside PyTorch.
figures() {
    local case value bound peer
    printf '%-48s %10s %10s %6s %10s %6s\n' "images a second" measured "at most" ratio PyTorch ratio
    while read -r case value bound; do
        peer=$(sed -n "s/.*\"case\": \"$case\", \"value\": \([0-9.e+]*\).*/\1/p" "$work/pytorch" | tail -1)
        awk -v c="$case" -v v="$value" -v b="$bound" -v p="$peer" 'BEGIN {
            printf "%-48s %10.0f %10.0f %6.2f", c, v, b, b ? v / b : 0
            if (p) printf " %10.0f %6.2f", p, v / p
            print ""
        }'
    done < <(sed -n 's/.*"case": "\([^"]*\)", "value": \([^,]*\), "unit": "images.s", "bound": \([^,]*\),.*/\1 \2 \3/p' \
        "$work/figures")
    grep '"case"' "$work/figures" | grep -v 'images/s'
}

table() {
    cat "$work/devices"
    printf '%s\n' "${rows[@]}"
    [ ! -s "$work/figures" ] || figures
}

ended() { # by Ctrl-C or a time limit
    [ -z "$child" ] || kill "$child"
    rows+=("the script was ended here")
    table >"$build/gpu.txt"
    exit 130
}
trap ended INT TERM

step() { # NAME SECONDS COMMAND...: runs it, and notes the result and the seconds it took
    local name=$1 most=$2 start=$SECONDS result=ok status=0 left=$((seconds - SECONDS))
    local log=${LOG:-$work/log}
    shift 2
    : >"$log"
    if [ $left -le 0 ]; then
        result="left out"
    else
        # The command may be a function of this file.
        timeout -k 5 $((left < most ? left : most)) bash -c '"$@"' step "$@" >"$log" 2>&1 &
        child=$!
        wait $child || status=$?
        child=
        case $status in
        0) ;;
        124 | 137) result="cut off" ;;
        *) result=FAILED ;;
        esac
    fi
    case $result in
    FAILED | "cut off") failed=1 ;;
    esac
    [ "$result" = ok ] || tail -20 "$log"
    rows+=("$(printf '%-32s %-8s %4d s' "$name" "$result" $((SECONDS - start)))")
    echo "${rows[-1]}"
    table >"$build/gpu.txt"
}

of_networks() { # NAME SECONDS: a test of networks or criteria
    step "$1" "$2" "$build/test_cuda_$1"
}

train() { # FOLDER FLAGS...
    "$dml" train --gpu 0 --not_pretrained --arch resnet18_frozen_normalize --bs 32 --seed 1 \
        --dataset emoji200 --source_path "$source/data/emoji200" --save_path "$work/$1" \
        --savename run "${@:2}"
}

# The tensors of a run's state, without the header, which holds the flags.
state() { # FOLDER
    local file=$work/$1/emoji200/run/state.safetensors
    tail -c +$((9 + $(od -An -tu8 -N8 "$file"))) "$file"
}

# A run in one go, and one that is resumed after its first epoch. Timing might choose other plans in
# another process.
same_weights() {
    export DML_CUDA_PLANS=first
    train whole --n_epochs 2 && train parts --n_epochs 1 &&
        "$dml" train --gpu 0 --n_epochs 2 --resume "$work/parts/emoji200/run" &&
        cmp <(state whole) <(state parts)
}

# The same values by ranks counted on the card and on the processor.
same_ranks() {
    local checkpoints=("$work"/whole/emoji200/run/checkpoint*.safetensors)
    local files=(--embeddings "$work/set_embeddings.npy" --labels "$work/set_labels.npy" --json)
    "$dml" embed --checkpoint "${checkpoints[0]}" --source_path "$source/data/emoji200" \
        --part training --out "$work/set" && "$dml" eval "${files[@]}" >"$work/a" &&
        "$dml" eval "${files[@]}" --evaluate_on_gpu >"$work/b" 2>"$work/said" || return 1
    cat "$work/said"
    [ ! -s "$work/said" ] && cmp "$work/a" "$work/b"
}

export build source work dml
export -f train state same_weights same_ranks

"$dml" devices | tee "$work/devices"
if grep -q '^GPU: none' "$work/devices"; then
    echo "no card can be used: nothing was tested" | tee "$build/gpu.txt"
    exit 77
fi
of_networks backend 60
of_networks golden_criteria 60
of_networks bf16 60
step "resumed to the same bits" 90 same_weights
step "ranks as the processor's" 60 same_ranks
for precision in fp32 tf32 bf16; do
    step "one epoch, resnet18, $precision" 60 train "$precision" --n_epochs 1 --precision "$precision"
done
if [ -x "$build/bench_gpu" ]; then
    LOG=$work/figures step "images a second" 180 "$build/bench_gpu"
fi
if timeout 60 python3 -c 'import torch, torchvision; assert torch.cuda.is_available()' 2>/dev/null; then
    LOG=$work/pytorch step "PyTorch" 180 python3 "$source/bench/peers/gpu.py" --seconds 150
fi
for name in golden_architectures golden_vit golden_trajectory golden_trajectory2 grouped \
    transformer_operations backbones golden_architectures2; do
    of_networks $name 120
done
if command -v compute-sanitizer >/dev/null; then
    for name in grouped golden_criteria; do
        step "memcheck, $name" 120 compute-sanitizer --error-exitcode 9 "$build/test_cuda_$name"
    done
    step "racecheck, golden_criteria" 120 compute-sanitizer --tool racecheck --error-exitcode 9 \
        "$build/test_cuda_golden_criteria"
fi
echo
table | tee "$build/gpu.txt"
exit $failed
