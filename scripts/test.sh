#!/bin/sh
# Runs tests: test.sh DIR [OPTION OF MESON TEST...]
set -eu
dir=$1
shift
meson test -C "$dir" --print-errorlogs "$@" && exit
# Meson keeps to itself what bats says of a failure.
sed -n '/^not ok/,/^ok/p' "$dir/meson-logs/testlog.txt"
exit 1
