#!/usr/bin/env bash
# The program on a card in plain C (program.c): a run, and all that can be wrong with a card. Each
# time one line says what, the status is 1, and the state that was written before goes on. At the end
# dml itself, beside a library that lacks its cuDNN.
set -euo pipefail
source=$2 dml=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }

mkdir -p "$work/few/images"
for folder in "$source"/data/emoji200/images/00[1-4].*; do
    mkdir "$work/few/images/$(basename "$folder")"
    for image in $(find "$folder" -type f | sort | head -4); do
        cp "$image" "$work/few/images/$(basename "$folder")"
    done
done
cd "$work"
cp "$source"/examples/plugin/{tiny.c,Makefile} .
make -s DML_CFLAGS="-I$source/include" tiny.so
flags=(--plugin tiny.so --arch tiny_width8_normalize --not_pretrained --embed_dim 8 --image_size 32
    --dataset few --source_path "$work" --bs 4 --n_epochs 2 --kernels 1 --loss softmax
    --evaluation_metrics e_recall@1 --save_path runs --state_minutes 0 --no_plots --gpu_classes 1)
train() { "$dml" train "${flags[@]}" "$@" >out 2>log; }
# What is neither progress nor about the data.
said() { grep -v -e '/s, ' -e 'few: training has two classes' log || true; }
# refused TEXT FLAGS...: status 1, and one line that holds the text
refused() {
    local text=$1 status=0
    shift
    train "$@" || status=$?
    if [ $status != 1 ] || [ "$(said | wc -l)" != 1 ] || ! said | grep -qF -- "$text"; then
        said
        fail "instead of '$text', status $status"
    fi
}
# falls_back TEXT: without --gpu the processor is used, and a line says why
falls_back() {
    train --n_epochs 0 --savename "$RANDOM$RANDOM" || { cat log; fail "without --gpu: $1"; }
    grep -qF "no GPU: $1" out || { cat out; fail "the run does not say why there is no GPU: $1"; }
    ! grep -q 'host double of ' out || fail "the card is used: $1"
}
# data_of STATE prints its tensors without the header, which holds the flags
data_of() { tail -c +$((9 + $(od -An -tu8 -N8 "$1"))) "$1"; }

echo "a run on the card names it"
HOST_CARD_FAILS=1000000000 train --gpu 0 --savename whole || { cat log; fail "a run on the card"; }
grep -q 'random weights; host double of ' out || { cat out; fail "the card is not named"; }
grep -q 'class weights: 2 of 8 numbers, on the GPU' out || { cat out; fail "class weights elsewhere"; }
calls=$(tail -1 log)
train --n_epochs 0 --savename free || { cat log; fail "a run without --gpu"; }
grep -q 'host double of ' out || fail "without --gpu the card is not used"

echo "images that are copied ahead, as early as possible instead of as late as possible: the same bits"
HOST_CARD_UPLOADS=early train --gpu 0 --savename early || { cat log; fail "uploads at once"; }
cmp <(data_of runs/few/whole/state.safetensors) <(data_of runs/few/early/state.safetensors) ||
    fail "the state depends on when images are copied"

echo "a card that is lost in the middle: the state goes on to the same bits"
for lost in $((calls / 2)) $((calls * 4 / 5)); do
    rm -rf runs/few/cut
    HOST_CARD_FAILS=$lost train --gpu 0 --savename cut && fail "nobody noticed at call $lost"
    [ "$(said | grep -vc '^[0-9]*$')" = 1 ] && said | grep -q '^dml train: .*GPU: the card is lost$' ||
        { said; fail "a card that is lost at call $lost is not told in one line"; }
    train --gpu 0 --resume runs/few/cut || { cat log; fail "the state does not go on"; }
    cmp <(data_of runs/few/whole/state.safetensors) <(data_of runs/few/cut/state.safetensors) ||
        fail "call $lost: the resumed state differs"
done

if [ -e "$(dirname "$dml")/libnccl_double.so" ]; then
    echo "ranks with a card each are one card in pieces, also after one is lost"
    # With several ranks the processor holds class weights.
    card=(--gpu 0 --arch vitt16_normalize --no_train_metrics --n_epochs 1 --gpu_classes 10000)
    HOST_CARD_FAILS=1000000000 train "${card[@]}" --savename pieces --micro_bs 2 ||
        { cat log; fail "a card in pieces"; }
    lost=$(($(tail -1 log) / 3)) # a rank makes fewer calls
    export HOST_CARD_NCCL=$(realpath "$(dirname "$dml")/libnccl_double.so")
    HOST_CARD_FAILS=$lost train "${card[@]}" --savename ranks --ranks 2 &&
        fail "nobody noticed that a rank's card is lost"
    [ "$(said | grep -c '^dml train: ')" = 1 ] && said | grep -q '^dml train: .*GPU: the card is lost$' ||
        { said; fail "a rank's card that is lost is not told in one line"; }
    train "${card[@]}" --ranks 2 --resume runs/few/ranks || { cat log; fail "ranks do not go on"; }
    [ "$(grep -c "^  rank [01]  .*, [0-9]* threads*, host double of " out)" = 2 ] ||
        { cat out; fail "the table of the ranks has no cards"; }
    ! grep "GPUs exchange" out || fail "cards are not joined"
    cmp <(data_of runs/few/pieces/state.safetensors) <(data_of runs/few/ranks/state.safetensors) ||
        fail "ranks with cards: the state differs"
fi

echo "a card lost while it embeds"
checkpoint=$(find runs/few/whole -name 'checkpoint_Test*' | head -1)
status=0
HOST_CARD_FAILS=150 "$dml" embed --plugin tiny.so --gpu 0 --checkpoint "$checkpoint" --images few/images --out out \
    >out 2>log || status=$?
[ $status = 1 ] && grep -q 'GPU: ' log && [ -z "$(find . -name 'out_*')" ] ||
    { cat log; fail "embedding with a lost card, status $status"; }

echo "cards that cannot be used"
refused '--gpu 7: GPUs are counted from 0, and there is 1' --gpu 7
export HOST_CARD_IS=7.5
refused '--gpu 0: host double has compute capability 7.5, and at least 8.0 is needed' --gpu 0
falls_back 'host double has compute capability 7.5'
"$dml" devices | grep -qF 'GPU 0: cannot be used: host double has compute capability 7.5' ||
    fail "devices with an old card"
unset HOST_CARD_IS
export HOST_CARD_VERSIONS="12080 13000 91100"
refused '--gpu 0: the NVIDIA driver is for CUDA 12.8, and this build needs one for 13.0' --gpu 0
falls_back 'the NVIDIA driver is for CUDA 12.8'
export HOST_CARD_VERSIONS="0 13000 91100"
refused '--gpu 0: there is no NVIDIA driver; without --gpu the processor is used' --gpu 0
falls_back 'there is no NVIDIA driver'
export HOST_CARD_VERSIONS="13000 13000 8907"
refused '--gpu 0: cuDNN 8.9 is older than 9' --gpu 0
falls_back 'cuDNN 8.9 is older than 9'
export HOST_CARD_VERSIONS="13000 13000 0"
refused '--gpu 0: cuDNN is not whole: libcudnn_graph.so.9 is missing' --gpu 0
falls_back 'cuDNN is not whole'
"$dml" devices | grep -q '^CUDA 13.0, driver for CUDA 13.0, no cuDNN$' || fail "devices without cuDNN"
unset HOST_CARD_VERSIONS

echo "memory used up: what was wanted, and a --micro_bs that fits"
export HOST_CARD_MEMORY=100000
refused 'parameters of the network need 0.00 GB, and 0.00 of its 0.00 GB are free' --gpu 0
HOST_CARD_MEMORY=152000000
big=(--arch vitt16_normalize --gpu 0 --bs 8 --image_size 96 --no_train_metrics)
refused 'activations of 8 images need' "${big[@]}"
fits=$(said | sed -n 's/.*; --micro_bs \([0-9]*\) would fit$/\1/p')
[ -n "$fits" ] || { said; fail "no advice"; }
train "${big[@]}" --micro_bs "$fits" --n_epochs 1 --savename pieces ||
    { said; fail "--micro_bs $fits does not fit"; }
unset HOST_CARD_MEMORY

# A driver, and a libdml_cuda.so that needs a cuDNN which no machine has.
echo "cuDNN is missing, or another"
mkdir bin lib
cp "$1" bin/dml
dml=$work/bin/dml
library() { # NAME CODE LIBRARIES...
    local name=$1 code=$2
    shift 2
    cc -x c -shared -fPIC -o "$name" -Wl,-soname,"$(basename "$name")" - -x none "$@" <<<"$code"
}
library lib/libcuda.so.1 ''
library lib/libcudnn.so.99 'int cudnnTest(void) { return 0; }'
library lib/libcublas.so.99 'int cublasTest(void) { return 0; }'
library bin/libdml_cuda.so 'int cudnnTest(void), cublasTest(void);
    const void *dml_cuda_api(void) {
        static int api[1000];
        api[1] = cudnnTest() + cublasTest();
        return api;
    }' lib/libcudnn.so.99 lib/libcublas.so.99
export LD_LIBRARY_PATH=$work/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
told() { # TEXT: with --gpu, without it, and by devices
    refused "--gpu 0: $1" --gpu 0
    falls_back "$1"
    "$dml" devices | grep -qF "GPU: none: $1" || fail "devices: $1"
}
told 'libdml_cuda.so: it belongs to another version of dml'
library lib/libcudnn.so.99 'int cudnnOther(void) { return 0; }'
told 'cuDNN does not fit: '
rm lib/libcudnn.so.99
told 'cuDNN 99 is missing: libdml_cuda.so needs libcudnn.so.99, which the loader does not find'
library lib/libcudnn.so.98 ''
told 'cuDNN 98 is older than 99, which libdml_cuda.so needs'
mv lib/libcudnn.so.98 lib/libcudnn.so.99
rm lib/libcublas.so.99
told 'libdml_cuda.so needs libcublas.so.99, which the loader does not find'
rm lib/libcuda.so.1
ldconfig -p | grep -q 'libcuda.so.1 ' || { # then nothing is opened
    refused '--gpu 0: there is no NVIDIA driver' --gpu 0
    falls_back 'there is no NVIDIA driver'
}
