#!/usr/bin/env bash
# Processor levels: every one that this processor has can be asked for; one that it lacks, and one
# that there is not, are refused in one line. (make levels runs the suite at each.)
set -eu
dml=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
    echo "FAILED: $*"
    exit 1
}
case $("$dml" --version) in
*"kernels: generic"*)
    echo "kernels were compiled once: there is nothing to choose"
    exit 0
    ;;
*"kernels: x86-64-v"[2-4]*) ;;
*) fail "dml --version does not name the level" ;;
esac

tried=0
for level in v2 v3 v4; do
    if ! DML_LEVEL=$level "$dml" --version >version 2>message; then
        [ "$(wc -l <message)" = 1 ] &&
            grep -qE "this processor lacks x86-64-$level|'$level' is not one of this program's" message ||
            fail "$level is refused with: $(cat message)"
        continue
    fi
    grep -q "kernels: x86-64-$level" version || fail "DML_LEVEL=$level runs $(cat version)"
    echo "$level runs"
    tried=$((tried + 1))
done
[ $tried -gt 0 ] || fail "no level runs"

if DML_LEVEL=v9 "$dml" list >/dev/null 2>message; then
    fail "DML_LEVEL=v9 is accepted"
fi
[ "$(wc -l <message)" = 1 ] && grep -q "DML_LEVEL: 'v9' is not one of this program's levels (v" message ||
    fail "v9 is refused with: $(cat message)"

# A processor below the lowest level, where there is an emulator of one.
if command -v qemu-x86_64 >/dev/null; then
    if qemu-x86_64 -cpu core2duo "$dml" list >/dev/null 2>message; then
        fail "a Core 2 is accepted"
    fi
    sed -i '/^qemu-x86_64: warning/d' message
    [ "$(wc -l <message)" = 1 ] && grep -q "this processor lacks x86-64-v" message ||
        fail "a Core 2 is refused with: $(cat message)"
else
    echo "qemu-x86_64 is not installed: not tried on a processor below the lowest level"
fi
