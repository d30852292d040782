#!/bin/sh
# Installs the Debian packages that are missing.
#
#   dependencies.sh build|check|demo|sanitize|peer
#
# Does nothing, and says nothing, when all are there. Needs to be root, or sudo.
set -eu

BUILD='gcc make meson ninja-build pkg-config libjansson-dev zlib1g-dev liblzma-dev'
TEST='libcmocka-dev bats python3 xz-utils gnuplot-nox'
DEMO='python3 xz-utils gnuplot-nox'
CLANG='clang libclang-rt-dev'
PROCESSORS='qemu-user'
PEER='python3 python3-venv libjemalloc2'

installed() {
    dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null | grep -q '^install ok installed$'
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "$0: run this once as root, or install sudo: apt-get install$missing" >&2
        exit 1
    fi
}

case ${1:-} in
build) packages=$BUILD ;;
demo) packages="$BUILD $DEMO" ;;
check) packages="$BUILD $TEST $CLANG $PROCESSORS" ;;
sanitize) packages="$BUILD $TEST $CLANG" ;;
peer) packages="$BUILD $PEER" ;;
*) echo "usage: $0 build|check|demo|sanitize|peer" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null; then
    echo "$0: not a Debian system; install what these packages hold: $packages" >&2
    exit 0
fi
missing=
for package in $packages; do
    installed "$package" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "installing Debian packages:$missing" >&2
install() {
    # shellcheck disable=SC2086  # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
}
# The lists of packages may be absent or too old.
install 2>/dev/null || { as_root apt-get -qq update >&2 && install; }
