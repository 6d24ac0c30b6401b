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
cmake --build "$work/build" -j 2 >"$work/build.log" 2>&1 ||
    { tail -30 "$work/build.log"; exit 1; }

mkdir -p "$work"/seeds/{torch,safetensors,npy,lists,params,sweep,image,mat,report,resume}
golden=$source_folder/tests/golden
cp "$golden"/weights/*.pth "$work/seeds/torch/"
cp "$golden"/weights/*.npy "$golden"/criteria/triplet__small/*.npy "$work/seeds/npy/"
header='{"__metadata__":{"arch":"resnet18"},"a.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},'
header+='"b":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]},"n":{"dtype":"I64","shape":[],"data_offsets":[14,22]}}'
printf '%s\n%s' "$header" "0123456789abcdefghijkl" >"$work/seeds/safetensors/lines"
printf '\x02\0\0\0\0\0\0\0{}' >"$work/seeds/safetensors/empty"
printf 'path,label,split,is_query\r\n"a, ""b"".jpg",x,train,1.0\r\n\r\nc.jpg,y,test,\r\n' >"$work/seeds/lists/csv"
printf '\xef\xbb\xbfimage_id class_id super path\n1 1 1 bicycle_final/111 085.jpg\n# note\n2 2 1 b.jpg\n' \
    >"$work/seeds/lists/list"
printf '%s' '{"flag":true,"number":7,"share":0.25,"text":"caf\u00e9","choice":"first","numbers":[1,2],' \
    '"shares":[0.5],"texts":["a","b"]}' >"$work/seeds/params/all"
grep -v '^ *$' "$source_folder/experiments/study.txt" | sed -n 1,5p >"$work/seeds/sweep/study"
printf 'all --bs 8 \\\r\n --lr 1\r\n--loss {1:a,b} --group {1:A,B}_$HOME "x y" --seed {0..2}\n"""Title\n' \
    >"$work/seeds/sweep/lists"
printf '%s\0loss\n0.5\n0.25\n' '{"csv":{"Data_Train_loss.csv":9},"summary.json":{"epochs":1,"seconds":2.5,"best_loss":0.5,'\
'"best_loss_epoch":0,"bests":[{"part":"Test","metric":"e_recall@1","last":0.5,"best":0.5,"epoch":0}]},'\
'"TensorBoard":{"file":"events.out.tfevents.1.h.1.0","bytes":9},"W&B":{"folder":"offline-run-1-be4ddpsv",'\
'"bytes":9,"records":3,"steps":1,"seconds":2,"grad_rms":0.5,"grad_max":1}}' >"$work/seeds/resume/notes"
find "$source_folder/tests/images" -name '*.jpg' -size -8k -o -name '*.png' -size -8k |
    xargs -d '\n' cp -t "$work/seeds/image"
# A database of runs, as only a run makes it.
data=$work/data/few/images
if [ ! -e "$work/seeds/report/runs" ]; then
    mkdir -p "$data"
    cp -r "$source_folder/data/emoji200/images/"00[1-4].* "$data/"
    "$1" train --dataset few --source_path "$work/data" --arch resnet18_normalize --not_pretrained \
        --image_size 32 --embed_dim 8 --bs 4 --n_epochs 1 --no_plots --no_train_metrics \
        --evaluation_metrics e_recall@1 dists@intra \
        --save_path "$work/runs" --group G >"$work/run.log" 2>&1 || { tail -3 "$work/run.log"; exit 1; }
    cp "$work/runs/runs.sqlite" "$work/seeds/report/runs"
    rm -r "$work/runs" "$work/data"
fi

failed=0
for target in torch safetensors npy lists params sweep image mat report resume; do
    largest=16384
    [ $target != report ] || largest=262144
    corpus=$work/corpus/$target
    folders=("$corpus" "$work/seeds/$target")
    [ ! -d "$source_folder/tests/fuzz/regressions/$target" ] ||
        folders+=("$source_folder/tests/fuzz/regressions/$target")
    mkdir -p "$corpus" "$work/found"
    if ! "$work/build/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 \
        -max_len=$largest -artifact_prefix="$work/found/$target-" -print_final_stats=1 -verbosity=0 \
        "${folders[@]}" >"$work/$target.log" 2>&1; then
        tail -40 "$work/$target.log"
        failed=1
    fi
    printf '%s: %s executions\n' "$target" \
        "$(sed -n 's/stat::number_of_executed_units: *//p' "$work/$target.log")"
done
exit $failed
