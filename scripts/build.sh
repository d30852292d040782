#!/bin/sh
# Configures and compiles: build.sh DIR [MESON OPTION...]
set -eu
dir=$1
shift
if [ ! -f "$dir/build.ninja" ]; then
    meson setup "$dir" "$@"
elif [ $# -gt 0 ]; then
    # The directory may come from an earlier call with other options.
    meson configure "$dir" "$@"
fi
exec meson compile -C "$dir"
