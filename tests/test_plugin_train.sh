# The example plugins from source to a trained network: their Makefile, their methods by name, flags
# and options, and what the program says when something about them is wrong.
set -euo pipefail
program=$1
source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp "$source"/examples/plugin/{mine.c,tiny.c,Makefile} "$work"
make -s -C "$work" DML_CFLAGS="-I$source/include" mine.so
mkdir -p "$work/few/images"
for folder in "$source"/data/emoji200/images/00[1-4].*; do
    mkdir "$work/few/images/$(basename "$folder")"
    for image in $(find "$folder" -type f | sort | head -4); do
        cp "$image" "$work/few/images/$(basename "$folder")"
    done
done

train=(train --dataset few --source_path "$work" --arch resnet18_normalize --not_pretrained
    --image_size 32 --bs 8 --n_epochs 1 --kernels 1 --save_path "$work/results"
    --evaluation_metrics e_recall@1)

cd "$work" # a name without a slash is a file here
"$program" "${train[@]}" --plugin mine.so --loss mine --batch_mining mine --loss_mine_scale 8 \
    --miner_mine_nearest 2 >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
grep -q 'criterion: mine; batch miner: mine' "$work/log"
grep -q '"loss_mine_scale":[[:space:]]*8' "$(find "$work/results" -name parameters.json)"

run=$(dirname "$(find "$work/results" -name parameters.json)")

# $1: what the message must hold; the rest: flags. One line, and a status other than 0.
refused() {
    local part=$1
    shift
    if "$program" "${train[@]}" "$@" >"$work/log" 2>&1; then
        echo "accepted: $*"
        exit 1
    fi
    if ! grep -qF -- "$part" "$work/log" || [ "$(wc -l <"$work/log")" != 1 ]; then
        echo "instead of one line with '$part':"
        cat "$work/log"
        exit 1
    fi
}
refused 'absent.so: there is no such file' --plugin absent.so --loss mine
refused 'mine.c: is not a plugin' --plugin mine.c --loss mine
refused '--loss_mine_scale: 0 is out of bounds' --plugin mine.so --loss mine --batch_mining mine \
    --loss_mine_scale 0
refused 'did you mean --loss_mine_scale' --plugin mine.so --loss mine --loss_mine_scales 2
refused 'use one of: random,' --plugin mine.so --loss mine --batch_mining lifted
cp mine.so other.so
refused "there is already a criterion called 'mine'" --plugin mine.so other.so --loss mine
refused "no criterion 'mine'" --loss mine
refused 'that run had --plugin mine.so' --params "$run/parameters.json"
refused 'that run had --plugin mine.so' --resume "$run"

# A backbone of one's own: trained for an epoch, gone on with, and embedding from its checkpoint.
make -s DML_CFLAGS="-I$source/include" tiny.so
tiny=(train --plugin tiny.so --dataset few --source_path "$work" --not_pretrained --image_size 32
    --bs 8 --kernels 1 --save_path "$work/results" --evaluation_metrics e_recall@1
    --arch tiny_width8_widestem_normalize --embed_dim 24)
try() {
    "$@" >"$work/log" 2>&1 || { echo "failed: $*"; cat "$work/log"; exit 1; }
}
try "$program" "${tiny[@]}" --savename whole --n_epochs 2
try "$program" "${tiny[@]}" --savename parts --n_epochs 1
try "$program" train --plugin tiny.so --resume "$work/results/few/parts" --n_epochs 2
for name in whole parts; do
    try "$program" embed --plugin tiny.so --images "$work/few/images" --out "$work/$name" \
        --checkpoint "$work/results/few/$name/checkpoint_Test_discriminative_e_recall@1.safetensors"
done
cmp "$work"/results/few/{whole,parts}/CSV_Logs/Data_Train_loss.csv
cmp "$work/whole_embeddings.npy" "$work/parts_embeddings.npy"
refused "tiny has no option '_frozen' (_normalize," --plugin tiny.so --arch tiny_frozen
refused "no option '_width7'" --plugin tiny.so --arch tiny_width7
refused 'images must have at least 16 pixels' --plugin tiny.so --arch tiny --image_size 8
refused "there is no backbone 'tiny'" --arch tiny
