#!/usr/bin/env bash
# Provokes every row of the table "Exit status and last line" of docs/RELIABILITY.md and compares
# status and last line with what stands there: numbers, quoted names, PATH and HOST of its messages
# are patterns. A row that is not provoked here fails.
#
#     failures.sh DML SOURCE FAULTS
set -euo pipefail
dml=$(realpath "$1") source=$2 faults=$3
work=$(cd "$(mktemp -d)" && pwd -P)
holder=
end() { [ -z "$holder" ] || kill -KILL "$holder" 2>/dev/null || true; rm -rf "$work"; }
trap end EXIT
export GOMP_SPINCOUNT=5000 OMP_NUM_THREADS=2
failures=0 rows=0
fail() { echo "FAILED: $*" >&2; failures=$((failures + 1)); }

mkdir -p "$work/data/emoji8/images"
cp -r "$source/data/emoji200/images"/00[1-8].* "$work/data/emoji8/images/"
cd "$work"
base=(--dataset emoji8 --source_path data --arch resnet18_normalize --not_pretrained
    --image_size 32 --embed_dim 8 --bs 8 --lr 0.001 --kernels 1 --evaluation_metrics e_recall@1
    --no_train_metrics --no_plots)
train() { "$dml" train "${base[@]}" --n_epochs 1 "$@"; }
# begin NAME FLAGS...: a long run in the background, at work when this returns
begin() {
    "$dml" train "${base[@]}" --n_epochs 1000 --eval_every 1000 --savename "$1" --save_path begun \
        "${@:2}" >"$1.log" 2>"$1.errors" </dev/null &
    holder=$!
    for _ in $(seq 1200); do
        ! grep -q . "begun/emoji8/$1/CSV_Logs/Data_Train_steps.csv" 2>/dev/null || return 0
        sleep 0.05
    done
    cat "$1.log" "$1.errors"
    fail "$1 does not begin"
}
# ended NAME: the status of what begin started, and what it said, as if it were the row's
ended() {
    local code=0
    wait "$holder" || code=$?
    holder=
    cat "$1.errors" >&2
    return "$code"
}
# starved MB ARGUMENTS...
starved() { (ulimit -v "$(($1 * 1024))" && shift && "$dml" "$@"); }
# without_memory ARGUMENTS...: an allocation fails, of those that say how much they wanted. Which they
# are changes with the program, and from run to run.
without_memory() {
    local n status=0
    for n in {2000..2020}; do
        status=0
        (ulimit -v 100000000 && FAULT_IN=$(basename "$dml") FAULT_KIND=memory FAULT_AT=$n \
            LD_PRELOAD=$faults exec "$dml" "$@") 2>once || status=$?
        ! grep -q "cannot allocate" once || break
    done
    cat once >&2
    return "$status"
}

train --save_path runs --savename one --state_minutes 1000 >log 2>&1 || { cat log; exit 1; }
train --save_path runs --savename two --seed 2 >log 2>&1 || { cat log; exit 1; }
checkpoint=runs/emoji8/one/checkpoint_Test_discriminative_e_recall@1.safetensors
"$dml" embed --checkpoint "$checkpoint" --images data/emoji8/images --out e >log
resume() { "$dml" train --resume "$@"; }

# provoke ROW: what it tells of, with the status and last line that it has. Several commands of
# one row are several calls.
provoke() {
    case $1 in
    "all is well") check train --save_path runs --savename three ;;
    "wrong flag"*)
        check train --n_epoks 2
        check train --loss none
        check train --bs 0
        check resume runs/emoji8/one --arch resnet50
        check "$dml" eval --k 3
        check "$dml" devices --gpu
        ;;
    "a file, folder, image"*)
        mkdir -p broken/emoji8/images/{a,b}
        echo "not an image" | tee broken/emoji8/images/{a,b}/{1,2}.jpg >log
        check train --source_path broken
        check train --source_path nowhere
        check "$dml" convert nowhere.pth x.safetensors
        check "$dml" convert log x.safetensors
        check "$dml" eval --embeddings log --labels log
        check "$dml" report --save_path nowhere
        check "$dml" sweep nowhere.txt
        ;;
    "Ctrl-C"*)
        for name in INT TERM HUP; do
            begin "$name"
            kill -s "$name" "$holder"
            check ended "$name"
        done
        ;;
    "the same twice"*) # the run stands still between them, as in a long step; between steps it ends at once
        for n in {1..10}; do
            begin "twice$n" --bs 32 --image_size 96
            sleep 0.1
            kill -INT "$holder"
            sleep 0.02
            kill -STOP "$holder"
            sleep 2.1
            kill -INT "$holder"
            kill -CONT "$holder"
            ended "twice$n" 2>said && ending=0 || ending=$?
            grep -q "interrupted after step" said || break
        done
        again() { cat said >&2; return "$ending"; }
        wanted=$((128 + 2))
        check again
        ;;
    "loss, gradient"*) check train --lr 1e30 --save_path broken ;;
    "disk full while logs"*)
        train_full() { (ulimit -f 64 && train --save_path full); }
        check train_full
        resume_full() { (ulimit -f 64 && resume runs/emoji8/one --n_epochs 2); }
        check resume_full
        ;;
    "disk full while database"*)
        rm runs/emoji8/two/summary.json
        mkdir -p runs/emoji8/two/summary.json/full
        check resume runs/emoji8/two --n_epochs 2
        ;;
    "standard output"*)
        [ ! -e /dev/full ] || check eval '"$dml" list >/dev/full'
        check eval '"$dml" list >&-'
        # Where it is closed no file takes its number.
        "$dml" convert /proc/self/fd/1 x.safetensors >&- 2>err || true
        grep -q "/proc/self/fd/1: is not a file" err || { cat err; fail "nothing holds stdout's number"; }
        ;;
    "whoever reads standard output"*)
        piped() { (sleep 0.2; exec "$dml" list) | true; return "${PIPESTATUS[0]}"; }
        check piped
        ;;
    "out of memory")
        check without_memory train "${base[@]}" --n_epochs 1 --save_path none
        ;;
    "oneDNN or OpenBLAS"*) starve 2 "$pattern" ;;
    "OpenMP gets"*) starve 64 "$pattern" ;;
    "not even the program"*) starve 2 "loading shared libraries" ;;
    "another program"*)
        begin held
        check resume begun/emoji8/held
        kill -KILL "$holder"
        wait "$holder" 2>/dev/null || true
        holder=
        ;;
    "the data set is not"*)
        mv data/emoji8/images/001* .
        check resume runs/emoji8/one --n_epochs 2
        mv 001* data/emoji8/images/
        ;;
    "a damaged state"*)
        head -c -1 runs/emoji8/one/state.safetensors >runs/emoji8/one/damaged.safetensors
        tail -c 1 runs/emoji8/one/state.safetensors | tr '\000-\377' '\001-\377\000' \
            >>runs/emoji8/one/damaged.safetensors
        check resume runs/emoji8/one/damaged.safetensors
        ;;
    "a link or a pipe"*)
        mkdir -p linked
        cp -r runs/emoji8/one linked/
        ln -s "$work/log" linked/one/wandb_sync.log
        check resume linked/one
        ;;
    "a state of another version"*)
        sed 's/"dml_state_format"/"not_state_format"/' runs/emoji8/one/state.safetensors \
            >runs/emoji8/one/old.safetensors
        check resume runs/emoji8/one/old.safetensors
        ;;
    "a state in another run's folder"*)
        cp runs/emoji8/two/state.safetensors runs/emoji8/one/foreign.safetensors
        check resume runs/emoji8/one/foreign.safetensors
        ;;
    *"without state and parameters")
        mkdir -p empty
        check resume empty
        ;;
    "gnuplot or wandb"*)
        mkdir -p foreign
        echo "somebody else's, and no database at all" >foreign/runs.sqlite
        bare() { PATH=/nowhere "$dml" train "${base[@]/--no_plots/--tensorboard}" --n_epochs 1 --log_online --save_path foreign; }
        check bare
        [ "$(grep -c 'gnuplot: is not installed' err)" = 1 ] || { cat err; fail "gnuplot is not told once"; }
        [ "$(grep -c 'wandb is not installed' err)" = 1 ] || { cat err; fail "wandb is not told once"; }
        [ "$(grep -c 'runs.sqlite' err)" = 1 ] || { cat err; fail "the database is not told once"; }
        ;;
    "a sweep with failed runs"*)
        echo "--savename failing" >list.txt
        check "$dml" sweep list.txt -- "${base[@]}" --lr 1e30 --n_epochs 1 --save_path swept
        grep -q "failed .*failing\|failed.*line 1" out || { cat out; fail "the run is not listed"; }
        ;;
    *) fail "no test of the row '$1'" ;;
    esac
}

# starve THREADS PATTERN: less and less memory. Every last line is one of the rows', and the pattern's
# is among them.
starve() {
    local mb status last seen=0
    for mb in 20 90 230 290 350 400 500 700 900; do
        status=0
        OMP_NUM_THREADS=$1 starved "$mb" eval --embeddings e_embeddings.npy --labels e_labels.npy \
            >out 2>err || status=$?
        last=$(tail -1 err)
        [[ $status = 0 || ($status = 127 && $last = *"loading shared libraries"*) ||
            ($status = 1 && $last =~ ^dml(\ eval)?:\ out\ of\ memory.*ulimit\ -v\ allows\ $mb\ MB$) ]] ||
            fail "$row: status $status with $mb MB: $last"
        [[ ! $last =~ $2 ]] || [ "$status" != "$wanted" ] || seen=$((seen + 1))
    done
    [ "$seen" -gt 0 ] || fail "$row: none of the limits shows it"
}
# check COMMAND...: its status and last line are the row's ($wanted, $pattern)
check() {
    local status=0 last
    "$@" >out 2>err || status=$?
    last=$(tail -1 err)
    [ "$status" = "$wanted" ] || { tail -3 err; fail "$row: status $status of: $*"; }
    [ -z "$pattern" ] || [[ $last =~ $pattern ]] || fail "$row: '$last' of: $*"
    # a sweep lists failures on stdout
    [[ $wanted != [12] || $row = "a sweep"* || $last =~ ^dml(\ [a-z]+)?:\ . ]] ||
        fail "$row: '$last' of: $*"
}

# pattern_of CELL: of the messages that it begins with, `one` or `two` or ...
pattern_of() {
    sed -nE 's/^ *(`[^`]*`( or `[^`]*`)*).*/\1/; t found; d; :found; s/` or `/\n/g; s/`//g; p' <<<"$1" |
        sed -E "s/[][().*+?{}|^\$\\\\]/\\\\&/g; s/'[^']*'/'.*'/g; s/PATH|HOST/.*/g
            s/[0-9]+(,[0-9]{3})*/[0-9]+/g" | paste -sd '|'
}

# The table's rows.
while IFS='|' read -r _ row wanted last _; do
    row=$(sed 's/^ *//; s/ *$//' <<<"$row") wanted=${wanted// /}
    pattern=$(pattern_of "$last")
    wanted=${wanted%%,*}
    rows=$((rows + 1))
    began=$(date +%s%N)
    provoke "$row"
    echo "$row: $((($(date +%s%N) - began) / 1000000)) ms"
done < <(sed -n '/^## Exit status and last line/,$p' "$source/docs/RELIABILITY.md" | grep '^|' | tail -n +3)
echo "$rows rows, $failures failures"
[ "$failures" = 0 ] && [ "$rows" -gt 0 ]
