#!/bin/sh
# Every ordinary test, then the suite with sanitizers, and each fuzzer for some seconds.
set -eu
scripts/build.sh build --werror
meson test -C build --print-errorlogs
scripts/sanitize.sh address
scripts/sanitize.sh thread
scripts/fuzz.sh 10
