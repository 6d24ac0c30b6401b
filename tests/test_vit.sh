#!/usr/bin/env bash
# Vision transformers from the outside: training, pieces, resuming, and pretrained backbones without
# a run. Called with the program and the source folder.
set -euo pipefail
dml=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

# says STATUS TEXT COMMAND...: the command fails so, with one line on stderr that holds TEXT.
says() {
    local expected=$1 text=$2 status=0
    shift 2
    "$dml" "$@" >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = "$expected" ] || fail "status $status, not $expected: $*: $(cat "$work/err")"
    grep -qF -- "$text" "$work/err" || fail "'$(cat "$work/err")' does not say '$text': $*"
    [ "$(wc -l <"$work/err")" = 1 ] || fail "not one line: $(cat "$work/err")"
}

mkdir -p "$work/emoji16/images"
cp -r "$source/data/emoji200/images"/00?.* "$source/data/emoji200/images"/01[0-5].* \
    "$work/emoji16/images/"
flags=(--dataset emoji16 --source_path "$work" --not_pretrained --image_size 32 --crop_area_min 0.5
    --embed_dim 16 --bs 16 --samples_per_class 4 --lr 0.0001 --loss softmax --kernels 1
    --no_plots --no_train_metrics --evaluation_metrics e_recall@1 --save_path "$work/runs")
train() { "$dml" train "${flags[@]}" "$@" >"$work/log" 2>&1 || { cat "$work/log"; fail "$*"; }; }
losses() { tail -n +2 "$work/runs/emoji16/$1/CSV_Logs/Data_Train_loss.csv"; }
checkpoint() { find "$work/runs/emoji16/$1" -name 'checkpoint_Test*.safetensors' | head -1; }
embed() { # embed NAME FLAGS...
    local out=$work/$1
    shift
    "$dml" embed --images "$work/emoji16/images" --kernels 1 --out "$out" "$@" >"$work/log" 2>&1 ||
        { cat "$work/log"; fail "embed $*"; }
}

# --- It learns; pieces and an interruption change nothing
train --arch vitt16_normalize --savename whole --n_epochs 16
losses whole | awk '{ if (NR <= 4) first += $1; if (NR > 12) last += $1 }
    END { exit !(NR == 16 && last < 0.8 * first) }' ||
    fail "the loss does not fall: $(losses whole | tr '\n' ' ')"
for run in "one vitt16_droppath0.2_layernorm_normalize" "pieces vitt16_droppath0.2_layernorm_normalize"; do
    pieces=0
    [ "${run%% *}" = pieces ] && pieces=4
    train --arch "${run#* }" --savename "${run%% *}" --n_epochs 2 --micro_bs $pieces
done
paste <(losses one) <(losses pieces) | awk '{ d = $1 - $2; if (d * d > 1e-6 * $1 * $1) exit 1 }' ||
    fail "pieces give other losses: $(losses one) $(losses pieces)"
train --arch vitt16_droppath0.2_layernorm_normalize --savename halves --n_epochs 1
"$dml" train --resume "$work/runs/emoji16/halves" --n_epochs 2 >"$work/log" 2>&1 ||
    { cat "$work/log"; fail "resuming"; }
[ "$(losses one)" = "$(losses halves)" ] || fail "resumed: $(losses halves), not $(losses one)"
embed a --checkpoint "$work/runs/emoji16/one/state.safetensors"
embed b --checkpoint "$work/runs/emoji16/halves/state.safetensors"
cmp "$work/a_embeddings.npy" "$work/b_embeddings.npy" || fail "a resumed run has other weights"

# --- bfloat16 learns and resumes to the same bits, too; it is emulated where the processor has none
"$dml" devices | grep -q bf16 || export DML_BF16=emulate
narrow=(--arch vitt16_droppath0.2_normalize --precision bf16)
train "${narrow[@]}" --savename narrow --n_epochs 3
train "${narrow[@]}" --savename narrow_halves --n_epochs 1 --recompute
"$dml" train --resume "$work/runs/emoji16/narrow_halves" --n_epochs 3 >"$work/log" 2>&1 ||
    { cat "$work/log"; fail "resuming in bfloat16"; }
[ "$(losses narrow)" = "$(losses narrow_halves)" ] ||
    fail "resumed in bfloat16: $(losses narrow_halves), not $(losses narrow)"
embed a --checkpoint "$work/runs/emoji16/narrow/state.safetensors" --precision bf16
embed b --checkpoint "$work/runs/emoji16/narrow_halves/state.safetensors" --precision bf16
cmp "$work/a_embeddings.npy" "$work/b_embeddings.npy" ||
    fail "a resumed run in bfloat16 has other weights"

# --- A pretrained backbone without a run: here, that of a run
weights=$(checkpoint whole)
embed feature --arch vit_tiny_patch16_224 --weights "$weights" --image_size 32
[ "$(head -c 128 "$work/feature_embeddings.npy" | grep -ac ', 192,*)')" = 1 ] || fail "192 dimensions"
embed larger --arch vitt16_clsavg_normalize --weights "$weights" --image_size 48
[ "$(head -c 128 "$work/larger_embeddings.npy" | grep -ac ', 384,*)')" = 1 ] || fail "384 dimensions"
"$dml" convert "$weights" "$work/same.pth" >/dev/null
embed converted --arch vitt16 --weights "$work/same.pth" --image_size 32
cmp "$work/feature_embeddings.npy" "$work/converted_embeddings.npy" || fail "a converted file"
first=$("$dml" eval --embeddings "$work/feature_embeddings.npy" --labels "$work/feature_labels.npy" \
    --metrics e_recall@1 --json 2>/dev/null)
second=$("$dml" eval --arch vitt16 --weights "$weights" --image_size 32 --dataset emoji16 \
    --source_path "$work" --part training --metrics e_recall@1 --json 2>/dev/null)
[ -n "$first" ] && [ -n "$second" ] || fail "eval of a backbone: $first, $second"
train --arch resnet18_normalize --savename resnet --n_epochs 1
embed resnet --arch resnet18 --weights "$(checkpoint resnet)" --image_size 32
[ "$(head -c 128 "$work/resnet_embeddings.npy" | grep -ac ', 512,*)')" = 1 ] || fail "512 dimensions"

# --- Bad input
images=(--images "$work/emoji16/images" --out "$work/none")
says 2 "patches of 16 pixels do not divide the image; 96 would fit" \
    embed --arch vits16 --image_size 100 --weights "$weights" "${images[@]}"
says 1 "holds the weights of vitt16, not of vits16" \
    embed --arch vits16 --image_size 32 --weights "$weights" "${images[@]}"
says 1 "holds the weights of resnet18, not of vitt16" \
    embed --arch vitt16 --weights "$(checkpoint resnet)" "${images[@]}"
says 1 "holds the weights of vitt16, not of resnet18" \
    embed --arch resnet18 --weights "$weights" "${images[@]}"
says 2 "--embed_dim 16: a pretrained backbone has no linear layer" \
    embed --arch vitt16 --weights "$weights" --embed_dim 16 "${images[@]}"
says 2 "a norm of the head is new" embed --arch vitt16_layernorm --weights "$weights" "${images[@]}"
says 2 "--checkpoint or --arch is missing" embed "${images[@]}"
says 2 "--weights needs --arch" eval --weights "$weights"
says 2 "cannot be given together" embed --checkpoint "$weights" --weights "$weights" "${images[@]}"
says 2 "did you mean 'vit_small_patch14_dinov2'" embed --arch vit_smal_patch14_dinov2 "${images[@]}"
says 2 "vitt16 has no option '_frozen'" embed --arch vitt16_frozen "${images[@]}"
echo "vision transformers: ok"
