#!/usr/bin/env bash
# A short run of every fuzz target on seeds and on all inputs that once failed. For longer ones:
#     SECONDS_EACH=3600 tests/test_fuzz.sh build/dml .
# What a run finds is left in the folder that it names; put a fixed one into tests/fuzz/regressions.
set -eu
source_folder=$(cd "$2" && pwd)
seconds=${SECONDS_EACH:-2}
if ! command -v clang >/dev/null; then
    echo "skipped: clang, which libFuzzer is a part of, is not installed"
    exit 0
fi
work=$(dirname "$1")/fuzz
mkdir -p "$work"
work=$(cd "$work" && pwd)
cmake -S "$source_folder" -B "$work/build" -DCMAKE_C_COMPILER=clang -DDML_FUZZ=ON -DDML_TESTS=OFF \
    -DDML_BENCH=OFF -DCMAKE_BUILD_TYPE=RelWithDebInfo >"$work/configure.log" ||
    { cat "$work/configure.log"; exit 1; }
cmake --build "$work/build" --target fuzz_torch fuzz_safetensors fuzz_npy -j 2 >"$work/build.log" ||
    { cat "$work/build.log"; exit 1; }

mkdir -p "$work"/seeds/{torch,safetensors,npy}
golden=$source_folder/tests/golden
cp "$golden"/weights/*.pth "$work/seeds/torch/"
cp "$golden"/weights/*.npy "$golden"/criteria/triplet__small/*.npy "$work/seeds/npy/"
header='{"__metadata__":{"arch":"resnet18"},"a.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},'
header+='"b":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]},"n":{"dtype":"I64","shape":[],"data_offsets":[14,22]}}'
printf '%s\n%s' "$header" "0123456789abcdefghijkl" >"$work/seeds/safetensors/lines"
printf '\x02\0\0\0\0\0\0\0{}' >"$work/seeds/safetensors/empty"

failed=0
for target in torch safetensors npy; do
    corpus=$work/corpus/$target
    folders=("$corpus" "$work/seeds/$target")
    [ ! -d "$source_folder/tests/fuzz/regressions/$target" ] ||
        folders+=("$source_folder/tests/fuzz/regressions/$target")
    mkdir -p "$corpus" "$work/found"
    if ! "$work/build/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -max_len=16384 -artifact_prefix="$work/found/$target-" -print_final_stats=1 -verbosity=0 \
        "${folders[@]}" >"$work/$target.log" 2>&1; then
        tail -40 "$work/$target.log"
        failed=1
    fi
    printf '%s: %s executions\n' "$target" \
        "$(sed -n 's/stat::number_of_executed_units: *//p' "$work/$target.log")"
done
exit $failed
