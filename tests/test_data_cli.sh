#!/usr/bin/env bash
# Data sets, lists and names as people have them, through the program: what cannot be used is one
# line that names it, status 1, and nothing that is no image is ever shown.
set -euo pipefail
dml=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
# plain FILE...: nothing in them controls a terminal
plain() { ! LC_ALL=C grep -q $'[\001-\010\013-\037\177]' "$@" || { cat -v "$@"; fail "control characters"; }; }
# says STATUS TEXT ARGUMENTS...: one line on stderr that holds TEXT
says() {
    local status=0 wanted=$1 text=$2
    shift 2
    "$dml" "$@" >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = "$wanted" ] || { cat "$work/err"; fail "status $status of dml $*"; }
    plain "$work/out" "$work/err"
    [ -z "$text" ] || grep -qF -- "$text" "$work/err" || { cat "$work/err"; fail "dml $* does not say '$text'"; }
    [ "$wanted" = 0 ] || [ "$(grep -vc '^dml: ' "$work/err")" = 1 ] ||
        { cat "$work/err"; fail "several lines"; }
}
# shows TEXT: the output of the last `says`
shows() { grep -qF -- "$1" "$work/out" || { cat "$work/out"; fail "'$1' is not shown"; }; }

# A name that is not UTF-8, for a data set and the folder that it is in.
set=$(printf 'emoji\xe9') folder=$(printf 'data\xff')
mkdir -p "$work/$folder/$set/images"
cp -r "$source/data/emoji200/images"/0[0-1]?.* "$work/$folder/$set/images/"
flags=(--arch resnet18_normalize --not_pretrained --image_size 32 --embed_dim 16 --bs 16 --no_plots
    --kernels 1 --evaluation_metrics e_recall@1 --save_path "$work/runs")
data=(--dataset "$set" --source_path "$work/$folder")
valid() { iconv -f UTF-8 -t UTF-8 "$1" >"$work/valid" 2>&1 || fail "$1 is not UTF-8"; }

echo "names that are not UTF-8 come back from every file"
"$dml" train "${data[@]}" "${flags[@]}" --n_epochs 1 --savename "$(printf 'r\xfe')" --log_online \
    >"$work/log" 2>&1 || { cat "$work/log"; fail "training"; }
run=$work/runs/$set/$(printf 'r\xfe')
[ -d "$run" ] || fail "the run is not in its folder"
for file in parameters.json summary.json run.json; do
    valid "$run/$file"
done
grep -qF 'emoji\\xe9' "$run/parameters.json" || fail "the name is not escaped"
"$dml" train --resume "$run/state.safetensors" --n_epochs 2 >"$work/log" 2>&1 ||
    { cat "$work/log"; fail "--resume"; }
[ "$(wc -l <"$run/CSV_Logs/Data_Train_loss.csv")" = 3 ] || fail "the run did not go on"
checkpoint=$(find "$run" -name 'checkpoint_*.safetensors' | head -1)
head -c $((8 + $(od -An -tu8 -N8 "$checkpoint"))) "$checkpoint" | tail -c +9 >"$work/header"
valid "$work/header"
if command -v sqlite3 >"$work/valid"; then
    [ "$(sqlite3 "$work/runs/runs.sqlite" 'SELECT count(*) FROM runs')" = 1 ] || fail "rows"
    sqlite3 "$work/runs/runs.sqlite" .dump >"$work/dump"
    valid "$work/dump"
fi
"$dml" report --save_path "$work/runs" >"$work/out" 2>&1 || { cat "$work/out"; fail "report"; }
valid "$work/out"
says 0 "" eval --checkpoint "$checkpoint"
says 0 "" embed --checkpoint "$checkpoint" --out "$work/set"
valid "$work/set_paths.txt"

echo "lists: remarks, blank lines, CRLF, a byte order mark, and any name"
image=$(find "$work/$folder/$set/images/001"* -type f | head -1)
mkdir "$work/pictures"
cd "$work/pictures"
names=("#1.png" $'a\nb.png' $'c\rd.png' $'e\xe9.png' 'f\x41.png' $'g\e]0;x\a.png' "plain.png")
for name in "${names[@]}"; do
    cp "$image" "./$name"
done
printf '\xEF\xBB\xBF# a remark\r\n#1.png\r\n\r\nplain.png\r\n%s\n' $'c\rd.png' >list
says 0 "" embed --checkpoint "$checkpoint" --images list --out "$work/listed"
shows "3 embeddings"
says 0 "" embed --checkpoint "$checkpoint" --images . --out "$work/all"
shows "7 embeddings"
[ "$(wc -l <"$work/all_paths.txt")" = 7 ] || fail "a name has broken a line"
valid "$work/all_paths.txt"
says 0 "" embed --checkpoint "$checkpoint" --images "$work/all_paths.txt" --out "$work/again"
cmp "$work/all_paths.txt" "$work/again_paths.txt" || fail "the list does not give itself"
cmp "$work/all_embeddings.npy" "$work/again_embeddings.npy" || fail "other embeddings"
says 0 "" search --gallery "$work/all_embeddings.npy" --gallery_paths "$work/all_paths.txt" \
    --query "$work/all_embeddings.npy" --html "$work/page.html"
[ "$(grep -o '<img' "$work/page.html" | wc -l)" -ge 7 ] || fail "pictures are missing on the page"

plain "$work/page.html"

echo "names of files control no terminal"
hostile=$'o\e[2J\a\xe9'
says 0 "" embed --checkpoint "$checkpoint" --images . --out "$hostile"
shows 'o\x1b[2J\x07\xe9_embeddings.npy'
says 0 "" augment $'g\e]0;x\a.png' --out "$hostile.png" --rows 1 --columns 1
says 0 "" convert "$checkpoint" "$hostile.safetensors"
says 0 "" dataset check "$work/$folder/$set"
says 0 "" dataset convert "$work/$folder/$set" "$hostile.csv"
says 1 "cannot be opened" convert "$hostile.none" x.pth
status=0
"$dml" "$hostile" 2>"$work/err" || status=$?
[ "$status" = 2 ] || fail "status $status of a command that is none"
plain "$work/err"
says 2 "takes no flags" devices "$hostile"
says 0 "" eval --checkpoint "$checkpoint" --per_query "$work/queries.csv"
valid "$work/queries.csv"
rm "$hostile"*

echo "a page shows pictures alone, whatever links a folder of runs has"
plots=$run/Progression_Plots
mkdir -p "$plots"
echo "the secret" >"$work/secret.txt"
ln -sf "$work/secret.txt" "$plots/Graph_Train_loss.svg"
ln -sf "$work/secret.txt" "$run/sample_recoveries.png"
says 0 "" report --save_path "$work/runs" --html "$work/report.html"
! grep -q "$(base64 <"$work/secret.txt")" "$work/report.html" ||
    fail "the report shows a file that is no image"
cp "$source/tests/images/rgb.png" "$work/rgb.png"
ln -sf "$work/rgb.png" "$run/sample_recoveries.png"
printf '<?xml version="1.0"?>\n<svg xmlns="x"/>' >"$work/drawn.svg"
ln -sf "$work/drawn.svg" "$plots/Graph_Train_loss.svg"
says 0 "" report --save_path "$work/runs" --html "$work/report.html"
grep -q 'class="sheet".*image/png' "$work/report.html" || fail "no picture"
grep -q 'class="plot".*image/svg+xml' "$work/report.html" || fail "no plot"
mkfifo pipe.png "$work/runs/pipe"
says 1 "pipe.png: is not a file" embed --checkpoint "$checkpoint" --images . --out x
rm pipe.png
for words in "convert $work/runs/pipe x.pth" "sweep $work/runs/pipe" "train --params $work/runs/pipe" \
    "eval --embeddings $work/runs/pipe --labels $work/runs/pipe"; do
    # shellcheck disable=SC2086
    says 1 "is not a file" $words
done

echo "a list shows and embeds images alone"
echo "the secret" >secret.txt
cp secret.txt secret.png
echo secret.txt >list
says 1 "not the name of a JPEG or PNG file" embed --checkpoint "$checkpoint" --images list --out x
echo secret.png >list
says 1 "secret.png: is neither a JPEG nor a PNG" embed --checkpoint "$checkpoint" --images list --out x
sed 's/.*plain.png/secret.txt/' "$work/all_paths.txt" >paths
says 0 "" search --gallery "$work/all_embeddings.npy" --gallery_paths paths \
    --query "$work/all_embeddings.npy" --html "$work/page.html"
! grep -q "$(base64 <secret.txt)" "$work/page.html" || fail "the page shows a file that is no image"
says 1 "neither an image nor a list" embed --checkpoint "$checkpoint" --images "$checkpoint" --out x
rm secret.txt secret.png paths list

echo "links that lead back neither multiply images nor hang"
ln -s . loop
ln -s .. up
mkdir deep
ln -s ../.. deep/up
says 0 "" embed --checkpoint "$checkpoint" --images . --out "$work/all"
rm -r loop up deep
[ "$(sort "$work/all_paths.txt" | grep -c '^\./[^/]*$')" = 7 ] || fail "images of a folder itself"
[ "$(sort "$work/all_paths.txt" | grep -c 'loop')" = 0 ] || fail "a loop multiplies images"

echo "more pixels than allowed are told by name before anything is decoded"
mkdir -p "$work/big/images/a" "$work/big/images/b"
cp plain.png "$work/big/images/a/1.png"
cp plain.png "$work/big/images/a/2.png"
cp "$source/tests/cases/progressive_16000.jpg" "$work/big/images/b/claims.jpg"
for command in "train --not_pretrained --save_path $work/none" "embed --checkpoint $checkpoint --out x" \
    "eval --checkpoint $checkpoint"; do
    # shellcheck disable=SC2086
    says 1 "claims.jpg: its header says 16000 x 16000 pixels, more than the 178956970 allowed (--max_image_pixels)" \
        $command --dataset big --source_path "$work"
done 2>"$work/doubts"
says 1 "claims.jpg: is cut short" embed --checkpoint "$checkpoint" --images \
    "$work/big/images/b/claims.jpg" --max_image_pixels 300000000 --out x
says 1 "more than the 100 allowed" embed --checkpoint "$checkpoint" --images plain.png \
    --max_image_pixels 100 --out x
says 1 "more than the 100 allowed" augment plain.png --max_image_pixels 100 --out x.png

echo "dml dataset check and convert"
says 1 "1 images cannot be used" dataset check "$work/big"
shows "claims.jpg: its header"
shows "unreadable  1 images"
rm "$work/big/images/b/claims.jpg"
cp plain.png "$work/big/images/b/same.png"
says 0 "big: training has one class, \"a\", of 2 images" dataset check "$work/big"
shows "layout      folders"
shows "training    1 classes, 2 images; smallest class 2 (a), largest 2 (a)"
shows "same.png is $work/big/images/a/1.png"
shows "duplicates  1 images are in two parts"
says 0 "" dataset check "$work/$folder/$set"
shows "10 classes"
says 0 "" dataset convert "$work/$folder/$set" "$work/$folder/table.csv"
grep -qF "$set/images/001." "$work/$folder/table.csv" || fail "paths are not relative to the table"
cd "$work"
"$dml" dataset check "$work/$folder/table.csv" | tail -n +3 >"$work/table"
"$dml" dataset check "$work/$folder/$set" | tail -n +3 | cmp - "$work/table" ||
    fail "the table is not the data set"
for at in "$set" "table.csv"; do
    place=("${data[@]}")
    [ "$at" = "$set" ] || place=(--dataset_csv "$work/$folder/$at")
    "$dml" train "${place[@]}" "${flags[@]}" --n_epochs 1 --savename same >"$work/log" 2>&1 ||
        { cat "$work/log"; fail "training of $at"; }
done
cmp "$work/runs/$set/same/CSV_Logs/Data_Train_loss.csv" \
    "$work/runs/table/same/CSV_Logs/Data_Train_loss.csv" || fail "the table gives another run"
echo "of its own sequence a query sees nothing of its class"
table_of() { # table_of SEQUENCES: each class twice the same image, in one sequence, or with the first apart
    echo "path,label,split,sequence"
    find "$work/$folder/$set/images" -name '*.jpg' | sort |
        awk -F/ -v mode="$1" '{ label = $(NF - 1); n = ++count[label]; name = $NF }
            { path = $0 } n <= 2 { print path "," label ",train," label }
            n == 3 { first = mode == "apart" ? label "b" : mode == "none" ? "" : label
                     print path "," label ",test," first
                     print path "," label ",test," (mode == "none" ? "" : label) }'
}
for mode in none apart together; do
    table_of $mode >"$work/sequences_$mode.csv"
    "$dml" train --dataset_csv "$work/sequences_$mode.csv" "${flags[@]}" --n_epochs 0 \
        --no_train_metrics --savename $mode >"$work/log" 2>&1 && status=0 || status=$?
    if [ $mode = together ]; then
        [ $status = 1 ] || fail "queries without anything to find are evaluated"
        grep -q "no query has a sample of its class to find" "$work/log" || fail "$(cat "$work/log")"
    else
        [ $status = 0 ] || fail "$mode: $(cat "$work/log")"
        value=$(tail -1 "$work"/runs/*/$mode/CSV_Logs/Data_Test_discriminative_e_recall.csv | cut -d, -f1)
        [ "$value" = 1 ] || fail "$mode: recall is $value"
    fi
done
"$dml" dataset convert "$work/sequences_apart.csv" "$work/again.csv" >/dev/null
[ "$(head -1 "$work/again.csv")" = path,label,split,sequence ] || fail "$(head -1 "$work/again.csv")"
[ "$(grep -c ',test,[0-9]' "$work/again.csv")" = "$(grep -c ,test, "$work/again.csv")" ] || fail "$(cat "$work/again.csv")"
echo "what is there twice is asked about"
mkdir "$work/twins"
# twins NAME NAME: a table with two classes of these names in training, and an image twice in testing
twins() {
    printf 'path,label,split\n'
    find "$work/$folder/$set/images" -name '*.jpg' | sort | sed -n 1,40p |
        awk -F/ -v first="$1" -v second="$2" '{ label = $(NF - 1) } NR <= 4 { label = NR % 2 ? first : second }
            { print $0 "," label "," (NR <= 20 ? "train" : "test") } NR == 40 { print $0 "," label ",test" }'
}
for pair in "Cat,cat" " cat,cat" "caf$(printf '\xc3\xa9'),cafe$(printf '\xcc\x81')" "07,7"; do
    twins "${pair%,*}" "${pair#*,}" >"$work/twins/table.csv"
    says 0 "whose names are nearly the same; are they one class?" dataset check "$work/twins/table.csv"
    grep -q "testing lists 1 images more than once, as .*/[^/]*.jpg; what is retrieved first is then the query itself" \
        "$work/err" || { cat "$work/err"; fail "an image that is listed twice"; }
done
for pair in "cat,dog" "caf,cafe" "70,7" "a b,ab"; do
    twins "${pair%,*}" "${pair#*,}" >"$work/twins/table.csv"
    says 0 "" dataset check "$work/twins/table.csv"
    ! grep -q "nearly the same" "$work/err" || { cat "$work/err"; fail "$pair are nearly the same"; }
done
says 1 "nowhere: no such file or folder" dataset check "$work/nowhere"
says 1 "/nowhere/x.csv" dataset convert "$work/$folder/$set" /nowhere/x.csv
"$dml" dataset frobnicate x 2>"$work/err" && fail "an unknown action"
grep -q "usage: dml dataset check" "$work/err" || fail "no usage"

echo "one training class is told, whatever the criterion"
mkdir -p "$work/one/images/a" "$work/one/images/b"
for i in 1 2 3 4; do
    cp "$image" "$work/one/images/a/$i.png"
    cp "$image" "$work/one/images/b/$i.png"
done
for loss in margin proxynca softmax contrastive; do
    "$dml" train --dataset one --source_path "$work" "${flags[@]}" --bs 4 --samples_per_class 4 \
        --n_epochs 0 --loss "$loss" >"$work/log" 2>&1 || true
    grep -q "training has one class: --loss $loss" "$work/log" ||
        { cat "$work/log"; fail "$loss says nothing"; }
done
