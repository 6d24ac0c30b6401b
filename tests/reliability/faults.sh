#!/usr/bin/env bash
# Makes the n-th allocation of the program or of the libraries that compute, or the n-th call that
# opens, writes, syncs, renames or closes a file, fail in short runs of the commands. Each has to end well with the result that
# it has without, or with exit status 1 and a line on stderr that says what failed; never with a
# signal, a temporary file or a wrong result. A training run then goes on by --resume to what it
# would have been.
#
#     faults.sh DML SOURCE RUN_TEXT FAULTS
#
# Calls of one place (a stack of return addresses within the program, see faults.c) are alike: its
# first and its last are made to fail.
#
# DML_FAULTS: how many of each command and kind (8); 0: all there are. DML_FAULTS_ONLY: which
# commands. DML_FAULTS_PART=I/N: of all there are every N-th, from the I-th on.
set -euo pipefail
dml=$1 source=$2 run_text=$3 faults=$4
wanted=${DML_FAULTS:-8}
only=${DML_FAULTS_ONLY:-}
part=${DML_FAULTS_PART:-1/1}
RANDOM=${DML_FAULTS_SEED:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GOMP_SPINCOUNT=5000
failures=0
fail() { echo "FAILED: $*" >&2; failures=$((failures + 1)); }

mkdir -p "$work/data/emoji8/images"
cp -r "$source/data/emoji200/images"/00[1-8].* "$work/data/emoji8/images/"
base=(--dataset emoji8 --source_path "$work/data" --arch resnet18_normalize --not_pretrained
    --image_size 32 --embed_dim 8 --bs 8 --lr 0.001 --n_epochs 1 --savename run --kernels 1
    --evaluation_metrics e_recall@1 dists@intra rho_spectrum@1 --no_train_metrics --no_plots
    --save_path runs)
mkdir "$work/made"
(cd "$work/made" && "$dml" train "${base[@]}" --group 'A_Margin_s' >/dev/null 2>&1 &&
    "$dml" train "${base[@]}" --savename other --group 'A_Margin_s' --seed 2 >/dev/null 2>&1 &&
    "$dml" train "${base[@]}" --savename third --group 'B|x' --seed 2 >/dev/null 2>&1)
checkpoint=$work/made/runs/emoji8/run/checkpoint_Test_discriminative_e_recall@1.safetensors

# Commands, each in a folder of its own; what they leave there and print is their result.
train() { "$dml" train "${base[@]}" --tensorboard --log_online --state_minutes 0; }
report() { "$dml" report --save_path "$work/made/runs" --format markdown --output table.md; }
latex() { "$dml" report --save_path "$work/made/runs" --format latex; }
search() {
    "$dml" search --checkpoint "$checkpoint" --gallery "$work/data/emoji8/images" \
        --query "$work/data/emoji8/images" --k 2 --html page.html
}
embed() { "$dml" embed --checkpoint "$checkpoint" --images "$work/data/emoji8/images" --out e; }
evaluate() {
    "$dml" eval --embeddings "$work/made/e_embeddings.npy" --labels "$work/made/e_labels.npy" \
        --metrics e_recall@1 mAP@R nmi f1 dists@intra rho_spectrum@0 fnmr@0.1 --rerank --ci queries \
        --per_query queries.csv
}
model() { # the trained network on a data set
    "$dml" eval --checkpoint "$checkpoint" --source_path "$work/data" --metrics e_recall@1 \
        rho_spectrum@1
}
convert() { "$dml" convert "$source/tests/golden/weights/legacy.pth" out.safetensors; }
back() { "$dml" convert "$work/made/weights.safetensors" out.pth; }
check() { "$dml" dataset check "$work/data/emoji8"; }
table() { "$dml" dataset convert "$work/data/emoji8" out.csv; }
augment() {
    "$dml" augment "$source"/tests/images/420.jpg --rows 2 --columns 2 --image_size 32 \
        --transforms 'random_resized_crop flip rand_augment random_erasing' --out sheet.png
}
sweep() {
    printf 'all --dataset emoji8 --source_path %s\n--loss {margin,triplet} --seed {0..2} %s\n' \
        "$work/data" "--group G --batch_mining {1:a,b}_x" | sed 's/{1:a,b}_x/random/' >list.txt
    "$dml" sweep list.txt --status -- --save_path "$work/made/runs"
}
text_of() { # what a command left, comparably
    if [ "$1" = train ]; then
        "$run_text" "$2/runs" 2>/dev/null
    else
        (cd "$2" && find . -type f -not -name 'stderr*' | sort | xargs -d '\n' cksum)
    fi
}

# go COMMAND KIND PLACE AT FOLDER: exit status in $status
go() {
    rm -rf "$5"
    mkdir "$5"
    status=0
    (
        cd "$5"
        export FAULT_IN=dml FAULT_KIND=$2 FAULT_AT=$4 DML_PRELOAD=$faults
        if [ "$4" = 0 ]; then
            export FAULT_PLACES=$work/places
        else
            export FAULT_PLACE=$3
        fi
        $1 >stdout 2>stderr
    ) || status=$?
}

tried=0 well=0 told=0
inspect() { # inspect COMMAND KIND PLACE AT
    local name="$1: $2 $3 $4" place=$work/fault
    tried=$((tried + 1))
    go "$1" "$2" "$3" "$4" "$place"
    if [ "$status" = 0 ]; then
        text_of "$1" "$place" >"$work/text"
        if [ "$1" != train ] || ! grep -q "continues without" "$place/stderr"; then
            if diff "$work/$1.text" "$work/text" >"$work/diff"; then
                well=$((well + 1))
            else
                head -5 "$work/diff"
                fail "$name: another result, and no failure told"
            fi
            return
        fi
        fail "$name: something was lost, and the exit status is 0"
    elif [ "$status" -gt 2 ]; then
        tail -3 "$place/stderr"
        fail "$name: exit status $status"
    elif ! tail -1 "$place/stderr" | grep -q '^dml [a-z]*: .'; then
        tail -3 "$place/stderr"
        fail "$name: no last line that says why"
    else
        told=$((told + 1))
    fi
    if find "$place" -name '*.tmp-*' | grep .; then
        fail "$name: temporary files stay"
    fi
    # what the run did without is lost, as it said
    if [ "$1" = train ] && [ -d "$place/runs/emoji8/run" ] &&
        ! grep -q "continues without" "$place/stderr"; then
        (cd "$place" && "$dml" train --resume runs/emoji8/run >stdout 2>stderr) ||
            { tail -2 "$place/stderr"; fail "$name: going on"; return; }
        text_of train "$place" >"$work/text"
        diff "$work/train.text" "$work/text" >"$work/diff" ||
            { head -8 "$work/diff"; fail "$name: it went on to something else"; }
    fi
}
(cd "$work/made" && "$dml" embed --checkpoint "$checkpoint" --images "$work/data/emoji8/images" \
    --out e >/dev/null 2>&1 &&
    "$dml" convert "$source/tests/golden/weights/legacy.pth" weights.safetensors >/dev/null)
# The program with the library in front of it, but not the tools around it.
real=$dml
dml=$work/with_faults
printf '#!/bin/sh\n[ -n "$DML_PRELOAD" ] && LD_PRELOAD=$DML_PRELOAD && export LD_PRELOAD\nexec %q "$@"\n' \
    "$real" >"$dml"
chmod +x "$dml"

for command in ${only:-report latex search sweep convert back check table augment evaluate model embed train}; do
    for kind in disk memory library; do
        go "$command" "$kind" - 0 "$work/plain"
        [ "$status" = 0 ] || { cat "$work/plain/stderr"; echo "FAILED: $command without faults"; exit 1; }
        text_of "$command" "$work/plain" >"$work/$command.text"
        read -r places calls < <(awk '{calls += $2} END {print NR, calls + 0}' "$work/places")
        mapfile -t due < <(awk '{print $1, 1} $2 > 1 {print $1, $2}' "$work/places")
        before=$tried
        most=$wanted
        [ "$command" != train ] || most=$(((wanted + 2) / 3)) # each is two runs of training
        if [ "$wanted" = 0 ] || [ ${#due[@]} -le "$most" ]; then
            for ((n = ${part%/*}; n <= ${#due[@]}; n += ${part#*/})); do
                inspect "$command" "$kind" ${due[n - 1]}
            done
        else
            for ((i = 0; i < most; i++)); do
                inspect "$command" "$kind" ${due[(RANDOM * 32768 + RANDOM) % ${#due[@]}]}
            done
        fi
        echo "$command: $((tried - before)) of $calls calls for $kind from $places places failed"
    done
done
echo "$tried faults: $well with the right result all the same, $told told, $failures neither"
[ "$failures" = 0 ] && [ "$tried" -gt 0 ] # none: the library does not stand before the system's
