#!/usr/bin/env bash
# Training on many processes: N ranks leave what one process with --micro_bs of a rank's part leaves,
# to the bit, whatever the sampler; runs go on with another number of ranks; what differs between
# ranks is told in one line, and so is a rank that is lost: the run goes on from its state.
set -euo pipefail
dml=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

if ! [ -e "$(dirname "$dml")/libdml_mpi.so" ]; then
    echo "this build leaves out many processes"
    "$dml" train --ranks 2 --n_epochs 0 >"$work/log" 2>&1 && fail "--ranks without MPI"
    [ "$(grep -c "many processes\|mpirun cannot be started" "$work/log")" = 1 ] ||
        { cat "$work/log"; fail "--ranks without MPI does not say why"; }
    exit 0
fi

mkdir -p "$work/data/emoji12/images"
cp -r "$source/data/emoji200/images"/00?.* "$source/data/emoji200/images"/01[0-2].* \
    "$work/data/emoji12/images/"
# images that cannot be decoded, so that others take their place on the ranks that have them: PNG
# files of 40 x 40 whose data are none
broken() {
    printf '\211\120\116\107\015\012\032\012\000\000\000\015\111\110\104\122\000\000\000\050\000'
    printf '\000\000\050\010\002\000\000\000\003\234\057\072\000\000\000\021\111\104\101\124\156'
    printf '\157\040\160\151\170\145\154\163\040\151\156\040\150\145\162\145\232\032\142\317\000'
    printf '\000\000\000\111\105\116\104\256\102\140\202'
}
for victim in $(find "$work/data/emoji12/images"/00[123].* -name '*.*g' | sort | sed -n '1~3p'); do
    rm "$victim"
    broken >"${victim%.*}.png"
done

export OMP_NUM_THREADS=1
base=(--dataset emoji12 --source_path "$work/data" --arch resnet18_frozen_normalize --not_pretrained
    --image_size 32 --embed_dim 8 --bs 16 --lr 0.001 --save_path "$work/runs" --kernels 2
    --evaluation_metrics e_recall@1 --no_plots --n_epochs 3)
# train NAME FLAGS...
train() {
    local name=$1
    shift
    "$dml" train "${base[@]}" --savename "$name" "$@" >"$work/$name.log" 2>&1 ||
        { cat "$work/$name.log"; return 1; }
}
folder() { echo "$work/runs/emoji12/$1"; }
# data_of FILE prints its tensors without the header, which holds the flags
data_of() { tail -c +$((9 + $(od -An -tu8 -N8 "$1"))) "$1"; }
same() {
    for file in state checkpoint_Test_discriminative_e_recall@1; do
        cmp <(data_of "$(folder "$1")/$file.safetensors") \
            <(data_of "$(folder "$2")/$file.safetensors") || fail "$1 and $2 differ in $file"
    done
    cmp <(cut -d, -f1 "$(folder "$1")/CSV_Logs/Data_Train_loss.csv") \
        <(cut -d, -f1 "$(folder "$2")/CSV_Logs/Data_Train_loss.csv") || fail "$1, $2: other losses"
}

echo "2 and 4 ranks are one process in pieces"
for ranks in 2 4; do
    train "pieces$ranks" --micro_bs $((16 / ranks))
    train "ranks$ranks" --ranks $ranks
    same "pieces$ranks" "ranks$ranks"
done
grep -q "by rank [123]; another image of its class takes its place" "$work/ranks4.log" ||
    { cat "$work/ranks4.log"; fail "the image is not told"; }
! grep -q $'\033' "$work/ranks4.log" || fail "a log has a terminal's codes"
grep -q "^  rank 3  " "$work/ranks4.log" || fail "there is no table of the ranks"
[ "$(grep -c "^  rank [0-3]  .*, 1 thread: .* images/s, .* %$" "$work/ranks4.log")" = 4 ] ||
    fail "how fast the ranks are is not told once"
"$dml" report --save_path "$work/runs" --html "$work/page.html" >/dev/null 2>"$work/errors" &&
    [ "$(grep -c "^<tr><td>3</td><td>.*</td><td>1</td><td>.*%</td></tr>$" "$work/page.html")" = 1 ] ||
    { cat "$work/errors"; fail "the report's page has no table of the ranks"; }
[ "$(ls "$work/runs/emoji12" | wc -l)" = 4 ] || fail "a run has more than one folder"

echo "ranks embed and evaluate together, to what one process makes of it"
images=(--checkpoint "$(folder pieces2)/checkpoint_Test_discriminative_e_recall@1.safetensors"
    --source_path "$work/data")
intact=(--images "$work/data/emoji12/images"/0{04,05,06,07,08}.*)
"$dml" embed "${images[@]}" "${intact[@]}" --out "$work/one" >/dev/null 2>&1 || fail "embed"
"$dml" eval --json "${images[@]}" >"$work/one.json" 2>/dev/null || fail "eval"
"$dml" embed "${images[@]}" "${intact[@]}" --out "$work/many" --ranks 3 >"$work/log" 2>&1 ||
    { cat "$work/log"; fail "embed --ranks 3"; }
[ "$(grep -c "^$work/many_embeddings.npy: [0-9]* embeddings of 8 dimensions$" "$work/log")" = 1 ] ||
    { cat "$work/log"; fail "what was embedded is not told once"; }
for file in embeddings.npy labels.npy paths.txt; do
    cmp "$work/one_$file" "$work/many_$file" || fail "embed --ranks 3"
done
"$dml" eval --json "${images[@]}" --ranks 2 >"$work/many.json" 2>"$work/log" ||
    { cat "$work/log"; fail "eval --ranks 2"; }
cmp "$work/one.json" "$work/many.json" || fail "eval --ranks 2"
"$dml" eval --json --embeddings "$work/one_embeddings.npy" --labels "$work/one_labels.npy" \
    --metrics nmi >"$work/one.json" 2>/dev/null || fail "eval of files"
"$dml" eval --json --embeddings "$work/one_embeddings.npy" --labels "$work/one_labels.npy" \
    --metrics nmi --ranks 2 >"$work/many.json" 2>/dev/null || fail "eval of files, --ranks 2"
cmp "$work/one.json" "$work/many.json" || fail "eval of files, --ranks 2"

echo "a run goes on after it has lost a rank, wherever that is, to what it would have been"
# struck STRIKE RANK AT WHAT TIMES: the run goes on until that happens to the rank (tests/hosts/strike.c)
struck() {
    local code=0 start=(--resume "$(folder lost)")
    local text="rank $2 of 2 is lost: its process [0-9]* on .* has ended"
    [ -e "$(folder lost)" ] || start=("${base[@]}" --savename lost --state_minutes 0)
    [ "$1" != stop ] && [ "$1" != hang ] || text=${text/has ended/has not answered for 3 s (--rank_limit)}
    # others may have come before it was there
    [ "$3" != init ] || text=".*rank $2 \(${text#rank $2 }\|is stopped\|was not seen on .*\)"
    LD_PRELOAD=$(dirname "$dml")/libhosts_strike.so STRIKE=$1 STRIKE_RANK=$2 STRIKE_AT=$3 \
        STRIKE_WHAT=$4 STRIKE_TIMES=$5 "$dml" train "${start[@]}" --ranks 2 \
        --rank_limit $([ "$1" = stop ] || [ "$1" = hang ] && echo 3 || echo 20) >"$work/log" 2>"$work/errors" || code=$?
    [ $code = 1 ] && [ "$(grep -c "^dml train: " "$work/errors")" = 1 ] &&
        grep -q "^dml train: $text$" "$work/errors" ||
        { cat "$work/log" "$work/errors"; fail "$*: status $code"; }
}
images=$(find "$work/data/emoji12/images" -name '*.*g' | wc -l) # each is looked at at the start
struck kill 1 init "" 1                       # it has not yet come
struck kill 1 open /images/ $((images + 5))   # it loads
struck exit 1 send 328 2                      # embeddings, labels and indices
struck hang 0 send 328 2                      # MPI does not return from that
struck kill 0 send 1048576 1                  # gradients
struck kill 1 send 992 1                      # embeddings of test images
struck exit 0 rename checkpoint_Test 1        # it writes a checkpoint
go_on() {
    "$dml" train --resume "$(folder lost)" --ranks 2 >"$work/log" 2>&1 ||
        { cat "$work/log"; fail "going on after lost ranks"; }
    same pieces2 lost
    rm -r "$(folder lost)"
}
go_on
if [ "${DML_STRIKES:-}" = all ]; then # whatever happens to whomever wherever
    for at in 'init "" 1' "open /images/ $((images + 5))" 'send 328 1' 'send 1048576 1' "open /images/ $((images + 16))" \
        'rename checkpoint_Test 1'; do
        [ "$at" != "open /images/ $((images + 16))" ] || # the last step and the evaluation are left
            struck kill 0 rename checkpoint_Test 1
        for strike in kill stop exit hang; do
            [ $strike != hang ] || [[ $at = send* ]] || continue # a call of MPI that never returns
            for rank in 0 1; do
                echo "  $strike, rank $rank, $at"
                case "$rank $at" in # while rank 0 writes the checkpoint, others wait for it
                1\ rename*) struck $strike 1 receive 1 2 ;;
                *) eval "struck $strike $rank $at" ;;
                esac
            done
        done
        [ "$at" != 'init "" 1' ] || continue # nothing to go on from
        go_on
    done
fi

echo "a run goes on with other numbers of ranks, and from a file that rank 0 alone needs"
pieces=(4 8 16) ranks=(4 2 1)
for i in 0 1 2; do
    going=(--n_epochs $((i + 1)))
    [ $i = 0 ] || going+=(--resume)
    "$dml" train "${base[@]}" "${going[@]}" ${going[2]:+"$(folder alone)"} --micro_bs ${pieces[i]} \
        $([ $i = 0 ] && echo --savename alone) >"$work/log" 2>&1 || { cat "$work/log"; fail "alone $i"; }
    "$dml" train "${base[@]}" "${going[@]}" ${going[2]:+"$(folder changing)"} --micro_bs 0 \
        --ranks ${ranks[i]} $([ $i = 0 ] && echo --savename changing) >"$work/log" 2>&1 ||
        { cat "$work/log"; fail "changing $i"; }
done
same alone changing

echo "every sampler plans the same batches everywhere"
for sampler in full_random greedy_coreset d2_coreset disthist_batchmatch fid_batchmatch; do
    flags=(--n_epochs 1 --optim sgd --data_sampler $sampler --data_batchmatch_bigbs 32
        --no_train_metrics --loss multisimilarity)
    [ $sampler != d2_coreset ] || # what else is kept from step to step
        flags+=(--n_epochs 3 --loss contrastive --xbm_size 40 --ema 0.9 --optim adam)
    train "one_$sampler" --micro_bs 8 "${flags[@]}"
    train "two_$sampler" --ranks 2 "${flags[@]}"
    same "one_$sampler" "two_$sampler"
done

echo "batch norm has the statistics of the whole batch, or of each rank's part"
# Training multiplies any rounding, that of another processor level as well
# (docs/CLUSTER.md has figures).
norm=(--arch resnet18_normalize --n_epochs 2 --optim sgd --lr 0.0001 --loss multisimilarity --bs 24
    --samples_per_class 2 --no_train_metrics)
train whole "${norm[@]}"
train synchronised --ranks 2 "${norm[@]}"
train apart --ranks 2 --no_sync_bn "${norm[@]}"
# distance A B: the largest between the losses of two runs
distance() {
    paste -d, "$(folder "$1")/CSV_Logs/Data_Train_loss.csv" \
        "$(folder "$2")/CSV_Logs/Data_Train_loss.csv" |
        awk -F, 'NR > 1 { d = $1 - $(NF / 2 + 1); d = d < 0 ? -d : d; m = d > m ? d : m }
            END { print m }'
}
awk -v d="$(distance whole synchronised)" 'BEGIN { exit !(d < 1e-5) }' ||
    fail "synchronised batch norm: the loss is $(distance whole synchronised) off"
awk -v d="$(distance whole apart)" 'BEGIN { exit !(d > 1e-5) }' || fail "--no_sync_bn has no effect"

echo "rank 0 saves the last finished step when it loses another in the middle of one"
LD_PRELOAD=$(dirname "$dml")/libhosts_strike.so STRIKE=stop STRIKE_RANK=1 STRIKE_AT=send \
    STRIKE_WHAT=1048576 STRIKE_TIMES=60 "$dml" train "${base[@]}" "${norm[@]}" --savename rescued \
    --state_minutes 100 --ranks 2 --rank_limit 3 >"$work/log" 2>&1 && fail "a stopped rank is not lost"
grep -q "^the state after step 1 is saved$" "$work/log" || { cat "$work/log"; fail "no state is saved"; }
"$dml" train --resume "$(folder rescued)" --ranks 2 >"$work/log" 2>&1 ||
    { cat "$work/log"; fail "going on from the saved step"; }
same synchronised rescued

# refused STATUS TEXT FLAGS...: one line, beside what Open MPI 5 adds, and that status
refused() {
    local status=$1 text=$2 code=0
    shift 2
    "$dml" train "${base[@]}" --savename refused "$@" >"$work/log" 2>"$work/errors" || code=$?
    [ $code = "$status" ] && [ "$(grep -c ^dml "$work/errors")" = 1 ] && grep -q -- "$text" "$work/errors" ||
        { cat "$work/log" "$work/errors"; fail "$*: status $code, not '$text'"; }
}
echo "what cannot be is refused in one line"
refused 2 "dml train: --bs 16 cannot be divided among 3 ranks" --ranks 3
refused 2 "dml train: --micro_bs 8 does not divide the 4 images" --ranks 4 --micro_bs 8
refused 2 "dml train: there is no parameter '--rnks'\|--rnks" --rnks 4
refused 1 "cannot be opened\|does not exist\|no such\|No such" --ranks 2 --source_path "$work/none"
refused 1 "dml train: /proc/none.*: " --ranks 2 --save_path /proc/none
refused 1 "dml train: --gpu 100[01]: " --ranks 2 --gpu 1000 1001
mkdir "$work/bin"
cp "$dml" "$work/bin/dml"
printf '#!/bin/bash\nPATH=%q exec %q "$@"\n' "$work/bin" "$(realpath "$dml")" >"$work/pathless"
chmod +x "$work/pathless"
dml=$work/pathless refused 1 "dml train: --ranks 2: mpirun cannot be started: .*(make deps-mpi" \
    --ranks 2
OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0 dml=$work/bin/dml refused 1 \
    "dml train: started as one of 2 processes, and this build does not support several: "

# As on machines that differ: each rank is given flags of its own.
cat >"$work/unlike.sh" <<'EOF'
#!/bin/bash
if [ "$OMPI_COMM_WORLD_RANK" = 0 ]; then
    exec "$DML" train "$@"
fi
[ -z "${DML_OTHER_LEVEL:-}" ] || export DML_LEVEL=$DML_OTHER_LEVEL
exec "${DML_OTHER_PROGRAM:-$DML}" train "$@" $DML_OTHER
EOF
chmod +x "$work/unlike.sh"
export DML=$dml OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_plm=isolated \
    OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_orte_execute_quiet=1
unlike() {
    local text=$1 code=0
    shift
    DML_OTHER="$*" mpirun -n 2 "$work/unlike.sh" "${base[@]}" --savename unlike >"$work/log" \
        2>"$work/errors" || code=$?
    [ $code != 0 ] && [ "$(grep -c ^dml "$work/errors")" = 1 ] && grep -q -- "$text" "$work/errors" ||
        { cat "$work/log" "$work/errors"; fail "rank 1 with $*: status $code, not '$text'"; }
}
echo "a rank that comes late, when others have ended, fails as they did"
cat >"$work/late.sh" <<'EOF'
#!/bin/bash
code=0
LD_PRELOAD=$LATE STRIKE=sleep STRIKE_AT=sent STRIKE_WHAT=1 STRIKE_TIMES=2 "$DML" train "$@" || code=$?
echo $code >>"$CODES"
sleep 4 # before mpirun ends the others
EOF
chmod +x "$work/late.sh"
for late in 0 2; do
    rm -f "$work/codes"
    LATE=$(realpath "$(dirname "$dml")/libhosts_strike.so") CODES=$work/codes STRIKE_RANK=$late mpirun \
        -n 3 "$work/late.sh" "${base[@]}" --savename late >"$work/log" 2>"$work/errors" || true
    [ "$(tr '\n' ' ' <"$work/codes")" = "2 2 2 " ] && [ "$(grep -c ^dml "$work/errors")" = 1 ] ||
        { cat "$work/codes" "$work/log" "$work/errors"; fail "rank $late comes late"; }
done

echo "ranks that differ are named"
version=$("$dml" --version | sed -n '1s/^dml \([0-9.]*\).*/\1/p')
mkdir "$work/later"
cp "$(dirname "$dml")/libdml_mpi.so" "$work/later/"
LC_ALL=C sed "s/${version//./\\.}/${version/#?/9}/g" "$dml" >"$work/later/dml" # as long, so it works
chmod +x "$work/later/dml"
DML_OTHER_PROGRAM=$work/later/dml unlike \
    "dml train: rank 1 (.*) is dml ${version/#?/9}, rank 0 (.*) is dml $version: all ranks need the same version"
unlike "dml train: rank 1 (.*): --lr: .*'fast'" --lr fast
unlike "dml train: rank 1 (.*): --lr is 0.002 here, and 0.001 for rank 0" --lr 0.002
cp -r "$work/data" "$work/other" && rm "$(find "$work/other" -name '*.*g' | sort | tail -1)"
unlike "dml train: the data set of rank 1 (.*) is not that of rank 0" --source_path "$work/other"
unlike "rank 1 (.*): .*none" --source_path "$work/none"
"$dml" --version | grep -q "kernels: x86-64-v2$" || ! "$dml" --version | grep -q "kernels: x86-64" ||
    DML_OTHER_LEVEL=v2 unlike "dml train: rank 1 (.*) has kernels for .*v2, rank 0 (.*) for "
weights=checkpoint_Test_discriminative_e_recall@1.safetensors
base=("${base[@]/--not_pretrained/--weights=$(folder pieces2)/$weights}")
unlike "the weights of rank 1 (.*) are not those of rank 0" --weights "$(folder one_full_random)/$weights"
