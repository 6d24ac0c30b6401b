# Lists of operations from the command line: the sheet of dml augment, a run with lists, what its
# checkpoint remembers of them, and what is refused.
set -euo pipefail
program=$1
source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/few/images"
for folder in "$source"/data/emoji200/images/00[1-4].*; do
    mkdir "$work/few/images/$(basename "$folder")"
    for image in $(find "$folder" -type f | sort | head -4); do
        cp "$image" "$work/few/images/$(basename "$folder")"
    done
done
image=$(find "$work/few" -type f | sort | head -1)
lists=(--transforms "random_resized_crop(scale=0.2..1, interpolation=bicubic) flip rand_augment
    random_erasing(p=1)" --eval_transforms "squash(interpolation=bicubic)")

cd "$work"
"$program" augment "$image" --image_size 32 --rows 2 --columns 3 --out a.png "${lists[@]}" >log
grep -q 'a.png: the evaluation view and 5 training views' log
"$program" augment "$image" --image_size 32 --rows 2 --columns 3 --out b.png "${lists[@]}" >/dev/null
cmp a.png b.png
"$program" augment "$image" --image_size 32 --rows 2 --columns 3 --out c.png --seed 2 \
    "${lists[@]}" >/dev/null
! cmp -s a.png c.png

train=(train --dataset few --source_path "$work" --arch resnet18_frozen_normalize --not_pretrained
    --image_size 32 --bs 4 --n_epochs 2 --pool gem --embed_dim 8 --evaluation_metrics e_recall@1
    --no_train_metrics --savename run)
# Neither threads nor a cache change what is learnt, and evaluation sees what the lists say.
for setting in "1 none" "3 none" "3 memory" "3 $work/cache"; do
    read -r threads cache <<<"$setting"
    "$program" "${train[@]}" "${lists[@]}" --kernels "$threads" --cache_images "$cache" \
        --save_path "$work/results" >log 2>&1 || { cat log; exit 1; }
    checkpoint=$(find results/few/run -name 'checkpoint*' | sort | head -1)
    "$program" embed --checkpoint "$checkpoint" --images "$image" --out one >log 2>&1 ||
        { cat log; exit 1; }
    [ -e first.npy ] || cp one_embeddings.npy first.npy
    cmp one_embeddings.npy first.npy
    rm -rf last && mv results/few/run last
done
grep -q '"transforms":[[:space:]]*"random_resized_crop(scale=0.2..1' \
    last/parameters.json

# $1: what the message must hold; the rest: flags. One line, and a status other than 0.
refused() {
    local part=$1
    shift
    if "$program" "$@" >log 2>&1; then
        echo "accepted: $*"
        exit 1
    fi
    if ! grep -qF -- "$part" log || [ "$(wc -l <log)" != 1 ]; then
        echo "instead of one line with '$part':"
        cat log
        exit 1
    fi
}
refused "--transforms: operation 2: there is no 'flpi'" "${train[@]}" \
    --transforms "random_resized_crop flpi"
refused "--eval_transforms: operation 1: random_resized_crop: is random" "${train[@]}" \
    --eval_transforms random_resized_crop
refused "--augmentation and --transforms: only one" "${train[@]}" --augmentation adv "${lists[@]}"
refused "an image comes first" augment --image_size 32
refused "none.jpg" augment none.jpg
refused "--transforms: operation 1: squash: --size" augment "$image" --transforms "squash(0.5)"
