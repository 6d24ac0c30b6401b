#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that are missing; says nothing when none is.
#     cmake/install-packages.sh        what the program needs
#     cmake/install-packages.sh mpi    and MPI, for training on many processes
#     cmake/install-packages.sh test   and what its tests need, MPI included
#     cmake/install-packages.sh deb    and what packages of its own need
set -eu
needs=(
    "a C compiler and its headers: gcc libc6-dev"
    "the build: make cmake pkg-config"
    "network primitives, oneDNN 2.2 or newer (its CMake file may ask for OpenCL's loader): libdnnl-dev ocl-icd-opencl-dev"
    "matrix products and eigenvalues: libopenblas-openmp-dev liblapacke-dev"
    "images: libjpeg-dev libpng-dev"
    "the run database: libsqlite3-dev"
    "weight files: libzip-dev zlib1g-dev"
    "JSON: libcjson-dev"
    "plots: gnuplot-nox"
)
case "${1:-}" in
mpi | test) needs+=("many processes: libopenmpi-dev openmpi-bin") ;;
esac
[ "${1:-}" != test ] || needs+=(
    "unit tests: libcmocka-dev"
    "fuzzing: clang"
    "the format of the sources: clang-format"
    "bare systems to test in: debootstrap"
    "networks to test in: iproute2"
    "clones to test in: git ca-certificates"
)

[ "${1:-}" != deb ] || needs+=("packages: dpkg-dev debhelper fakeroot lintian git")

id="" id_like="" version=""
if [ -r /etc/os-release ]; then
    id=$(. /etc/os-release && echo "${ID:-}")
    id_like=$(. /etc/os-release && echo "${ID_LIKE:-}")
    version=$(. /etc/os-release && echo "${VERSION_ID:-}")
fi
case " $id $id_like " in
*" debian "* | *" ubuntu "*) ;;
*)
    echo "This is not Debian or Ubuntu: nothing is installed. What dml needs:" >&2
    printf '  %s\n' "${needs[@]}" >&2
    echo "(names are Debian's). The build goes on with what it finds." >&2
    exit 0
    ;;
esac
# Newer releases keep clang's runtime for sanitizers and fuzzing in a package of its own.
case "${1:-} $id$version" in
"test debian11" | "test ubuntu20."* | "test ubuntu22."*) ;;
"test "*) needs+=("clang's sanitizers: libclang-rt-dev") ;;
esac

missing=()
for need in "${needs[@]}"; do
    for package in ${need##*: }; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
            missing+=("$package")
    done
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ]; then
    sudo=""
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    sudo=sudo
else
    echo "System packages are missing. As root, run:" >&2
    echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
echo "Installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
$sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
