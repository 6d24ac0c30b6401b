#!/usr/bin/env bash
# Kills runs with SIGKILL at random moments, goes on with them by --resume, kills some of them again
# while they go on, and compares all that they leave behind with what an uninterrupted run leaves:
# weights, logs, database, TensorBoard, W&B, plots, pictures. Times aside, nothing may differ.
#
#     kills.sh DML SOURCE RUN_TEXT
#
# DML_KILLS: how many runs (12). DML_KILLS_SEED: which moments.
set -euo pipefail
dml=$1 source=$2 run_text=$3
kills=${DML_KILLS:-12}
RANDOM=${DML_KILLS_SEED:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

mkdir -p "$work/data/emoji20/images"
cp -r "$source/data/emoji200/images"/0[01]?.* "$work/data/emoji20/images/"
# one image that cannot be decoded to its end, which is counted and told once
victim=$(find "$work/data/emoji20/images/001."* -name '*.jpg' | sort | head -1)
printf '\377\320\377\320\377\320' |
    dd of="$victim" bs=1 seek=$(($(stat -c %s "$victim") * 3 / 4)) conv=notrunc status=none

base=(--dataset emoji20 --source_path "$work/data" --not_pretrained
    --image_size 32 --embed_dim 16 --bs 16 --lr 0.001 --n_epochs 3 --savename run --kernels 2
    --evaluation_metrics e_recall@1 mAP@R dists@intra rho_spectrum@1 rho_spectrum@0)
kinds=(every_step sampler proxies boards plots)
# every kind of state is in one of them: moments, averages, memories, the classes drawn, the views
flags_every_step=(--arch vitt16_normalize --state_minutes 0 --no_plots --loss contrastive
    --ema 0.9 --xbm_size 64 --clip_norm 1
    --transforms 'random_resized_crop flip rand_augment random_erasing')
flags_sampler=(--arch resnet18_normalize --state_minutes 0.01 --no_plots --data_sampler
    greedy_coreset --data_batchmatch_bigbs 48 --data_mb_mom 0.9 --no_train_metrics --storage_metrics mAP@R)
flags_proxies=(--arch resnet18_normalize --state_minutes 0.02 --no_plots --loss proxynca+arcface
    --loss_arcface_class_share 0.5 --optim sgd --eval_every 2
    --use_tv_split --tv_split_perc 0.5 --storage_metrics e_recall@1 mAP@R --cache_images memory)
flags_boards=(--arch resnet18_normalize --state_minutes 0.005 --no_plots --tensorboard --log_online
    --loss multisimilarity --group boards)
# its first state alone
flags_plots=(--arch resnet18_normalize --batch_mining rho_distance --loss triplet --eval_every 1)

# start FOLDER FLAGS... begins a run there in the background
start() {
    local place=$1
    shift
    cd "$place"
    PATH=$path "$dml" train "$@" >>log 2>&1 </dev/null &
    pid=$!
    cd "$work"
}
# W&B's program would send the run, which is not what is tested here
mkdir "$work/bin"
command -v gnuplot >/dev/null && ln -s "$(command -v gnuplot)" "$work/bin/gnuplot"
path=$work/bin:/usr/bin:/bin

folder=runs/emoji20/run
declare -A seconds
for kind in "${kinds[@]}"; do
    declare -n flags="flags_$kind"
    mkdir "$work/$kind"
    began=$(date +%s%N)
    start "$work/$kind" "${base[@]}" "${flags[@]}" --save_path runs
    wait "$pid" || { cat "$work/$kind/log"; fail "$kind: the uninterrupted run"; }
    seconds[$kind]=$((($(date +%s%N) - began) / 1000000))
    "$run_text" "$work/$kind/runs" >"$work/$kind.text"
done

# kill_at MILLISECONDS waits that long and kills the run, if it is still there
kill_at() {
    sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}
again=0 anew=0 survived=0
for ((i = 0; i < kills; i++)); do
    kind=${kinds[i % ${#kinds[@]}]}
    declare -n flags="flags_$kind"
    place=$work/killed
    rm -rf "$place"
    mkdir "$place"
    moment=$(((RANDOM * 32768 + RANDOM) % (seconds[$kind] + 1)))
    told="kill $i: $kind at $moment ms"
    start "$place" "${base[@]}" "${flags[@]}" --save_path runs
    kill_at "$moment"
    if ((RANDOM % 2)) && [ -d "$place/$folder" ]; then
        moment=$(((RANDOM * 32768 + RANDOM) % (seconds[$kind] + 1)))
        told="$told, again at $moment ms"
        start "$place" --resume "$folder"
        kill_at "$moment"
        again=$((again + 1))
    fi
    if [ -d "$place/$folder" ]; then
        start "$place" --resume "$folder"
    else # killed while it read the data: there is nothing yet
        start "$place" "${base[@]}" "${flags[@]}" --save_path runs
    fi
    wait "$pid" || { cat "$place/log"; fail "$told: going on"; }
    ! grep -q "starts over" "$place/log" || anew=$((anew + 1))
    # what is over stays as it is, to the last byte
    (cd "$place/runs" && find . -type f -not -name 'runs.sqlite-*' -exec cksum {} + | sort) \
        >"$work/before"
    start "$place" --resume "$folder"
    wait "$pid" || { cat "$place/log"; fail "$told: resuming what is over"; }
    (cd "$place/runs" && find . -type f -not -name 'runs.sqlite-*' -exec cksum {} + | sort) \
        >"$work/after"
    diff "$work/before" "$work/after" || fail "$told: resuming a finished run changed it"
    "$run_text" "$place/runs" >"$work/text"
    if diff "$work/$kind.text" "$work/text" >"$work/diff"; then
        survived=$((survived + 1))
        echo "$told: as it would have been"
    else
        head -40 "$work/diff"
        cat "$place/log"
        echo "FAILED: $told: the run is not what it would have been" >&2
    fi
done
echo "$kills runs of ${#kinds[@]} kinds killed, $again of them twice ($anew began anew): $survived survived"
[ "$survived" = "$kills" ]
