#!/usr/bin/env bash
# Builds the packages dml, libdml1 and libdml-dev, and dml-cuda where there is a CUDA toolkit with
# cuDNN, for this release of Debian or Ubuntu:
#     packaging/make-deb.sh TARBALL FOLDER
# from the tarball that `make dist` makes, into FOLDER. lintian has the last word.
set -euo pipefail
tarball=$(realpath "$1")
mkdir -p "$2"
folder=$(realpath "$2")
name=$(basename "$tarball" .tar.gz)
version=${name#dml-}

work=$(mktemp -d "${TMPDIR:-/tmp}/dml-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
tar -xzf "$tarball" -C "$work"
cd "$work/$name"
mv packaging/debian .
cmake -S . -B "$work/probe" -DDML_TESTS=OFF -DDML_BENCH=OFF >"$work/log" 2>&1 || {
    tail -30 "$work/log"
    exit 1
}
cuda=$(sed -n 's/^DML_CUDA:BOOL=//p' "$work/probe/CMakeCache.txt")
if [ "$cuda" = ON ]; then
    nvcc=$(sed -n 's/^DML_NVCC:FILEPATH=//p' "$work/probe/CMakeCache.txt")
    toolkit=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\),.*/\1 \2/p')
    libraries="libcublas-${toolkit/ /-}, libcudnn9-cuda-${toolkit% *}"
    sed "s/@CUDA_LIBRARIES@/$libraries/" packaging/cuda/control >>debian/control
    cp packaging/cuda/dml-cuda.install debian
    export DML_CUDA_LIBRARIES=$(sed -n 's/^DML_CU\(BLAS\|DNN\):FILEPATH=//p' \
        "$work/probe/CMakeCache.txt" | xargs -n 1 dirname | sort -u | paste -sd :)
else
    echo "no dml-cuda: there is no CUDA toolkit with cuDNN"
fi
# The date of the sources: a build from the same tarball is the same package.
date=$(date -u -R -d "@$(stat -c %Y include/dml/core.h)")
maintainer="${DEBFULLNAME:-dml authors} <${DEBEMAIL:-authors@dml.invalid}>"
sed -i "s/@MAINTAINER@/$maintainer/" debian/control
cat >debian/changelog <<END
dml ($version-1) unstable; urgency=medium

  * See CHANGELOG.md.

 -- $maintainer  $date
END
DML_CUDA=$cuda dpkg-buildpackage -b -us -uc -j"$(nproc)" >"$work/log" 2>&1 || {
    tail -30 "$work/log"
    exit 1
}
lintian --fail-on error --allow-root --suppress-tags initial-upload-closes-no-bugs "$work"/*.changes
for package in "$work"/*.deb; do
    cp "$package" "$folder/.new.deb"
    mv "$folder/.new.deb" "$folder/$(basename "$package")"
    echo "$folder/$(basename "$package")"
done
