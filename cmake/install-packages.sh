#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that are missing; says nothing when none is.
set -eu
packages=(gcc clang make cmake pkg-config git clang-format libdnnl-dev ocl-icd-opencl-dev libopenblas-openmp-dev
    liblapacke-dev libjpeg-dev libpng-dev libsqlite3-dev libzip-dev zlib1g-dev libprotobuf-c-dev
    protobuf-c-compiler libcjson-dev libcmocka-dev gnuplot-nox)
# Newer releases keep clang's runtime for sanitizers and fuzzing in a package of its own.
. /etc/os-release
case "$ID${VERSION_ID:-}" in
debian11 | ubuntu20.* | ubuntu22.*) ;;
*) packages+=(libclang-rt-dev) ;;
esac
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
        missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ]; then
    sudo=""
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo=sudo
elif command -v sudo >/dev/null && [ -t 0 ]; then
    sudo=sudo
else
    echo "System packages are missing. As root, run:" >&2
    echo "  apt-get install -y ${missing[*]}" >&2
    exit 1
fi
echo "Installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
