#!/usr/bin/env bash
# tests/gpu.sh with programs that only pretend: whatever fails, takes too long or is missing, the rest
# is run, and the table is there.
set -euo pipefail
source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
pretend() { # FILE: what it does comes from stdin
    { echo '#!/usr/bin/env bash'; cat; } >"$work/$1"
    chmod +x "$work/$1"
}
in_table() { grep -Eq -- "$1" "$work/gpu.txt" || { cat "$work/gpu.txt"; fail "the table lacks '$1'"; }; }

# One that has every file that is asked for.
pretend dml <<'END'
case $1 in
devices) echo "GPU 0: pretended" ;;
train)
    folder=$(sed -n 's/.*--save_path \([^ ]*\).*/\1/p' <<<"$*")/emoji200/run
    [[ $* != *--resume* ]] || exit 0
    mkdir -p "$folder"
    printf '\2\0\0\0\0\0\0\0{}tensors' >"$folder/state.safetensors"
    touch "$folder/checkpoint_Test_e_recall@1.safetensors"
    ;;
eval) echo '{}' ;;
esac
END
for name in backend backbones bf16 grouped transformer_operations golden_criteria golden_architectures \
    golden_architectures2 golden_vit golden_trajectory golden_trajectory2; do
    pretend test_cuda_$name <<<'[ "$DML_TEST_CARD" = 1 ]'
done
pretend bench_gpu <<'END'
echo '{"bench": "gpu", "case": "bf16_copies", "value": 3000, "unit": "GB/s"}'
echo '{"bench": "gpu", "case": "net_bf16_step", "value": 5000, "unit": "images/s", "bound": 10000, "ratio": 0.5}'
END
mkdir "$work/bin"
pretend bin/python3 <<'END'
[ "$1" = -c ] || echo '{"bench": "gpu_pytorch", "case": "net_bf16_step", "value": 2500.0, "unit": "images/s"}'
END
pretend bin/compute-sanitizer </dev/null
export PATH=$work/bin:$PATH

"$source/tests/gpu.sh" "$work" >"$work/out" || { cat "$work/out"; fail "where all is well"; }
in_table '^GPU 0: pretended'
in_table '^resumed to the same bits +ok'
in_table '^ranks as the processor.s +ok'
in_table '^racecheck, golden_criteria +ok'
in_table '^net_bf16_step +5000 +10000 +0.50 +2500 +2.00'
in_table 'bf16_copies'
! grep -Eq 'FAILED|cut off|left out' "$work/gpu.txt" || fail "something failed"
cmp <(tail -n "$(wc -l <"$work/gpu.txt")" "$work/out") "$work/gpu.txt" || fail "the table is not at the end"

pretend test_cuda_bf16 <<<'echo "a test failed"; exit 1'
pretend test_cuda_golden_vit <<<'kill -9 $$'
! "$source/tests/gpu.sh" "$work" >"$work/out" || fail "nobody noticed that a test failed"
in_table '^bf16 +FAILED'
in_table '^golden_vit +(FAILED|cut off)'
in_table '^racecheck, golden_criteria +ok'
grep -q '^a test failed' "$work/out" || fail "what a test said is lost"

pretend bench_gpu <<'END'
echo '{"bench": "gpu", "case": "net_bf16_step", "value": 5000, "unit": "images/s", "bound": 10000, "ratio": 0.5}'
sleep 1000
END
! "$source/tests/gpu.sh" "$work" 3 >"$work/out" || fail "nobody noticed the time"
in_table '^images a second +cut off'
in_table '^net_bf16_step +5000 +10000 +0.50$'
in_table '^racecheck, golden_criteria +left out'

rm "$work/gpu.txt" # that of the run before
"$source/tests/gpu.sh" "$work" >"$work/out" & script=$!
until grep -qs '^one epoch, resnet18, bf16' "$work/gpu.txt"; do sleep 0.1; done
kill $script
! wait $script || fail "status 0 although it was ended"
in_table '^the script was ended here'

pretend dml <<<'echo "GPU: none: there is no NVIDIA driver"'
status=0
"$source/tests/gpu.sh" "$work" >"$work/out" || status=$?
[ $status = 77 ] || fail "no card, and status $status"
in_table 'no card can be used: nothing was tested'
