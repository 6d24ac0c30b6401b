#!/usr/bin/env bash
# Runs all benchmarks of a build folder, or the one that is named; one JSON line per figure.
set -eu
build=$1
name=${2:-}
if [ -n "$name" ]; then
    exec "$build/bench_$name"
fi
for bench in "$build"/bench_*; do
    [ -x "$bench" ] && "$bench"
done
