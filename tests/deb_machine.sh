#!/usr/bin/env bash
# The packages of `make deb` on a bare system of the same release, Debian alone: they install, the
# program trains and the example is built against the library.
#     tests/deb_machine.sh FOLDER        with the .deb files
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
packages=$(realpath "$1")
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
what="packages ($suite)"
. "$source/tests/support/bare_system.sh"

make_bare_system "$suite"
mkdir "$root/packages"
cp "$packages"/*.deb "$root/packages"
rm -f "$root"/packages/*-dbgsym_*
cp -r "$source/data/emoji200" "$source/examples/criterion_in_your_pipeline.c" "$root/tmp"
inside 'apt-get update -qq && apt-get install -y -qq --no-install-recommends /packages/*.deb \
    >/tmp/log 2>&1 || { tail /tmp/log; exit 1; }'
inside 'dml --version && cd /tmp && dml train --dataset emoji200 --source_path /tmp --not_pretrained \
    --arch resnet18_normalize --image_size 32 --bs 56 --samples_per_class 4 --n_epochs 1 \
    --loss multisimilarity >/tmp/log 2>&1 || { tail /tmp/log; exit 1; }'
inside 'apt-get install -y -qq --no-install-recommends gcc libc6-dev pkg-config >/dev/null 2>&1
    cd /tmp && gcc criterion_in_your_pipeline.c -o example $(pkg-config --cflags --libs dml) -lm &&
    ./example'
echo "$what: passed"
