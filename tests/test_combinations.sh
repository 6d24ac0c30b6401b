#!/usr/bin/env bash
# Trains with every criterion, batch miner and batch sampler. With a criterion's usual miner the loss
# must fall from the first epoch to the second. With others the run must end well: what a miner draws
# changes with the embeddings, and some (intra_random, random_distance) give nothing that could be
# learnt. `quick` takes each method once, and one epoch of the latter; `all` every combination, and
# tells whether the loss fell. All begin with the same weights.
#   tests/test_combinations.sh build/dml . all
set -euo pipefail
dml=$1 source=$2 which=${3:-quick}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/emoji24/images"
cp -r "$source/data/emoji200/images"/0[01]?.* "$source/data/emoji200/images"/02[0-4].* \
    "$work/emoji24/images/"
export OMP_NUM_THREADS=1 # so small a network gains little by more
count=0 failed=0

# The weights that all begin with: drawing them takes longer than reading them.
"$dml" train --dataset emoji24 --source_path "$work" --arch resnet18_normalize --not_pretrained \
    --image_size 24 --embed_dim 32 --n_epochs 0 --evaluation_metrics e_recall@1 --no_train_metrics \
    --no_plots --savename start --save_path "$work/runs" >"$work/log" 2>&1 ||
    { cat "$work/log"; exit 1; }
weights=$(find "$work/runs/emoji24/start" -name 'checkpoint_*.safetensors')

# run falls|ends FLAGS...: `falls`: the mean loss of the last epoch lies below that of the first.
run() {
    local log="$work/log" losses wanted=$1 epochs=2
    [ "$wanted$which" != endsquick ] || epochs=1
    shift
    count=$((count + 1))
    if ! "$dml" train --dataset emoji24 --source_path "$work" --arch resnet18_normalize \
        --weights "$weights" --image_size 24 --crop_area_min 0.5 --embed_dim 32 --bs 16 --lr 0.0001 \
        --samples_per_class 4 --kernels 1 --n_epochs $epochs --eval_every 4 --no_train_metrics \
        --evaluation_metrics e_recall@1 --no_plots --state_minutes 1000 --savename "run$count" \
        --save_path "$work/runs" "$@" >"$log" 2>&1; then
        echo "FAILED: $*: $(tail -1 "$log")"
        failed=$((failed + 1))
        return
    fi
    losses=$(tail -n +2 "$work/runs/emoji24/run$count/CSV_Logs/Data_Train_loss.csv" | tr '\n' ' ')
    rm -r "$work/runs/emoji24/run$count"
    if awk -v l="$losses" 'BEGIN { n = split(l, v, " "); exit !(v[n] < v[1]) }'; then
        echo "ok: $* ($losses)"
    elif [ $epochs = 1 ]; then
        echo "ok: $*"
    elif [ "$wanted" = ends ]; then
        echo "ok, but the loss does not fall: $* ($losses)"
    else
        echo "FAILED: $*: the loss does not fall: $losses"
        failed=$((failed + 1))
    fi
}

# Each criterion with the miners that `dml list` gives it; distance is the usual one.
while read -r criterion miners; do
    usual=${miners%% *}
    [[ " $miners " == *" distance "* ]] && usual=distance
    [ "$usual" = none ] && miners=${miners#none} usual=
    case $criterion in
    # two are too few to tell
    fastap | hyp_pce | lifted_original | nca | npair | recallk | smoothap) more="--n_epochs 4" ;;
    sphereface) more="--arch resnet18" ;; # its scale is the embedding's norm
    *) more= ;;
    esac
    run falls --loss "$criterion" ${usual:+--batch_mining "$usual"} $more
    for miner in $miners; do
        [ "$which" = all ] && [ "$miner" != "$usual" ] || continue
        run ends --loss "$criterion" --batch_mining "$miner"
    done
done < <("$dml" list | awk '
    /^Batch miners/ { if (name) print name, miners; exit }
    /^  [a-z]/ { if (name) print name, miners; name = $1; miners = "" }
    / miners:/ { sub(/.*miners: /, ""); miners = $0 }')
if [ "$which" != all ]; then
    for miner in random semihard softhard rho_distance parametric batch_hard batch_easy_hard \
        triplet_margin angular random_distance intra_random; do
        run ends --loss contrastive --batch_mining $miner
    done
    for miner in pair_margin multisimilarity; do
        run ends --loss supcon --batch_mining $miner
    done
fi
for sampler in $("$dml" list | awk '/^Batch samplers/ { on = 1; next } /^Metrics/ { exit }
    on && /^  [a-z]/ && $1 != "class_random" { print $1 }'); do
    run ends --loss margin --data_sampler "$sampler" --data_batchmatch_bigbs 128
done
echo "$count runs, $failed failed"
[ $failed = 0 ]
