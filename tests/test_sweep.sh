# Runs sweeps of tiny trainings: refused lines, a kill in the middle, going on, failures, and a
# report whose means are those of the CSV files.
set -eu
dml=$1
source=$2
work=$(mktemp -d "${TMPDIR:-/tmp}/dml-sweep-XXXXXX")
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1
unset WANDB_API_KEY || true

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

# Eight classes of the bundled images.
mkdir -p "$work/data/few/images"
ls "$source/data/emoji200/images" | sed -n 1,8p | while read -r class; do
    ln -s "$source/data/emoji200/images/$class" "$work/data/few/images/$class"
done
runs=$work/runs
cat >"$work/small.txt" <<EOF
# three criteria, two seeds
all --dataset few --source_path $work/data --save_path $runs --arch resnet18_normalize \\
    --not_pretrained --image_size 32 --n_epochs 3 --bs 8 --samples_per_class 2 --embed_dim 8 \\
    --kernels 1 --no_plots --project small --seed {0..1} \\
    --evaluation_metrics e_recall@1 nmi dists@intra rho_spectrum@1
--group CUB_{1:Margin_b12,Triplet}_Distance --loss {1:margin,triplet} --batch_mining distance
dml train --group CUB_MS --loss multisimilarity
EOF

# A line that is wrong is refused before anything runs, with its number.
for bad in "--loss margin --lss triplet|did you mean|6" "--loss margn|margin|6" "margin|neither|6" \
    '--source_path $NOT_SET_ANYWHERE|NOT_SET_ANYWHERE|6' "--loss 'margin|not closed|6" \
    "--arch resnet18 --micro_bs 8 --bs 16|only frozen ones|6"; do
    head -5 "$work/small.txt" >"$work/bad.txt"
    echo "${bad%%|*}" >>"$work/bad.txt"
    rest=${bad#*|}
    ! "$dml" sweep "$work/bad.txt" >"$work/out" 2>&1 || fail "accepted: $bad"
    grep -q "bad.txt:${rest#*|}: .*${rest%|*}" "$work/out" || fail "$bad: $(cat "$work/out")"
    [ ! -e "$runs" ] || fail "something was written for: $bad"
done
! "$dml" sweep "$work/none.txt" 2>"$work/out" || fail "accepted a missing file"
grep -q none.txt "$work/out" || fail "missing file is not named"

# Killed in the middle: it and its run end; what was finished is not repeated.
"$dml" sweep "$work/small.txt" >"$work/first" 2>&1 &
sweep=$!
for _ in $(seq 600); do
    [ "$(grep -c '^finished' "$work/first")" -ge 2 ] && break
    kill -0 $sweep || fail "the sweep ended early: $(cat "$work/first")"
    sleep 0.2
done
kill -9 $sweep
wait $sweep 2>/dev/null || true
"$dml" sweep "$work/small.txt" --status >"$work/status"
grep -q '^6 runs: [2345] finished, 0 failed' "$work/status" || fail "$(cat "$work/status")"
for _ in $(seq 300); do # the run that was under way stops after its step
    pgrep -f "train --dataset few --source_path $work/data" >/dev/null || break
    sleep 0.2
done
done_before=$("$dml" sweep "$work/small.txt" --status | sed -n 's/.*runs: \([0-9]*\) finished.*/\1/p')
"$dml" sweep "$work/small.txt" --jobs 2 >"$work/second" 2>&1 || fail "$(cat "$work/second")"
[ "$(grep -c '^started' "$work/second")" = $((6 - done_before)) ] || fail "$(cat "$work/second")"
grep -q '^6 runs: 6 finished, 0 failed' "$work/second" || fail "$(cat "$work/second")"
"$dml" sweep "$work/small.txt" >"$work/third" 2>&1
! grep -q '^started' "$work/third" || fail "finished runs were repeated"

# Two processes, as on two machines or started by mpirun, share the runs.
sed "s|--save_path $runs|--save_path $work/shared|; s/--n_epochs 3/--n_epochs 1/; s/nmi.*//" \
    "$work/small.txt" >"$work/shared.txt"
OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0 "$dml" sweep "$work/shared.txt" >"$work/left" 2>&1 &
left=$!
OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1 "$dml" sweep "$work/shared.txt" >"$work/right" 2>&1 ||
    fail "$(cat "$work/right")"
wait $left || fail "$(cat "$work/left")"
"$dml" sweep "$work/shared.txt" --status >"$work/status"
grep -q '^6 runs: 6 finished, 0 failed' "$work/status" || fail "$(cat "$work"/{left,right,status})"
[ "$(cat "$work/left" "$work/right" | grep -c '^started')" = 6 ] &&
    [ "$(cat "$work/left" "$work/right" | grep '^started' | sort -u | wc -l)" = 6 ] &&
    grep -q '^started' "$work/left" && grep -q '^started' "$work/right" ||
    fail "not every run was done once: $(cat "$work/left" "$work/right")"
! ls "$work/shared/sweeps/shared/"*.lock 2>/dev/null || fail "claims stay"

# Means and deviations by hand from the CSV files of the finished runs.
"$dml" report --save_path "$runs" --format csv --output "$work/report.csv"
[ "$(grep -c '^few,' "$work/report.csv")" = 3 ] || fail "$(cat "$work/report.csv")"
best() { awk -F, 'NR > 1 && (NR == 2 || $1 > m) { m = $1 } END { printf "%.17g", m }' "$1"; }
for group in CUB_Margin_b12_Distance CUB_Triplet_Distance CUB_MS; do
    values=
    for seed in 0 1; do
        for run in "$runs/few/${group}_s$seed"*; do
            grep -q '"status":.*"finished"' "$run/summary.json" || continue
            values="$values $(best "$run/CSV_Logs/Data_Test_discriminative_e_recall.csv")"
        done
    done
    echo "$values" | awk -v row="$(grep ",$group," "$work/report.csv")" '{
        if (NF != 2) { print "runs: " NF; exit 1 }
        split(row, cells, ","); mean = ($1 + $2) / 2
        deviation = $1 > $2 ? ($1 - $2) / 2 : ($2 - $1) / 2
        if (cells[4] != 2 || (cells[7] - mean)^2 > 1e-24 || (cells[8] - deviation)^2 > 1e-24) {
            print row ": not " mean " and " deviation; exit 1 } }' || fail "$group"
done
"$dml" report --save_path "$runs" --figures "$work/figures" --html "$work/page.html" >"$work/table"
grep -q 'CUB_MS' "$work/table" || fail "$(cat "$work/table")"
for figure in ranking relation correlation; do
    [ -s "$work/figures/${figure}_few.svg" ] || fail "no figure $figure"
done
grep -q 'data:image/svg+xml;base64' "$work/page.html" || fail "the page has no figures"
"$dml" report --save_path "$runs" --format latex --output "$work/table.tex"
if command -v pdflatex >/dev/null; then
    {
        echo '\documentclass{article}\begin{document}'
        cat "$work/table.tex"
        echo '\end{document}'
    } >"$work/document.tex"
    (cd "$work" && pdflatex -halt-on-error document.tex >latex.log) || fail "$(cat "$work/latex.log")"
fi

# A run that fails is listed with its error, stays so, and can be tried again.
cat >"$work/failing.txt" <<EOF
--dataset none --source_path $work/data --save_path $runs --not_pretrained --no_plots
EOF
! "$dml" sweep "$work/failing.txt" >"$work/out" 2>&1 || fail "a failed run is a success"
grep -q '^failed .*none' "$work/out" || fail "$(cat "$work/out")"
! "$dml" sweep "$work/failing.txt" >"$work/out" 2>&1
grep -q '0 finished, 1 failed' "$work/out" || fail "$(cat "$work/out")"
! grep -q '^started' "$work/out" || fail "a failed run was repeated unasked"
! "$dml" sweep "$work/failing.txt" --retry >"$work/out" 2>&1
grep -q '^started' "$work/out" || fail "--retry does nothing"

# The key is in no file and in no process's command line.
sed 's/--n_epochs 3/--n_epochs 1/' "$work/small.txt" >"$work/online.txt"
PATH=/usr/bin:/bin "$dml" sweep "$work/online.txt" --wandb_key s3cr3tk3y -- --log_online \
    --tensorboard --project online >"$work/out" 2>&1 &
sweep=$!
sleep 1
! grep -aqs 's3cr3tk3y' "/proc/$sweep/cmdline" || fail "the key is in the sweep's command line"
while kill -0 $sweep 2>/dev/null; do
    for line in /proc/[0-9]*/cmdline; do
        ! grep -aqs 'dml.train.*s3cr3tk3y' "$line" || fail "the key is in $line"
    done
    sleep 0.1
done
wait $sweep || fail "$(cat "$work/out")"
! grep -raq s3cr3tk3y "$runs" "$work/out" || fail "the key is in a file"
[ "$(ls -d "$runs"/wandb/offline-run-* | wc -l)" = 6 ] || fail "not all runs are offline runs"
echo ok
