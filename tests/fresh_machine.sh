#!/usr/bin/env bash
# The README's two commands in a bare Debian, as a new user would type them:
#     tests/fresh_machine.sh SUITE        bookworm or trixie
# Makes a minimal system with debootstrap in a temporary folder, clones the project's HEAD into it,
# runs `make demo` first as a user without root (for its message), then as root without sudo with a
# short training, and the unit tests. What only repeats long trainings is left out of those. Needs
# root. Everything is removed at the end. Offline it is skipped, but not in CI.
set -euo pipefail
suite=$1
source=$(cd "$(dirname "$0")/.." && pwd)

skip() {
    echo "fresh machine ($suite): $1"
    [ "${CI:-}" != true ] || exit 1
    exit 0
}
[ "$(id -u)" = 0 ] || skip "skipped: debootstrap and chroot need root"
command -v debootstrap >/dev/null || skip "skipped: debootstrap is not installed"
[ -e "/usr/share/debootstrap/scripts/$suite" ] || skip "skipped: debootstrap does not know $suite"

# The archive this machine uses itself, where that is Debian's.
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
    grep -oE 'https?://[^ ]*/debian/?( |$)' | head -1 | tr -d ' ' || true)

root=$(mktemp -d "${TMPDIR:-/tmp}/dml-fresh.XXXXXX")
chmod 755 "$root"
cleanup() {
    for mount in dev proc; do
        umount "$root/$mount" 2>/dev/null || umount -l "$root/$mount" 2>/dev/null || true
    done
    if grep -q " $root/" /proc/mounts; then
        echo "fresh machine: $root is still mounted: left where it is" >&2
    else
        rm -rf --one-file-system "$root"
    fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

echo "fresh machine ($suite): making a minimal system"
debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 || {
    tail -3 "$root.log"
    rm -f "$root.log"
    skip "no system was made: is the archive reachable?"
}
rm -f "$root.log"
# How this machine reaches the archive holds in there as well.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
grep -hsiE '^ *Acquire::(https?|ftp)::' /etc/apt/apt.conf /etc/apt/apt.conf.d/* \
    >"$root/etc/apt/apt.conf.d/90archive" || true
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/throwaway"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"

inside() { # inside COMMAND: a shell of its own in the new system
    chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        sh -c "$1"
}
inside 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    --no-install-recommends make git ca-certificates >/dev/null 2>&1'

[ -z "$(git -C "$source" status --porcelain)" ] ||
    echo "fresh machine ($suite): uncommitted changes are not in the clone"
started=$(date +%s)
git clone -q --no-hardlinks "file://$source" "$root/dml"

# Without root and sudo: the line to type, and nothing else is tried.
inside 'chown -R nobody /dml'
if message=$(inside "su -s /bin/sh nobody -c 'cd /dml && make demo' 2>&1"); then
    echo "fresh machine ($suite): make demo without packages and root did not fail"
    exit 1
fi
case "$message" in
*"apt-get install -y --no-install-recommends gcc "*) ;;
*) printf '%s\n' "fresh machine ($suite): without root make demo says:" "$message" && exit 1 ;;
esac
inside 'chown -R root /dml'

began=$(date +%s)
inside 'cd /dml && DEMO_EPOCHS=1 make demo'
echo "fresh machine ($suite): from clone to the end of the first epoch, packages included:" \
    "$(($(date +%s) - began)) s"
inside "cd /dml && make unit CTEST_FLAGS=\"-j2 -E 'combinations|sweep|trajectory|fuzz'\""
echo "fresh machine ($suite): passed in $(($(date +%s) - started)) s"
