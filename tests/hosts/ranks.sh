#!/usr/bin/env bash
# Training on two hosts: network namespaces with names, processes and a loopback of their own, and
# between them a link that delays packets and loses some. Two ranks leave what one process leaves, to
# the bit; a rank of the other host that stops or dies is named in one line, and the run goes on from
# its state. Needs root, Linux' tun devices and Open MPI; exit status 77 where one is missing, but for
# CI, where that fails.
set -euo pipefail
dml=$1 source=$2 link=$3 hang=$(dirname "$1")/libhosts_strike.so
fail() { echo "FAILED: $*" >&2; exit 1; }
skip() {
    [ "${CI:-}" != true ] || fail "nothing is left out in CI: $*"
    echo "skipped: $*"
    exit 77
}
here=dml$$-a there=dml$$-b
[ -e "$(dirname "$dml")/libdml_mpi.so" ] || skip "this build leaves out many processes"
mpirun --version 2>/dev/null | grep -q "Open MPI\|OpenRTE" || skip "mpirun is not Open MPI's"
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
command -v ip >/dev/null || skip "ip (iproute2) is not installed"
[ -e /dev/net/tun ] || skip "there is no /dev/net/tun"
unshare --uts --pid --fork --mount-proc true 2>/dev/null || skip "namespaces of processes are not allowed"
ip netns add $here 2>/dev/null || skip "network namespaces are not allowed"
work=$(mktemp -d)
run=
clean() {
    exec 8>&- # upon which the link ends
    [ -z "$run" ] || kill -KILL "$run" 2>/dev/null || true
    for space in $here $there; do
        ip netns pids $space 2>/dev/null | xargs -r kill -KILL 2>/dev/null || true
        ip netns del $space 2>/dev/null || true
    done
    rm -rf "$work"
}
trap clean EXIT
ip netns add $there

# 2 ms each way, and 5 packets of 1000 are lost
mkfifo "$work/pipe"
"$link" $here $there dml0 2 5 <"$work/pipe" >"$work/said" 2>&1 &
exec 8>"$work/pipe"
until grep -q ready "$work/said"; do
    kill -0 $! 2>/dev/null || skip "$(cat "$work/said")"
    sleep 0.05
done
number=1
for space in $here $there; do
    ip -n $space link set lo up
    ip -n $space link set dml0 mtu 9000 up
    ip -n $space address add 10.77.0.$number/24 dev dml0
    number=2
done
# what ssh would be: agent HOST COMMAND...
cat >"$work/agent" <<EOF
#!/bin/bash
shift
exec ip netns exec $there unshare --uts --pid --fork --kill-child --mount-proc \\
    bash -c 'hostname there; eval "\$1"' bash "\$*"
EOF
chmod +x "$work/agent"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_orte_execute_quiet=1 \
    OMPI_MCA_plm_rsh_agent=$work/agent PRTE_MCA_plm_ssh_agent=$work/agent \
    OMPI_MCA_odls_base_sigkill_timeout=3 PRTE_MCA_odls_base_sigkill_timeout=3 \
    OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_base_warn_component_unused=0 HWLOC_HIDE_ERRORS=2 \
    OMP_NUM_THREADS=1

mkdir -p "$work/data/emoji6/images"
cp -r "$source/data/emoji200/images"/00[1-6].* "$work/data/emoji6/images/"
base=(--dataset emoji6 --source_path "$work/data" --arch resnet18_frozen_normalize --not_pretrained
    --image_size 32 --embed_dim 8 --bs 16 --lr 0.001 --save_path "$work/runs" --kernels 1
    --evaluation_metrics e_recall@1 --no_train_metrics --no_plots --n_epochs 3 --state_minutes 0)
folder=$work/runs/emoji6/two

# on_two FLAGS...: starts a rank on each host
on_two() {
    rm -f "$work/errors"
    ip netns exec $here unshare --uts bash -c 'hostname here; exec "$@"' bash mpirun -n 2 \
        --host 10.77.0.1,10.77.0.2 --bind-to none -x OMP_NUM_THREADS \
        "$dml" train "$@" >"$work/log" 2>"$work/errors" &
    run=$!
}
# until COMMAND...: waits for what it finds, while the run is at work
until_it() {
    until "$@" 2>/dev/null; do
        kill -0 "$run" 2>/dev/null || { cat "$work/log" "$work/errors"; fail "it ended before that"; }
        sleep 0.05
    done
}
has_epochs() { [ "$(wc -l <"$folder/CSV_Logs/Data_Train_loss.csv")" = $(($1 + 1)) ]; }
# strike SIGNAL: for the rank on the other host
strike() {
    local rank=
    for process in $(ip netns pids $there); do
        [ "$(readlink "/proc/$process/exe")" != "$(readlink -f "$dml")" ] || rank=$process
    done
    kill -"$1" "$rank"
}
# named TEXT: the run fails, and one line of ours says so
named() {
    local code=0
    wait "$run" || code=$?
    run=
    [ $code != 0 ] && [ "$(grep -c "^dml train: " "$work/errors")" = 1 ] &&
        grep -q "^dml train: $1" "$work/errors" ||
        { cat "$work/log" "$work/errors"; fail "status $code, not '$1'"; }
}

echo "a rank of another host that does not answer is named, and so is one that dies"
on_two "${base[@]}" --savename two --rank_limit 4
until_it has_epochs 1
strike STOP
named "rank 1 of 2 is lost: its process [0-9]* on there has not answered for 4 s (--rank_limit)$"
grep -q "^  rank 0    here, process" "$work/log" && grep -q "^  rank 1    there, process" "$work/log" ||
    { cat "$work/log"; fail "the hosts are not in the table of the ranks"; }
on_two --resume "$folder" --rank_limit 4
until_it has_epochs 2
strike KILL
# mpirun ends the others; one that is slow to notice hears nothing of the rank for 4 s
ended="this run is being ended from outside while rank 1 of 2, process [0-9]* on there,"
named "\($ended does not answer\|rank 1 of 2 is lost: its process [0-9]* on there \)"

echo "also while MPI does not return from a call, as Open MPI 4.1 when the connection breaks in it"
LD_PRELOAD=$hang STRIKE=hang STRIKE_RANK=0 STRIKE_AT=send STRIKE_TIMES=5 \
    on_two --resume "$folder" --rank_limit 60
until_it grep -q "a call hangs" "$work/errors"
strike KILL
named "$ended does not answer: it may be lost"
LD_PRELOAD=$hang STRIKE=hang STRIKE_RANK=0 STRIKE_AT=send STRIKE_TIMES=5 \
    on_two --resume "$folder" --rank_limit 4
until_it grep -q "a call hangs" "$work/errors"
strike STOP # woken by mpirun at the end, it may have a word of its own
code=0
wait "$run" || code=$?
run=
[ $code = 1 ] && grep -q "^dml train: rank 1 of 2 is lost: a call of MPI for its process [0-9]* on there has not returned for [0-9.]* s, twice --rank_limit$" "$work/errors" ||
    { cat "$work/log" "$work/errors"; fail "status $code of a call that never returns"; }

echo "the run goes on to what one process would have made of it"
on_two --resume "$folder"
wait "$run" || { cat "$work/log" "$work/errors"; fail "going on"; }
run=
"$dml" train "${base[@]}" --savename one --micro_bs 8 >"$work/log" 2>&1 ||
    { cat "$work/log"; fail "one process"; }
# data_of FILE prints its tensors without the header, which holds the flags
data_of() { tail -c +$((9 + $(od -An -tu8 -N8 "$1"))) "$1"; }
for file in state checkpoint_Test_discriminative_e_recall@1; do
    cmp <(data_of "$work/runs/emoji6/one/$file.safetensors") \
        <(data_of "$folder/$file.safetensors") || fail "$file: two hosts are not one process"
done
