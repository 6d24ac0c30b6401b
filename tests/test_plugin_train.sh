# The example plugin from source to a trained network: its Makefile, its methods by name, its flags,
# and what the program says when something about it is wrong.
set -euo pipefail
program=$1
source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cp "$source/examples/plugin/mine.c" "$source/examples/plugin/Makefile" "$work"
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
