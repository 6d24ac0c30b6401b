#!/usr/bin/env bash
# The library on 64-bit ARM: cross-compiled in a bare Debian, and its tests in an emulator.
#     tests/aarch64_machine.sh [PATTERN]
# PATTERN says which tests (a regular expression); without it, those of methods, images, files and
# networks, which take some 15 minutes. What trains is left out, as it is slow there, and so is
# test_tracking: in the emulator posix_spawn does not see that a program is not installed.
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
pattern=${1:-golden_(criteria|metrics|miners|samplers|transforms|weights)|test_(above|base|criteria|images|metrics|miners|npy|params|products|report|samplers|transcendental|transform|weights|graph)$}
what="AArch64"
. "$source/tests/support/bare_system.sh"

make_bare_system bookworm
inside 'dpkg --add-architecture arm64 && apt-get update -qq && apt-get install -y -qq \
    --no-install-recommends make cmake pkg-config git gcc-aarch64-linux-gnu qemu-user-static \
    libc6-dev-arm64-cross libdnnl-dev:arm64 ocl-icd-opencl-dev:arm64 libopenblas-openmp-dev:arm64 \
    liblapacke-dev:arm64 libjpeg-dev:arm64 libpng-dev:arm64 libsqlite3-dev:arm64 libzip-dev:arm64 \
    zlib1g-dev:arm64 libcjson-dev:arm64 libcmocka-dev:arm64 libgomp1:arm64 gnuplot-nox >/dev/null 2>/tmp/log || {
    tail -5 /tmp/log; exit 1; }'
clone_into "$source"
inside 'cd /dml && cmake -S . -B build -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake -DDML_BENCH=OFF \
    >/tmp/log 2>&1 && cmake --build build -j "$(nproc)" >>/tmp/log 2>&1 || { tail -20 /tmp/log; exit 1; }'
inside "cd /dml/build && qemu-aarch64-static ./dml --version &&
    ctest --output-on-failure -j2 -R '$pattern'"
echo "$what: passed"
