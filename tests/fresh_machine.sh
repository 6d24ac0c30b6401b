#!/usr/bin/env bash
# The README's two commands in a bare Debian or Ubuntu, as a new user would type them:
#     tests/fresh_machine.sh SUITE        bookworm, trixie, or jammy, noble and later with
#                                         MIRROR=ADDRESS of an archive of Ubuntu
# Makes a minimal system in a temporary folder, clones the project's HEAD into it, runs `make demo`
# first as a user without root (for its message), then as root without sudo with a short training,
# and the quick tests.
set -euo pipefail
suite=$1
source=$(cd "$(dirname "$0")/.." && pwd)
what="fresh machine ($suite)"
. "$source/tests/support/bare_system.sh"

make_bare_system "$suite"
inside 'apt-get update -qq && apt-get install -y -qq --no-install-recommends make git \
    ca-certificates >/dev/null 2>&1'
started=$(date +%s)
clone_into "$source"

# Without root and sudo: the line to type, and nothing else is tried.
inside 'chown -R nobody /dml'
if message=$(inside "su -s /bin/sh nobody -c 'cd /dml && make demo' 2>&1"); then
    echo "$what: make demo without packages and root did not fail"
    exit 1
fi
case "$message" in
*"apt-get install -y --no-install-recommends gcc "*) ;;
*) printf '%s\n' "$what: without root make demo says:" "$message" && exit 1 ;;
esac
inside 'chown -R root /dml'

began=$(date +%s)
inside 'cd /dml && DEMO_EPOCHS=1 make demo'
echo "$what: from clone to the end of the first epoch, packages included:" \
    "$(($(date +%s) - began)) s"
# Scripts that run the program say little of a release that this machine has itself.
own=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
inside "cd /dml && make quick QUICK='$([ "$own" != "$suite" ] || echo -LE script)'"
echo "$what: passed in $(($(date +%s) - started)) s"
