#!/usr/bin/env bash
# Flags with values that nobody means: numbers out of all bounds, commands, formats, endless lists,
# bytes that are no text. The command has to work, or to end with status 1 or 2 and a line of its own;
# nothing that a flag says is run, and no raw byte reaches the terminal.
#     tests/test_flags.sh build/dml .
# DML_TRIES: how many command lines (40). DML_TRIES_SEED: which.
set -euo pipefail
dml=$(realpath "$1") source=$(cd "$2" && pwd)
tries=${DML_TRIES:-40}
RANDOM=${DML_TRIES_SEED:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 # so small a network gains little by more
fail() { echo "FAILED: $*" >&2; exit 1; }

mkdir -p "$work/so/deep" # that .. is in there as well
cd "$work/so/deep"
mkdir -p data/few/images
cp -r "$source/data/emoji200/images/"00[1-4].* data/few/images/
network=(--arch resnet18_normalize --not_pretrained --image_size 32 --embed_dim 8)
train=("${network[@]}" --dataset few --source_path data --bs 4 --n_epochs 1 --kernels 1 --seed 0
    --evaluation_metrics e_recall@1 --no_plots --state_minutes 1000)
"$dml" train "${train[@]}" --save_path runs --savename one >log 2>&1 || { cat log; exit 1; }
checkpoint=runs/few/one/checkpoint_Test_discriminative_e_recall@1.safetensors
"$dml" embed --checkpoint "$checkpoint" --images data/few --out e >log 2>&1 || { cat log; exit 1; }

# Each command with the flags of a small job, which writes into a folder of its own.
commands=(train eval embed search report augment)
flags_train=("${train[@]}" --save_path out)
flags_eval=(--embeddings e_embeddings.npy --labels e_labels.npy)
flags_embed=(--checkpoint "$checkpoint" --images data/few --out out/e)
flags_search=(--checkpoint "$checkpoint" --gallery data/few --query data/few/images/002.* --html out/p.html)
flags_report=(--save_path runs --output out/table)
flags_augment=("$(find data/few -name '*.jpg' | sort | head -1)" --out out/a.png)

long=$(printf 'flip %.0s' {1..1000})
numbers=(0 -1 1 2 3 7 0.5 1e-30 1e30 -1e30 1e309 inf nan 9223372036854775807 -9223372036854775808
    2147483648 4294967297 1000000 0x10 1e '' '1 2' ' 1' 1,5 ٣)
texts=('' x . .. missing/a /proc/self/mem "$(printf 'a%.0s' {1..5000})" $'\e[31mred' "'; touch CAUGHT; '"
    '$(touch CAUGHT)' '`touch CAUGHT`' '%s%n%s' '{0..1000000}' $'a\nb' $'\xff\xfe' data runs/runs.sqlite
    '(((((' 'margin(beta=1)' 1e9999 none,none "$long" data/few/images '</script>' - -- a/../../b)

declare -A status_count=()
for ((i = 0; i < tries; i++)); do
    command=${commands[RANDOM % ${#commands[@]}]}
    declare -n flags="flags_$command"
    # Lines as "  --bs N   Images of a batch."; --ranks would start processes.
    mapfile -t own < <("$dml" "$command" --help | sed -nE 's/^  --(\w+)( [A-Z]+)?( \.\.\.)?( .*)?$/\1\2/p' |
        grep -vw 'help\|ranks')
    read -r name kind <<<"${own[RANDOM % ${#own[@]}]}"
    case $kind in
    N | X) values=("${numbers[@]}" "${texts[@]:0:4}") ;;
    *) values=("${texts[@]}") ;;
    esac
    tried=("--$name" "${values[RANDOM % ${#values[@]}]}")
    [ -n "$kind" ] || tried=("--$name")
    rm -rf out
    mkdir out
    status=0
    timeout 300 "$dml" "$command" "${flags[@]}" "${tried[@]}" >said 2>err </dev/null || status=$?
    what="dml $command ${tried[*]@Q}: status $status, $(tail -1 err)"
    case $status in
    0) ;;
    1 | 2) tail -1 err | grep -aq "^dml $command: " || fail "no line of its own: $what" ;;
    *) fail "$what" ;;
    esac
    ! grep -aqE 'Sanitizer|runtime error' err || { cat err; fail "$what"; }
    ! grep -aq $'\e' said err || fail "an escape code: $what"
    [ ! -e CAUGHT ] || fail "it was run: $what"
    status_count[$status]=$((${status_count[$status]:-0} + 1))
done
echo "$tries command lines: ${status_count[0]:-0} worked, ${status_count[1]:-0} failed," \
    "${status_count[2]:-0} were refused"
