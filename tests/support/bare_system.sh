# Sourced by the scripts that work in a bare Debian. They set `what`, which their messages begin
# with. Afterwards $root is a minimal system, which is removed when the script ends, however it ends,
# and `inside COMMAND` runs a shell command in it. Needs root. Offline, the script is skipped, but
# not in CI.

skip() {
    echo "$what: $1"
    [ "${CI:-}" != true ] || exit 1
    exit 0
}

cleanup() {
    for mount in dev/pts dev proc; do
        umount "$root/$mount" 2>/dev/null || umount -l "$root/$mount" 2>/dev/null || true
    done
    if grep -q " $root/" /proc/mounts; then
        echo "$what: $root is still mounted: left where it is" >&2
    else
        rm -rf --one-file-system "$root"
    fi
}

make_bare_system() { # make_bare_system SUITE
    [ "$(id -u)" = 0 ] || skip "skipped: debootstrap and chroot need root"
    command -v debootstrap >/dev/null || skip "skipped: debootstrap is not installed"
    # $MIRROR, or the archive this machine uses itself, where that is Debian's.
    local mirror=${MIRROR:-} script=$1 scripts=/usr/share/debootstrap/scripts
    [ -n "$mirror" ] || mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null |
        grep -oE 'https?://[^ ]*/debian/?( |$)' | head -1 | tr -d ' ' || true)
    case "$mirror" in
    *ubuntu*) script=gutsy ;; # makes every release since
    esac
    [ -e "$scripts/$script" ] || skip "skipped: debootstrap does not know $1"

    root=$(mktemp -d "${TMPDIR:-/tmp}/dml-fresh.XXXXXX")
    chmod 755 "$root"
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    echo "$what: making a minimal system"
    local components=main
    case "$mirror" in
    *ubuntu*) components=main,universe ;; # as on every Ubuntu
    esac
    debootstrap --variant=minbase --components=$components "$1" "$root" "$mirror" \
        "$scripts/$script" >"$root.log" 2>&1 || {
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
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts" 2>/dev/null || true
}

inside() { # inside COMMAND: a shell of its own in the new system
    chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        DEBIAN_FRONTEND=noninteractive \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        sh -c "$1"
}

clone_into() { # clone_into SOURCE: the project's HEAD, at /dml
    [ -z "$(git -C "$1" status --porcelain)" ] || echo "$what: uncommitted changes are not in the clone"
    git clone -q --no-hardlinks "file://$1" "$root/dml"
}
