#!/usr/bin/env bash
# dml eval, embed and search from the outside: values, what they say of bad input, the page.
# Called with the program and the source folder.
set -u
dml=$1
source=$2
golden=$source/tests/golden/metrics
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

fail() {
    echo "FAILED: $*"
    failed=1
}

# says TEXT COMMAND...: the command fails, with one line on stderr that holds TEXT.
says() {
    local text=$1
    shift
    if "$@" >"$work/out" 2>"$work/err"; then
        fail "succeeded: $*"
    fi
    grep -qF -- "$text" "$work/err" || fail "'$(cat "$work/err")' does not say '$text': $*"
    # Few classes are asked about in a line of its own.
    [ "$(grep -vc '^dml: .* has \(one\|two\) class.*?$' "$work/err")" = 1 ] ||
        fail "not one line: $(cat "$work/err")"
}

# value JSON KEY: the number of a key in a flat object on one line.
value() {
    printf '%s\n' "$1" | sed -n "s/.*\"$2\":\([^,}]*\).*/\1/p"
}

near() {
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && a - b < 1e-5 && b - a < 1e-5) }'
}

# --- Values of golden files
for case in small nearperfect; do
    json=$("$dml" eval --embeddings $golden/$case/features.npy --labels $golden/$case/labels.npy \
        --metrics e_recall@1 c_recall@4 mAP mAP@R dists@intra rho_spectrum@-1 --json 2>/dev/null)
    for name in e_recall@1 c_recall@4 mAP mAP@R dists@intra rho_spectrum@-1; do
        expected=$(sed -n "s/^ *\"$name\": \([-0-9.e]*\),*$/\1/p" $golden/$case/expected.json)
        near "$(value "$json" "$name")" "$expected" ||
            fail "$case $name: $(value "$json" "$name"), not $expected"
    done
done
small="--embeddings $golden/small/features.npy --labels $golden/small/labels.npy"
"$dml" eval $small >"$work/table" 2>/dev/null || fail "the default metrics"
for name in e_recall@1 e_recall@2 e_recall@4 nmi f1 mAP_1000 mAP_lim mAP_c dists@intra dists@inter \
    dists@intra_over_inter rho_spectrum@0 rho_spectrum@-1 rho_spectrum@1 rho_spectrum@2 \
    rho_spectrum@10; do
    grep -q "^$name " "$work/table" || fail "the table has no $name"
done

# --- On a GPU, or without one by the processor, which is told once: the same table
"$dml" eval $small --evaluate_on_gpu >"$work/counted" 2>"$work/err" || fail "--evaluate_on_gpu"
cmp -s "$work/table" "$work/counted" || fail "--evaluate_on_gpu gives other values"
if "$dml" devices | grep -q '^GPU: none'; then
    [ "$(grep -c '^.*--evaluate_on_gpu: .*; the processor counts ranks$' "$work/err")" = 1 ] ||
        fail "--evaluate_on_gpu without a GPU says: $(cat "$work/err")"
fi

# --- A gallery that holds every query: the nearest is its copy
json=$("$dml" eval $small --gallery_embeddings $golden/small/features.npy \
    --gallery_labels $golden/small/labels.npy --metrics e_recall@1 c_recall@1 --json 2>/dev/null)
[ "$json" = '{"e_recall@1":1,"c_recall@1":1}' ] || fail "gallery of copies: $json"

# --- Small arrays written here: npy TYPE ORDER SHAPE, data on stdin
npy() {
    local header="{'descr': '$1', 'fortran_order': $2, 'shape': $3, }"
    printf '\223NUMPY\001\000'
    printf "\\$(printf '%03o' $((${#header} + 1)))\\000%s\n" "$header"
    cat
}
# float16 (4, 2) in Fortran order: x = 0 0.5 4 5, y = 0 0 1 1
printf '\0\0\0\070\0\104\0\105\0\0\0\0\0\074\0\074' | npy '<f2' True '(4, 2)' >"$work/e.npy"
printf '\001\001\002\002' | npy '|u1' False '(4,)' >"$work/y.npy"
# int64: 2^53 and 2^53 + 1, which are one number to a double
printf '\0\0\0\0\0\0\040\0' >"$work/a"
printf '\001\0\0\0\0\0\040\0' >"$work/b"
cat "$work/a" "$work/a" "$work/b" "$work/b" | npy '<i8' False '(4,)' >"$work/wide.npy"
cat "$work/a" "$work/b" "$work/a" "$work/b" | npy '<u8' False '(4, 1)' >"$work/apart.npy"
for labels in y wide; do
    json=$("$dml" eval --embeddings "$work/e.npy" --labels "$work/$labels.npy" \
        --metrics e_recall@1 nmi f1 --json 2>/dev/null)
    [ "$json" = '{"e_recall@1":1,"nmi":1,"f1":1}' ] || fail "labels $labels: $json"
done
# uint8 (4, 3): two directions alone
printf '\001\002\000\003\001\000\000\005\000\007\007\000' | npy '|u1' False '(4, 3)' >"$work/flat.npy"
# Metrics that nobody named and that the set is too small for are left out; named ones are not.
printf '\0\074\0\074\0\104\0\105\0\0\0\0\0\074\0\074' | npy '<f2' True '(4, 2)' >"$work/few.npy"
"$dml" eval --embeddings "$work/few.npy" --labels "$work/y.npy" >"$work/table" 2>"$work/err" ||
    fail "the default metrics of a small set: $(cat "$work/err")"
grep -q "^nmi  *1" "$work/table" || fail "no nmi of a small set"
grep -q "e_recall@4 is left out" "$work/err" || fail "e_recall@4 is not said to be left out"
says "recall@4: k is beyond the set" "$dml" eval --embeddings "$work/e.npy" \
    --labels "$work/y.npy" --metrics nmi e_recall@4
json=$("$dml" eval --embeddings "$work/e.npy" --labels "$work/apart.npy" --metrics e_recall@1 \
    --json 2>/dev/null)
[ "$json" = '{"e_recall@1":0}' ] || fail "labels that differ beyond 2^53: $json"

# --- Groups: of its own class a query sees other groups alone. x = 0 0.5 4 5
printf '\001\002\001\002' | npy '|u1' False '(4,)' >"$work/groups.npy"
printf '\001\001\001\002' | npy '|u1' False '(4,)' >"$work/some.npy"
json=$("$dml" eval --embeddings "$work/e.npy" --labels "$work/y.npy" --groups "$work/groups.npy" \
    --metrics e_recall@1 mrr --json 2>/dev/null)
[ "$json" = '{"e_recall@1":1,"mrr":1}' ] || fail "groups: $json"
json=$("$dml" eval --embeddings "$work/e.npy" --labels "$work/y.npy" --groups "$work/some.npy" \
    --metrics e_recall@1 mrr --json 2>"$work/err")
[ "$json" = '{"e_recall@1":1,"mrr":1}' ] || fail "groups: $json"
grep -q "2 of 4 queries have no sample of their class to find" "$work/err" ||
    fail "lone queries: $(cat "$work/err")"
says "no query has a sample of its class" "$dml" eval --embeddings "$work/e.npy" \
    --labels "$work/y.npy" --groups "$work/y.npy" --metrics mrr
says "--gallery_groups is missing" "$dml" eval $small --groups "$work/groups.npy" \
    --gallery_embeddings "$work/e.npy" --gallery_labels "$work/y.npy"
says "4 groups for the 300 embeddings" "$dml" eval $small --groups "$work/groups.npy"
says "metric 'fnmr@1': the number must be between 0 and 1" "$dml" eval $small --metrics fnmr@1
says "metric 'pcf@x': 'x' is not a number" "$dml" eval $small --metrics pcf@x
says "metric 'fnmr': needs a number, as in fnmr@0.1" "$dml" eval $small --metrics fnmr

# --- Intervals, samples of queries, tables of queries
json=$("$dml" eval $small --metrics e_recall@1 nmi --ci queries --json 2>/dev/null)
case $json in
*'"intervals":{"e_recall@1":['*']}}') ;;
*) fail "intervals: $json" ;;
esac
again=$("$dml" eval $small --metrics e_recall@1 nmi --ci queries --json 2>/dev/null)
[ "$json" = "$again" ] || fail "intervals that differ: $json and $again"
"$dml" eval $small --metrics fnmr@0.1 nmi ami pcf@0.9 --ci classes >"$work/table" 2>"$work/err"
grep -q "^fnmr@0.1  *0.* (0.* to 0.*)" "$work/table" || fail "of a ratio: $(cat "$work/table")"
grep -q "^dml eval: --ci: no interval for nmi, ami, pcf@0.9: computed from all samples at once" "$work/err" ||
    fail "without an interval: $(cat "$work/err")"
"$dml" eval $small --metrics mrr --ci classes 2>&1 | grep -q "no interval" &&
    fail "an interval that is there is missed"
"$dml" eval $small --metrics e_recall@1 --queries 100 >"$work/table" 2>/dev/null
grep -q ", 100 of 300 queries drawn" "$work/table" || fail "a sample: $(cat "$work/table")"
grep -q "^e_recall@1  *0.* (0.* to 0.*)" "$work/table" || fail "a sample: $(cat "$work/table")"
"$dml" eval --embeddings "$work/e.npy" --labels "$work/y.npy" --metrics mrr \
    --per_query "$work/q.csv" >/dev/null 2>&1
printf '%s\n' query,label,positives,first_hit,AP,AP@R,r_precision 0,1,1,1,1,1,1 1,1,1,1,1,1,1 \
    2,2,1,1,1,1,1 3,2,1,1,1,1,1 | diff - "$work/q.csv" || fail "a table of queries"
# Labels beyond 32 bits are those of the file, not their ranks.
"$dml" eval --embeddings "$work/e.npy" --labels "$work/wide.npy" --metrics mrr \
    --per_query "$work/q.csv" >/dev/null 2>&1
[ "$(cut -d, -f2 "$work/q.csv" | tail -n +2 | uniq | xargs)" = "9007199254740992 9007199254740993" ] ||
    fail "wide labels in a table of queries: $(cat "$work/q.csv")"
"$dml" eval $small --metrics mrr c_mrr --per_query "$work/q.npy" >/dev/null 2>&1
head -c 120 "$work/q.npy" | grep -aq "'<f8', 'fortran_order': False, 'shape': (300, 11,)" ||
    fail "an array of queries"
says "must end in .csv or .npy" "$dml" eval $small --per_query "$work/q.txt"
says "--per_query: $work/none/q.csv: cannot be written" "$dml" eval $small \
    --per_query "$work/none/q.csv"
says "--ci" "$dml" eval $small --ci images
says "--queries" "$dml" eval $small --queries -1

# --- Post-processing
for flags in "--aqe 3" "--dba 2" "--whiten 8" "--rerank --rerank_k1 8 --rerank_k2 3" \
    "--whiten 8 --dba 2 --aqe 3"; do
    "$dml" eval $small --metrics e_recall@1 c_recall@1 fnmr@0.1 $flags >"$work/table" 2>&1 ||
        fail "eval $flags: $(cat "$work/table")"
    "$dml" search --gallery $golden/small/features.npy --query $golden/small/features.npy --k 2 \
        $flags >"$work/found" 2>&1 || fail "search $flags: $(cat "$work/found")"
    [ "$(wc -l <"$work/found")" = 900 ] || fail "search $flags: $(wc -l <"$work/found") lines"
done
"$dml" eval $small --whiten 8 --whiten_from $golden/small/features.npy --metrics e_recall@1 --json \
    >"$work/from" 2>/dev/null
"$dml" eval $small --whiten 8 --metrics e_recall@1 --json 2>/dev/null | cmp -s - "$work/from" ||
    fail "whitening fitted to the same file"
says "--rerank with --aqe: needs queries that are not in the gallery" "$dml" eval $small --rerank \
    --aqe 2
says "--whiten 17: the embeddings have 16 dimensions" "$dml" eval $small --whiten 17
says "--whiten_from: needs --whiten" "$dml" eval $small --whiten_from "$work/e.npy"
says "e.npy: has embeddings of 2 dimensions, the others 16" "$dml" eval $small --whiten 8 \
    --whiten_from "$work/e.npy"
says "vary in only 2" "$dml" search --gallery "$work/flat.npy" --query "$work/flat.npy" --whiten 3
says "--whiten 3: the embeddings have 2 dimensions" "$dml" search --gallery "$work/e.npy" \
    --query "$work/e.npy" --whiten 3
says "zero vector" "$dml" eval --embeddings "$work/e.npy" --labels "$work/y.npy" --aqe 1
says "--rerank_weight" "$dml" eval $small --rerank --rerank_weight 2
says "--rerank_k1: needs --rerank" "$dml" eval $small --rerank_k1 8
says "--aqe_alpha: needs --aqe" "$dml" search --gallery "$work/e.npy" --query "$work/e.npy" \
    --dba 1 --aqe_alpha 2
says "--ci_level: needs --ci or --queries" "$dml" eval $small --ci_level 0.9

# --- Bad input
says "needs --embeddings" "$dml" eval
says "--labels is missing" "$dml" eval --embeddings "$work/e.npy"
says "--groups: its value is empty" "$dml" eval $small --groups ""
says "--image_size: is about images, and --embeddings has none" "$dml" eval $small --image_size 64
says "--gallery_labels is missing" "$dml" eval $small --gallery_embeddings "$work/e.npy"
says "no.npy" "$dml" eval --embeddings "$work/no.npy" --labels "$work/y.npy"
says "small/labels.npy: has 1 axes" "$dml" eval --embeddings $golden/small/labels.npy --labels "$work/y.npy"
says "4 labels for the 300 embeddings" "$dml" eval --embeddings $golden/small/features.npy --labels "$work/y.npy"
says "has 2 axes, labels have one" "$dml" eval --embeddings "$work/e.npy" --labels $golden/small/features.npy
says "dimensions" "$dml" eval $small --gallery_embeddings "$work/e.npy" --gallery_labels "$work/y.npy"
head -c 300 $golden/small/features.npy >"$work/short.npy"
says "cut short" "$dml" eval --embeddings "$work/short.npy" --labels "$work/y.npy"
echo "not an array at all" >"$work/text.npy"
says "text.npy: is not a .npy file" "$dml" eval --embeddings "$work/text.npy" --labels "$work/y.npy"
npy '<f4' False '(1000000000000, 4)' </dev/null >"$work/claims.npy"
says "claims.npy: is cut short" "$dml" eval --embeddings "$work/claims.npy" --labels "$work/y.npy"
says "e_recall@0" "$dml" eval $small --metrics e_recall@0
says "recall@300" "$dml" eval $small --metrics e_recall@300
says "did you mean 'e_recall@'" "$dml" eval $small --metrics e_recal@1
says "did you mean --metrics" "$dml" eval $small --metrix nmi
printf '\0\176\0\070\0\104\0\174\0\0\0\0\0\074\0\074' | npy '<f2' True '(4, 2)' >"$work/nan.npy"
says "2 of 4 hold NaN or infinite values, the first is number 0" \
    "$dml" eval --embeddings "$work/nan.npy" --labels "$work/y.npy"
says "nan.npy" "$dml" eval --embeddings "$work/nan.npy" --labels "$work/y.npy"
says "zero vectors" "$dml" eval --embeddings "$work/e.npy" --labels "$work/y.npy" --metrics c_recall@1
printf '\003\003\003\003' | npy '|u1' False '(4,)' >"$work/other.npy"
says "the first is query 0" "$dml" eval --embeddings "$work/e.npy" --labels "$work/other.npy" \
    --gallery_embeddings "$work/e.npy" --gallery_labels "$work/y.npy" --metrics e_recall@1

# --- Search among files
"$dml" search --gallery "$work/e.npy" --query "$work/e.npy" --k 2 >"$work/found" 2>/dev/null ||
    fail "search among files"
[ "$(sed -n 2p "$work/found" | tr -s ' ')" = " 1 0 number 0" ] || fail "search: $(cat "$work/found")"
[ "$(sed -n 3p "$work/found" | tr -s ' ')" = " 2 0.5 number 1" ] || fail "search: $(cat "$work/found")"
says "--query is missing" "$dml" search --gallery "$work/e.npy"
says "--gallery_paths: needs" "$dml" search --checkpoint none --gallery "$work" --query x.jpg \
    --gallery_paths "$work/paths.txt"
says "--checkpoint is needed" "$dml" search --gallery "$work/e.npy" --query x.jpg
says "dimensions" "$dml" search --gallery "$work/e.npy" --query $golden/small/features.npy
says "--k 5: is more than the gallery of 4" "$dml" search --gallery "$work/e.npy" --query "$work/e.npy" \
    --k 5
[ "$("$dml" search --gallery "$work/e.npy" --query "$work/e.npy" | wc -l)" = 20 ] ||
    fail "without --k all of a small gallery"
says "--html: $work/none/page.html: cannot be written: No such file" \
    "$dml" search --gallery "$work/e.npy" --query "$work/e.npy" --html "$work/none/page.html"
says "zero vector" "$dml" search --gallery "$work/e.npy" --query "$work/e.npy" --cosine

# --- From a checkpoint
mkdir -p "$work/data/tiny"
for folder in $(ls "$source/data/emoji200/images" | sed -n '1~40p' | head -4); do
    mkdir -p "$work/data/tiny/images/$folder"
    for image in $(ls "$source/data/emoji200/images/$folder" | head -3); do
        cp "$source/data/emoji200/images/$folder/$image" "$work/data/tiny/images/$folder"
    done
done
"$dml" train --dataset tiny --source_path "$work/data" --arch resnet18_normalize --not_pretrained \
    --image_size 32 --embed_dim 16 --n_epochs 0 --bs 4 --kernels 1 --evaluation_metrics e_recall@1 \
    --no_train_metrics --save_path "$work/runs" >"$work/log" 2>&1 || fail "train: $(cat "$work/log")"
checkpoint=$(find "$work/runs" -name 'checkpoint_Test*.safetensors' | head -1)
[ -n "$checkpoint" ] || fail "there is no checkpoint"
json=$("$dml" eval --checkpoint "$checkpoint" --metrics e_recall@1 mAP --json 2>/dev/null)
"$dml" embed --checkpoint "$checkpoint" --out "$work/all" >/dev/null 2>&1 || fail "embed"
again=$("$dml" eval --embeddings "$work/all_embeddings.npy" --labels "$work/all_labels.npy" \
    --metrics e_recall@1 mAP --json 2>/dev/null)
[ -n "$json" ] && [ "$json" = "$again" ] || fail "a checkpoint's metrics, $json, and those of its embeddings, $again"
[ "$(wc -l <"$work/all_paths.txt")" = 6 ] || fail "paths: $(cat "$work/all_paths.txt")"
"$dml" embed --checkpoint "$checkpoint" --images "$work/all_paths.txt" --out "$work/listed" \
    >/dev/null 2>&1 || fail "embed a list"
cmp -s "$work/all_embeddings.npy" "$work/listed_embeddings.npy" || fail "a list embeds differently"
"$dml" embed --checkpoint "$checkpoint" --images "$work/data/tiny/images" --out "$work/folder" \
    >"$work/out" 2>/dev/null || fail "embed a folder"
grep -q "4 classes" "$work/out" || fail "folders as classes: $(cat "$work/out")"
query=$(head -1 "$work/all_paths.txt")
"$dml" search --checkpoint "$checkpoint" --gallery "$work/data/tiny/images" --query "$query" --k 3 \
    --html "$work/page.html" >"$work/found" 2>/dev/null || fail "search among images"
[ "$(sed -n 2p "$work/found" | awk '{print $1, $3}')" = "1 $query" ] || fail "its own copy: $(cat "$work/found")"
[ "$(grep -c 'src="data:image' "$work/page.html")" = 4 ] || fail "pictures in the page"
grep -q "</html>" "$work/page.html" || fail "the page's end"
mkdir "$work/empty"
says "has no JPEG or PNG images" "$dml" embed --checkpoint "$checkpoint" --images "$work/empty" --out "$work/x"
says "there is no such image" "$dml" embed --checkpoint "$checkpoint" --images "$work/none.jpg" --out "$work/x"
says "which is not the name of" "$dml" embed --checkpoint "$checkpoint" --images "$work/text.npy" --out "$work/x"
echo "no image" >"$work/text.jpg"
says "text.jpg: is neither a JPEG nor a PNG" "$dml" embed --checkpoint "$checkpoint" \
    --images "$work/data/tiny/images" "$work/text.jpg" --out "$work/x"
says "--out is missing" "$dml" embed --checkpoint "$checkpoint"
says "--not_pretrained: without a checkpoint" "$dml" embed --arch resnet18_normalize --not_pretrained \
    --images "$query" --out "$work/x"
printf 'PK\3\4' >"$work/arrays.npz"
says "is an .npz archive" "$dml" eval --embeddings "$work/arrays.npz" --labels "$work/text.npy"
# Told before anything is embedded: there is not even a checkpoint.
says "--out: $work/none/x_embeddings.npy: cannot be written: No such file" \
    "$dml" embed --checkpoint "$work/no" --out "$work/none/x"
mkdir "$work/taken_paths.txt"
says "--out: $work/taken_paths.txt: cannot be written: Is a directory" \
    "$dml" embed --checkpoint "$work/no" --out "$work/taken"
says "--html: $work/empty: cannot be written" "$dml" search --checkpoint "$work/no" \
    --gallery "$work/empty" --query "$query" --html "$work/empty"
says "--k 7: is more than the gallery of 6" "$dml" search --checkpoint "$checkpoint" --query "$query" --k 7
says "recall@6: k is beyond the set" "$dml" eval --checkpoint "$checkpoint" --metrics e_recall@6
# An image with a good header and end that cannot be decoded: named, and nothing is written.
mkdir -p "$work/broken/a"
cp "$source/tests/images/rgb.png" "$work/broken/a/sound.png"
cp "$source/tests/images/rgb.png" "$work/broken/a/torn.png"
size=$(stat -c %s "$work/broken/a/torn.png")
head -c $((size / 4)) /dev/zero |
    dd of="$work/broken/a/torn.png" bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
says "torn.png: " "$dml" embed --checkpoint "$checkpoint" --images "$work/broken" --out "$work/torn"
[ -z "$(ls "$work" | grep '^torn')" ] || fail "files of a failed embedding: $(ls "$work")"
says "torn.png: " "$dml" search --checkpoint "$checkpoint" --gallery "$query" --query "$work/broken"
echo "path,label,split" >"$work/torn.csv"
for split in train test; do
    echo "$work/broken/a/sound.png,a,$split"
    echo "$work/broken/a/torn.png,a,$split"
done >>"$work/torn.csv"
says "torn.png: " "$dml" eval --checkpoint "$checkpoint" --dataset_csv "$work/torn.csv" --metrics nmi
says "validation" "$dml" eval --checkpoint "$checkpoint" --part validation

# --- A CSV data set whose testing images are queries or gallery: trained, then evaluated alike
echo "path,label,split,is_query,is_gallery" >"$work/own.csv"
number=0
for folder in "$work"/data/tiny/images/*; do
    number=$((number + 1))
    query=1
    for image in "$folder"/*; do
        split=test; [ $number -le 2 ] && split=train
        echo "$image,$(basename "$folder"),$split,$query,$((1 - query))" >>"$work/own.csv"
        query=0
    done
done
own() {
    "$dml" train --dataset_csv "$1" --arch resnet18_normalize --not_pretrained \
        --image_size 32 --embed_dim 16 --n_epochs 1 --bs 4 --kernels 1 --no_train_metrics \
        --evaluation_metrics e_recall@1 --save_path "$work/own" --savename "$2"
}
own "$work/own.csv" csv >"$work/log" 2>&1 || fail "train a CSV file: $(cat "$work/log")"
trained=$(sed -n 's/^ *e_recall@1 *\([0-9.]*\).*/\1/p' "$work/log")
json=$("$dml" eval --checkpoint "$work"/own/own/csv/checkpoint_Test*.safetensors --json 2>/dev/null)
[ -n "$trained" ] && near "$(value "$json" e_recall@1)" "$trained" ||
    fail "a CSV file's recall in training, '$trained', and afterwards, $json"
[ -d "$work/own/own/csv" ] || fail "results of own.csv are in $(ls "$work/own")"
"$dml" train --params "$work/own/own/csv/parameters.json" --savename again --dataset other \
    --cache_images "$work/none/cache" >"$work/log" 2>"$work/err" && fail "trains without its cache"
grep -qxF "dml train: --cache_images: $work/none/cache.training-train: cannot be written: No such file or directory" \
    "$work/err" || fail "cache: $(cat "$work/err")"
[ ! -e "$work/own/other" ] || fail "a run without its cache has a folder"
sed 's/,1,0$/,0,0/' "$work/own.csv" >"$work/unasked.csv"
own "$work/unasked.csv" unasked >/dev/null 2>"$work/err" && fail "a set without queries trains"
grep -q "testing: the set has no query" "$work/err" || fail "no query: $(cat "$work/err")"
exit $failed
