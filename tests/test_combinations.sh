#!/usr/bin/env bash
# Trains two epochs with every criterion and every batch miner that it allows, and with every batch
# sampler, and checks that the loss falls. `quick` takes each method once; `all` every combination.
#   tests/test_combinations.sh build/dml . all
set -euo pipefail
dml=$1 source=$2 which=${3:-quick}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/emoji40/images"
cp -r "$source/data/emoji200/images"/0[0-3]?.* "$work/emoji40/images/"
count=0 failed=0

# run FLAGS...: the mean loss of the second epoch lies below that of the first.
run() {
    local log="$work/log" losses
    count=$((count + 1))
    if ! "$dml" train --dataset emoji40 --source_path "$work" --arch resnet18_normalize \
        --not_pretrained --image_size 32 --crop_area_min 0.5 --embed_dim 32 --bs 16 --lr 0.0001 \
        --samples_per_class 4 --kernels 1 --n_epochs 2 --eval_every 2 --no_train_metrics \
        --evaluation_metrics e_recall@1 --no_plots --state_minutes 1000 --savename "run$count" \
        --save_path "$work/runs" "$@" >"$log" 2>&1; then
        echo "FAILED: $*: $(tail -1 "$log")"
        failed=$((failed + 1))
        return
    fi
    losses=$(tail -n +2 "$work/runs/emoji40/run$count/CSV_Logs/Data_Train_loss.csv" | tr '\n' ' ')
    rm -r "$work/runs/emoji40/run$count"
    if awk -v l="$losses" 'BEGIN { split(l, v, " "); exit !(v[2] < v[1]) }'; then
        echo "ok: $* ($losses)"
    else
        echo "FAILED: $*: the loss does not fall: $losses"
        failed=$((failed + 1))
    fi
}

# Each criterion with the miners that `dml list` gives it.
while read -r criterion miners; do
    for miner in $miners; do
        run --loss "$criterion" --batch_mining "$miner"
        [ "$which" = all ] || break
    done
done < <("$dml" list | awk '
    /^Batch miners/ { if (name) print name, "distance"; exit }
    /^  [a-z]/ { if (name) print name, (miners ? miners : "distance"); name = $1; miners = "" }
    / miners:/ { sub(/.*miners: /, ""); miners = $0 }')
if [ "$which" != all ]; then
    for miner in semihard softhard distance rho_distance parametric random_distance intra_random; do
        run --loss margin --batch_mining $miner
    done
fi
for sampler in $("$dml" list | awk '/^Batch samplers/ { on = 1; next } /^Metrics/ { exit }
    on && /^  [a-z]/ { print $1 }'); do
    run --loss margin --data_sampler "$sampler" --data_batchmatch_bigbs 128
done
echo "$count runs, $failed failed"
[ $failed = 0 ]
