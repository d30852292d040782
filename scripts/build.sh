#!/bin/sh
# Configures and compiles: build.sh DIR [MESON OPTION...]
set -eu
dir=$1
shift
[ -f "$dir/build.ninja" ] || meson setup "$dir" "$@"
exec meson compile -C "$dir"
