#!/usr/bin/env bash
# The program without a data set: help, lists, the reference, wrong usage.
set -euo pipefail
dml=$1 source=$2
fail() { echo "FAILED: $*" >&2; exit 1; }
# says STATUS PATTERN ARGUMENTS...
says() {
    local wanted=$1 pattern=$2 status=0 out
    shift 2
    out=$("$dml" "$@" 2>&1) || status=$?
    [ $status = "$wanted" ] || fail "status $status, not $wanted: dml $*"
    grep -q -- "$pattern" <<<"$out" || fail "no '$pattern' from dml $*: $out"
}
says 0 "usage: dml COMMAND" --help
says 2 "usage: dml COMMAND"
says 2 "did you mean 'train'" trian
says 0 "^dml [0-9]" --version
for command in train list dataset convert reference; do
    says 0 "usage: dml $command" "$command" --help
done
says 0 "--loss_margin_beta X" train --help
says 0 "0.2; at least 0" train --help
says 0 "rho_spectrum@2 rho_spectrum@10\]" train --help
says 0 "miners: .*rho_distance" list
says 0 "resnet50" list
says 2 "unknown argument" list everything
says 2 "usage: dml convert" convert one
says 1 "/nowhere.pth" convert /nowhere.pth out.safetensors
says 2 "'stray' is not a flag" train stray
for flag in resume params weights dataset_csv transforms; do
    says 2 "--$flag: its value is empty" train "--$flag" ""
    says 2 "--$flag: its value is empty" train "--$flag="
done
says 1 "nowhere.so: there is no such file" train --plugin /nowhere.so
says 1 "--weights\|not_pretrained" train --weights /nowhere.pth --source_path /tmp --dataset emoji200
if [ -e /dev/full ]; then
    "$dml" list >/dev/full 2>/dev/null && fail "what could not be written is not told"
fi
diff <("$dml" reference) "$source/docs/REFERENCE.md" ||
    fail "docs/REFERENCE.md is not what dml reference prints: dml reference > docs/REFERENCE.md"
echo "all passed"
