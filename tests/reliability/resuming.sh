#!/usr/bin/env bash
# What --resume says and does where more than time has passed: a run killed before its first state,
# from another folder, moved, copied, with another program at work in it, after SIGHUP, with other
# data, of another format.
set -euo pipefail
dml=$1 source=$2
work=$(cd "$(mktemp -d)" && pwd -P)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

mkdir -p "$work/data/emoji16/images"
cp -r "$source/data/emoji200/images"/00?.* "$source/data/emoji200/images"/01[0-5].* \
    "$work/data/emoji16/images/"
base=(--dataset emoji16 --source_path "$work/data" --arch resnet18_normalize --not_pretrained
    --image_size 32 --embed_dim 16 --bs 16 --lr 0.001 --no_plots --no_train_metrics
    --evaluation_metrics e_recall@1)
# in FOLDER ARGUMENTS... runs dml there; its status in $status, what it says in $work/log
in_folder() {
    local place=$1
    shift
    status=0
    (cd "$place" && "$dml" "$@") >"$work/log" 2>&1 || status=$?
}
good() { [ "$status" = 0 ] || { cat "$work/log"; fail "$1"; }; }
bad() { # bad PATTERN: exit status 1, and the last line says so
    [ "$status" = 1 ] || { cat "$work/log"; fail "status $status where '$1' was due"; }
    tail -1 "$work/log" | grep -q -- "$1" || { cat "$work/log"; fail "no '$1'"; }
}
says() { grep -q -- "$1" "$work/log" || { cat "$work/log"; fail "no '$1'"; }; }
run=runs/emoji16/one
rows_of() { "$dml" report --save_path "$1" --format csv --all_runs 2>/dev/null | tail -n +2; }

echo "a run goes on from any folder, in its own row of its own database"
mkdir "$work/home" "$work/away"
in_folder "$work/home" train "${base[@]}" --save_path runs --savename one --n_epochs 1
good "a run"
in_folder "$work/away" train --resume "../home/$run" --n_epochs 2
good "from another folder"
[ ! -e "$work/away/runs" ] || fail "a second database"
rows_of "$work/home/runs" >"$work/rows"
[ "$(wc -l <"$work/rows")" = 1 ] && grep -q ',1,' "$work/rows" || { cat "$work/rows"; fail "rows"; }
in_folder "$work/home" train --resume "$run" --save_path runs --n_epochs 3
good "with the save path"
[ "$(rows_of "$work/home/runs" | wc -l)" = 1 ] || fail "a second row"

echo "moved: the run; the whole tree"
mv "$work/home/$run" "$work/home/runs/emoji16/renamed"
in_folder "$work" train --resume home/runs/emoji16/renamed --n_epochs 4
good "a moved run"
[ "$(rows_of "$work/home/runs" | wc -l)" = 1 ] || fail "a moved run has two rows"
mv "$work/home/runs/emoji16/renamed" "$work/away/elsewhere"
in_folder "$work" train --resume away/elsewhere --n_epochs 5
good "a run outside of its save path"
[ "$(rows_of "$work/home/runs" | wc -l)" = 1 ] || fail "a run outside of its save path has two rows"
mv "$work/away/elsewhere" "$work/home/$run"
mv "$work/home/runs" "$work/results"
in_folder "$work" train --resume "results/emoji16/one" --n_epochs 6
good "a moved tree"
[ "$(rows_of "$work/results" | wc -l)" = 1 ] || fail "a moved tree has two rows"
[ ! -e "$work/home/runs" ] || fail "the old place came back"

echo "copied: a run of its own, which is told"
cp -r "$work/results/emoji16/one" "$work/results/emoji16/copy"
in_folder "$work" train --resume results/emoji16/copy --n_epochs 7
good "a copied run"
says "copy: is a copy of .*/results/emoji16/one; it continues as a run of its own"
cmp -s "$work/results/emoji16/one/run.json" "$work/results/emoji16/copy/run.json" &&
    fail "two runs of one identity"
cp "$work/results/emoji16/one/state.safetensors" "$work/results/emoji16/copy/state.safetensors"
in_folder "$work" train --resume results/emoji16/copy --n_epochs 8
good "a copy may go back to the state that it began with"
in_folder "$work" train "${base[@]}" --save_path results --savename two --n_epochs 0
good "another run"
cp "$work/results/emoji16/two/state.safetensors" "$work/results/emoji16/one/foreign.safetensors"
in_folder "$work" train --resume results/emoji16/one/foreign.safetensors --n_epochs 9
bad "is the state of a different run"

echo "two programs in one folder"
(cd "$work" && exec "$dml" train --resume results/emoji16/one --n_epochs 1000) >"$work/first" 2>&1 &
first=$!
for _ in $(seq 600); do
    grep -q "^results" "$work/first" && break
    sleep 0.1
done
in_folder "$work" train --resume results/emoji16/one
bad "held by process $first on $(hostname), which is at work here"
kill -KILL $first
wait $first 2>/dev/null || true
"$dml" sweep /dev/null >/dev/null 2>&1 || true
"$dml" report --save_path "$work/results" >/dev/null 2>&1 || true
grep -aq "it ended without a word" "$work/results/runs.sqlite"* || fail "a dead run stays running"
(cd "$work" && exec "$dml" train --resume results/emoji16/one --n_epochs 1000) >"$work/first" 2>&1 &
second=$!
for _ in $(seq 600); do
    grep -q "^results" "$work/first" && break
    sleep 0.1
done
grep -q "process $first on .* is gone; its lock is taken over" "$work/first" || fail "a stale lock"

echo "SIGHUP ends a run as SIGTERM does"
kill -HUP $second
status=0
wait $second || status=$?
[ "$status" = 1 ] || fail "status $status after SIGHUP"
grep -q "interrupted after step" "$work/first" || { cat "$work/first"; fail "SIGHUP"; }
[ ! -e "$work/results/emoji16/one/run.lock" ] || fail "a lock stays behind"

echo "killed before its first state: it starts over; without parameters it cannot"
rm "$work/results/emoji16/two/state.safetensors"
in_folder "$work" train --resume results/emoji16/two
good "before the first state"
says "two: was left before its first state; the run starts over with its parameters"
in_folder "$work" train "${base[@]}" --save_path early --savename early --n_epochs 0
good "a run that the database is to forget"
rm "$work/early/emoji16/early/state.safetensors" "$work/early/runs.sqlite"*
in_folder "$work" train --resume early/emoji16/early
good "before the database knew the run"
grep -aq "dml train --dataset emoji16 .*--savename early" "$work/early/runs.sqlite"* ||
    fail "the command that the run began with is lost"
mkdir "$work/empty"
in_folder "$work" train --resume empty
bad "empty: holds neither state.safetensors nor parameters.json"

echo "other data are told and refused; an option goes on"
images=$work/data/emoji16/images
class=$(basename "$(find "$images" -mindepth 1 -maxdepth 1 | sort | head -1)")
mv "$images/$class" "$images/999.moved"
in_folder "$work" train --resume results/emoji16/two --n_epochs 1
bad "training class '$class' is gone .*--changed_data continues anyway"
mv "$images/999.moved" "$images/$class"
image=$(find "$images/$class" -name '*.jpg' | sort | head -1)
printf ' ' >>"$image"
in_folder "$work" train --resume results/emoji16/two --n_epochs 1
bad "'$class' has images with other names or sizes"
in_folder "$work" train --resume results/emoji16/two --n_epochs 2 --changed_data
good "--changed_data"
says "'$class' has images with other names or sizes"
in_folder "$work" train --resume results/emoji16/two --n_epochs 3
good "the changed data are the run's now"
grep -q '"changed_data":[[:space:]]*false' "$work/results/emoji16/two/parameters.json" ||
    fail "--changed_data stays"

echo "links in a folder from elsewhere lead a run nowhere"
cp -r "$work/results/emoji16/two" "$work/results/emoji16/linked"
echo "precious" >"$work/precious"
mkdir "$work/logs"
cp "$work/precious" "$work/logs/Data_Train_loss.csv"
for link in run.lock wandb_sync.log CSV_Logs Progression_Plots CSV_Logs/Data_x.csv \
    Progression_Plots/gnuplot.log Progression_Plots/Graph_Train_loss.svg; do
    mkdir -p "$work/results/emoji16/linked/Progression_Plots"
    target=$work/precious place=$work/results/emoji16/linked/$link
    case $link in
    CSV_Logs | Progression_Plots) target=$work/logs ;;
    esac
    [ ! -e "$place" ] || mv "$place" "$work/aside"
    ln -s "$target" "$place"
    in_folder "$work" train --resume results/emoji16/linked --n_epochs 9
    bad "/$link: is a link"
    rm "$place"
    [ ! -e "$work/aside" ] || mv "$work/aside" "$place"
done
mkfifo "$work/results/emoji16/linked/CSV_Logs/Data_x.csv"
in_folder "$work" train --resume results/emoji16/linked --n_epochs 9
bad "Data_x.csv: is not a file"
rm -r "$work/results/emoji16/linked"
ln -s "$work/results/emoji16/two" "$work/results/emoji16/.new-x"
touch -d "2 hours ago" "$work/results/emoji16/two"
in_folder "$work" train "${base[@]}" --save_path results --savename three --n_epochs 0
good "a link that is called like a new run's folder"
[ -e "$work/results/emoji16/two/run.json" ] || fail "a link led to another run's files"
[ "$(cat "$work/precious" "$work/logs/Data_Train_loss.csv")" = "precious
precious" ] || fail "a link led to a file outside"

echo "a state of another format is refused"
sed 's/"dml_state_format":"2"/"dml_state_format":"9"/' "$work/results/emoji16/two/state.safetensors" \
    >"$work/results/emoji16/two/new.safetensors"
in_folder "$work" train --resume results/emoji16/two/new.safetensors
bad "new.safetensors: is a state of format 9, from a newer version"
sed 's/"dml_state_format"/"not_state_format"/' "$work/results/emoji16/two/state.safetensors" \
    >"$work/results/emoji16/two/old.safetensors"
in_folder "$work" train --resume results/emoji16/two/old.safetensors
bad "old.safetensors: is a state of format 1, from an older version"
sed 's/\\"epoch\\": \([0-9]\), /\\"epoch\\":\1.5,/; s/"dml_checksum"/"not_checksum"/' "$work/results/emoji16/two/state.safetensors" \
    >"$work/results/emoji16/two/half.safetensors"
in_folder "$work" train --resume results/emoji16/two/half.safetensors
bad "half.safetensors: has no dml_position"

echo "a damaged state is refused, a damaged checkpoint told"
two=$work/results/emoji16/two
# flip FILE FRACTION: a file beside it with one bit changed
flip() {
    local size at byte
    size=$(stat -c %s "$1")
    at=$((size * $2 / 100))
    cp "$1" "$two/flipped.safetensors"
    byte=$(od -An -tu1 -j "$at" -N 1 "$1")
    printf "\\$(printf %o $((byte ^ 1)))" |
        dd of="$two/flipped.safetensors" bs=1 seek="$at" conv=notrunc 2>/dev/null
}
for at in 20 60 99; do
    flip "$two/state.safetensors" $at
    in_folder "$work" train --resume results/emoji16/two/flipped.safetensors
    bad "flipped.safetensors: is damaged: what it holds is not what was saved"
done
checkpoint=$(find "$two" -name 'checkpoint_*.safetensors' | head -1)
flip "$checkpoint" 50
for file in "$checkpoint" "$two/flipped.safetensors"; do
    in_folder "$work" eval --checkpoint "$file" --metrics e_recall@1
    good "eval of $file"
done
says "flipped.safetensors: is not as it was saved: damaged, or changed by another program"
echo "all passed"
