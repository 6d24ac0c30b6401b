#!/usr/bin/env bash
# Runs train, eval, embed and search with less address space than they want (ulimit -v): each has to
# give the result that it gives with enough, or to end soon with exit status 1 and a last line that
# says that memory or threads are lacking and how much there may be. The libraries that compute are
# starved so as well. What a run of training had written goes on to what it would have been.
#
#     limits.sh DML SOURCE RUN_TEXT
#
# DML_LIMITS: the limits, in MB.
set -euo pipefail
dml=$1 source=$2 run_text=$3
limits=${DML_LIMITS:-"300 430 520 640 900"}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export GOMP_SPINCOUNT=5000 OMP_NUM_THREADS=2
failures=0 tried=0 well=0 told=0
run() { timeout -k 5 120 "$dml" "$@"; } # what hangs ends with status 124
fail() { echo "FAILED: $*" >&2; failures=$((failures + 1)); }

mkdir -p "$work/data/emoji8/images"
cp -r "$source/data/emoji200/images/"00[1-8].* "$work/data/emoji8/images/"
train() {
    run train --dataset emoji8 --source_path "$work/data" --arch resnet18_normalize \
        --not_pretrained --image_size 32 --embed_dim 8 --bs 8 --n_epochs 1 --savename run \
        --kernels 1 --evaluation_metrics e_recall@1 rho_spectrum@1 --no_train_metrics --no_plots \
        --save_path runs
}
eval_() { run eval --checkpoint "$checkpoint" --dataset emoji8 --source_path "$work/data"; }
embed() { run embed --checkpoint "$checkpoint" --images "$work/data/emoji8/images" --out e; }
search() {
    run search --checkpoint "$checkpoint" --gallery "$work/data/emoji8/images" \
        --query "$work/data/emoji8/images/001.left-speech-bubble" --k 2
}
text_of() { # what a command left, comparably
    if [ "$1" = train ]; then
        "$run_text" "$2/runs"
    else
        (cd "$2" && find . -type f -not -name stderr | sort | xargs cksum)
    fi
}
go() { # go COMMAND FOLDER LIMIT: exit status in $status
    rm -rf "$2"
    mkdir "$2"
    status=0
    (
        cd "$2"
        [ "$3" = 0 ] || ulimit -v $(($3 * 1024))
        "$1" >stdout 2>stderr
    ) || status=$?
}

for command in train eval_ embed search; do
    go "$command" "$work/$command" 0
    [ "$status" = 0 ] || { cat "$work/$command/stderr"; echo "FAILED: $command"; exit 1; }
    text_of "$command" "$work/$command" >"$work/$command.text"
    checkpoint=$work/train/runs/emoji8/run/checkpoint_Test_discriminative_e_recall@1.safetensors
    for limit in $limits; do
        name="$command with $limit MB" place=$work/limited
        tried=$((tried + 1))
        go "$command" "$place" "$limit"
        if [ "$status" = 0 ]; then
            well=$((well + 1))
        elif [ "$status" = 1 ] && tail -1 "$place/stderr" |
            grep -Eq "^dml( [a-z]+)?: .*([Mm]emory|thread).*ulimit -v allows $limit MB$"; then
            told=$((told + 1))
            [ "$command" = train ] && [ -d "$place/runs/emoji8/run" ] || continue
            (cd "$place" && "$dml" train --resume runs/emoji8/run >stdout 2>stderr) ||
                { tail -2 "$place/stderr"; fail "$name: going on"; continue; }
        elif [ "$status" = 127 ] && grep -q "loading shared libraries" "$place/stderr"; then
            echo "$name: the system could not even load the program"
            continue
        else
            tail -2 "$place/stderr"
            fail "$name: exit status $status"
            continue
        fi
        text_of "$command" "$place" >"$work/text"
        diff "$work/$command.text" "$work/text" >"$work/diff" ||
            { head -5 "$work/diff"; fail "$name: another result"; }
    done
done
echo "$tried limits: $well with the right result, $told told, $failures neither"
# some of the limits are too small and the program says so, or this test shows nothing
[ "$failures" = 0 ] && [ "$told" -gt 0 ]
