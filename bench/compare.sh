#!/usr/bin/env bash
# Two builds side by side: runs a benchmark of both in turn and prints, for each case, the
# median of the second's values over the median of the first's.
#     bench/compare.sh BUILD BUILD NAME [ROUNDS] [ARGUMENT...]
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
first=$1 second=$2 name=$3 rounds=${4:-3}
shift $(($# < 4 ? 3 : 4))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for ((round = 0; round < rounds; round++)); do
    "$first/bench_$name" "$@" | sed 's/^/1 /' >>"$work/figures"
    "$second/bench_$name" "$@" | sed 's/^/2 /' >>"$work/figures"
done
sed -nE 's/^([12]) .*"case": ?"([^"]*)".*"value": ?([-+.0-9e]+).*"unit": ?"([^"]*)".*/\2\t\4\t\1\t\3/p' \
    "$work/figures" | sort -t "$(printf '\t')" -k1,3 -k4,4g | awk -F '\t' '
    function median(which) { return value[which, int((count[which] + 1) / 2)] }
    function flush() {
        if (count[1] && count[2])
            printf "%-48s %12.5g %12.5g %-10s %6.3f\n", label, median(1), median(2), unit,
                median(1) ? median(2) / median(1) : 0
    }
    $1 "\t" $2 != key { flush(); delete value; count[1] = count[2] = 0 }
    { key = $1 "\t" $2; label = $1; unit = $2; value[$3, ++count[$3]] = $4 }
    END { flush() }'
