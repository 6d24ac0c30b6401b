#!/usr/bin/env bash
# dml convert: there and back gives the same bytes; bad input gives one line and no file.
set -eu
program=$1
weights=$2/tests/golden/weights
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for file in zip legacy nested module; do
    "$program" convert "$weights/$file.pth" "$work/a.safetensors" >/dev/null
    "$program" convert "$work/a.safetensors" "$work/b.pth" >/dev/null
    "$program" convert "$work/b.pth" "$work/c.safetensors" >/dev/null
    # the order of the tensors follows the type's size after the first conversion
    cmp "$work/a.safetensors" "$work/c.safetensors"
done

fails() { # status, text in the message, arguments...
    local wanted=$1 text=$2 status=0
    shift 2
    (cd "$work" && "$program" convert "$@" >"$work/out" 2>"$work/err") || status=$?
    if [ $status -ne "$wanted" ] || ! grep -q -- "$text" "$work/err"; then
        echo "convert $*: status $status, expected $wanted and '$text':"
        cat "$work/err"
        exit 1
    fi
}
program=$(realpath "$program")
weights=$(realpath "$weights")
fails 2 usage
fails 2 usage "$weights/zip.pth"
fails 2 "must end in" "$weights/zip.pth" "$work/x.bin"
fails 1 "cannot be opened" "$work/none.pth" "$work/x.pth"
fails 1 "posix.system" "$weights/evil_pickle.pth" "$work/x.pth"
fails 1 "cut short" "$weights/truncated.pth" "$work/x.pth"
fails 1 "cannot be written" "$weights/zip.pth" "$work/no/folder/x.pth"
[ "$(wc -l <"$work/err")" -eq 1 ]
[ ! -e "$work/pickle_was_executed" ]
[ -z "$(ls "$work" | grep '^x')" ]
"$program" convert --help | grep -q "usage: dml convert IN OUT"
