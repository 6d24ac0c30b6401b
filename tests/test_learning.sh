#!/usr/bin/env bash
# Optimisers, schedules, groups, clipping, averages and freezing in whole runs: what is logged and
# listed, that an interrupted run goes on to the last bit, and what bad input is told.
set -euo pipefail
dml=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_NUM_THREADS=1 # so small a network gains little by more
fail() { echo "FAILED: $*" >&2; exit 1; }

mkdir -p "$work/data/emoji16/images"
cp -r "$source/data/emoji200/images"/{00?,010,011,012,013,014,015}.* "$work/data/emoji16/images/"
base=(--dataset emoji16 --source_path "$work/data" --arch resnet18_normalize --not_pretrained
    --image_size 32 --embed_dim 16 --bs 16 --lr 0.001 --save_path "$work/runs" --kernels 1
    --evaluation_metrics e_recall@1 --no_train_metrics --no_plots)
train() { "$dml" train "${base[@]}" "$@" >"$work/log" 2>&1 || { cat "$work/log"; return 1; }; }
csv() { echo "$work/runs/emoji16/$1/CSV_Logs/Data_$2.csv"; }
# data_of STATE prints its tensors without the header, which holds the flags
data_of() { tail -c +$((9 + $(od -An -tu8 -N8 "$1"))) "$1"; }
note_of() { head -c 200000 "$work/runs/emoji16/$1/state.safetensors" | grep -ao '"dml_schedule":"[^}]*}'; }

# resumes NAME FLAGS...: a run stopped in its second epoch and gone on with is the whole one.
resumes() {
    local name=$1 pid status=0
    shift
    train --n_epochs 3 --savename "$name" "$@"
    "$dml" train "${base[@]}" --n_epochs 3 --savename "$name-cut" "$@" >"$work/log" 2>&1 &
    pid=$!
    for _ in $(seq 600); do
        [ "$(cat "$(csv "$name-cut" Train_epochs)" 2>/dev/null | wc -l)" -ge 2 ] && break
        sleep 0.05
    done
    kill -INT $pid 2>/dev/null || true
    wait $pid || status=$?
    [ $status = 1 ] || { cat "$work/log"; fail "$name: an interrupted run ended with $status"; }
    train --resume "$work/runs/emoji16/$name-cut"
    for log in Train_loss Train_learning; do
        cmp "$(csv "$name" $log)" "$(csv "$name-cut" $log)" || fail "$name: $log differs"
    done
    cmp <(data_of "$work/runs/emoji16/$name/state.safetensors") \
        <(data_of "$work/runs/emoji16/$name-cut/state.safetensors") || fail "$name: states differ"
    [ "$(note_of "$name")" = "$(note_of "$name-cut")" ] || fail "$name: another memory"
}

echo "interrupted runs go on to the last bit"
resumes cosine --optim adamw --scheduler cosine --warmup_steps 3 --ema 0.9 --clip_norm 0.5
grep -q "% of steps clipped" "$work/log" || fail "clipped steps are not told"
resumes onecycle --optim rmsprop --rmsprop_momentum 0.9 --scheduler onecycle --clip_value 0.001
resumes polynomial --optim sgd --sgd_nesterov --scheduler polynomial --freeze_backbone_epochs 1 \
    --ema 0.9 --ema_start first_step
resumes plateau --scheduler plateau --schedule_metric e_recall@1 --plateau_patience 0 \
    --plateau_factor 0.5 --plateau_threshold 1 --warmup_epochs 1
note_of plateau | grep -q 'reductions\\": 2' || { note_of plateau; fail "plateau does not reduce"; }
resumes exponential --optim lion --scheduler exponential --layer_decay 0.75 --decay_weights_only \
    --loss proxynca --criterion_lr 0.1 --criterion_decay 0.001

echo "rates of every group are logged"
head -1 "$(csv polynomial Train_learning)" | grep -qx "lr/backbone,lr/head,lr/criterion.beta,clipped_share" ||
    fail "other columns: $(head -1 "$(csv polynomial Train_learning)")"
sed -n 2p "$(csv polynomial Train_learning)" | grep -q '^0,0.00' || fail "a frozen backbone has a rate"
[ "$(sed -n '2,4s/,.*//p' "$(csv plateau Train_learning)" | tail -2 | tr '\n' ' ')" = "0.001 0.0005 " ] ||
    fail "plateau's rates: $(cat "$(csv plateau Train_learning)")"

echo "averaged weights are evaluated beside the plain ones, and kept"
for part in Test Test_EMA; do
    [ "$(wc -l <"$(csv cosine ${part}_discriminative_e_recall)")" = 4 ] || fail "no rows of $part"
    checkpoint="$work/runs/emoji16/cosine/checkpoint_${part}_discriminative_e_recall@1.safetensors"
    best=$(tail -n +2 "$(csv cosine ${part}_discriminative_e_recall)" | sort -g | tail -1)
    "$dml" eval --checkpoint "$checkpoint" --source_path "$work/data" --json >"$work/eval.json"
    grep -q "$best" "$work/eval.json" || { cat "$work/eval.json"; fail "$part: eval does not give $best"; }
done
cmp -s "$work/runs/emoji16/cosine"/checkpoint_Test{,_EMA}_discriminative_e_recall@1.safetensors &&
    fail "the average is the weights"

echo "a frozen parameter stays as it was"
train --n_epochs 1 --savename frozen --freeze 'layer1.*' --freeze_layers 1 --freeze_norms --optim adamw \
    --tau 1 30
grep -q "scheduler step: its rate is to change after 30 epochs, but the run has 1" "$work/log" ||
    fail "a time that the run does not reach is not told"
train --n_epochs 0 --savename start
tensor_of() { # of the tensor $2 in the state of run $1, as a checksum
    local file=$work/runs/emoji16/$1/state.safetensors header offsets
    header=$(od -An -tu8 -N8 "$file" | tr -d ' ')
    offsets=$(head -c $((8 + header)) "$file" | tail -c "$header" |
        grep -ao "\"$2\":{[^}]*}" | grep -o '"data_offsets":\[[0-9,]*' | grep -o '[0-9]*,[0-9]*')
    tail -c +$((9 + header + ${offsets%,*})) "$file" | head -c $((${offsets#*,} - ${offsets%,*})) | cksum
}
for name in conv1.weight layer1.0.conv1.weight layer2.0.bn1.weight layer4.1.bn2.bias; do
    [ "$(tensor_of frozen $name)" = "$(tensor_of start $name)" ] || fail "$name has learnt"
done
[ "$(tensor_of frozen layer2.0.conv1.weight)" != \
    "$(tensor_of start layer2.0.conv1.weight)" ] || fail "layer2 has not learnt"

echo "groups are listed with their rates and decays"
"$dml" train "${base[@]}" --layer_decay 0.5 --fc_lr 0.1 --decay 0.01 --decay_weights_only \
    --freeze 'bn1*' --param_groups 'layer4.*:lr=1e-5' 'criterion.*:decay=0.2' --list_groups >"$work/list"
has() { grep -Eq "^$1 +$2 +$3 +$4\$" "$work/list" || { cat "$work/list"; fail "no line for $1"; }; }
has conv1.weight backbone_layer0 1.9531.e-06 0.01
has layer1.0.bn1.weight backbone_layer1_no_decay 3.90625e-06 0
has layer4.1.conv2.weight 'layer4\.\*' 1e-05 0.01
has layer4.1.bn2.weight 'layer4\.\*_2' 1e-05 0
has last_linear.weight head 0.1 0.01
has last_linear.bias head_no_decay 0.1 0
has criterion.beta 'criterion\.\*' 0.0005 0.2
grep -Eq '^bn1.weight +frozen$' "$work/list" || fail "bn1 is not frozen"
[ ! -e "$work/runs/emoji16/emoji16" ] || fail "a list trains"

# bad PATTERN FLAGS...: status 2, and one line before training
bad() {
    local pattern=$1 status=0
    shift
    "$dml" train "${base[@]}" --n_epochs 4 "$@" >"$work/out" 2>"$work/err" || status=$?
    [ $status = 2 ] || { cat "$work/err"; fail "status $status for: $*"; }
    [ "$(wc -l <"$work/err")" = 1 ] && grep -q -- "$pattern" "$work/err" ||
        { cat "$work/err"; fail "no '$pattern': $*"; }
}
echo "bad input: one line that names the culprit"
bad "there is no optimiser 'adamm', did you mean 'adam'" --optim adamm
bad "there is no schedule 'cosin', did you mean 'cosine'" --scheduler cosin
bad "--schedule_epochs 9: longer than the run of 4 epochs" --scheduler cosine --schedule_epochs 9
bad "--warmup_epochs 4: a run of 4 epochs is over by then" --warmup_epochs 4
bad "--warmup_epochs 2: --schedule_epochs 2 is over by then" --warmup_epochs 2 --schedule_epochs 2
bad "--warmup_steps 5000: the schedule of [0-9]* steps is over by then" --warmup_steps 5000
bad "cannot be given together" --warmup_steps 5 --warmup_epochs 1
bad "onecycle has a warm-up of its own" --scheduler onecycle --warmup_epochs 1
bad "onecycle has no rate after --schedule_epochs 3" --scheduler onecycle --schedule_epochs 3
bad "--schedule_metric nmi: is neither" --scheduler plateau --schedule_metric nmi
bad "--param_groups layer9.\*:lr=1: matches no parameter" --param_groups 'layer9.*:lr=1'
bad "'rate=1' is neither lr=X nor decay=X" --param_groups 'layer4.*:rate=1'
bad "layer4.\*: is not of the form" --param_groups 'layer4.*'
bad "--freeze stem: matches no parameter" --freeze stem
bad "--freeze_layers 99: resnet18_normalize has 9 layers that can be frozen" --freeze_layers 99
bad "--freeze_backbone_epochs 4: a run of 4 epochs is over by then" --freeze_backbone_epochs 4
bad "--ema: 1 is out of bounds" --ema 1
bad "--layer_decay: 0 is out of bounds" --layer_decay 0
echo "all passed"
