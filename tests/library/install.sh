#!/bin/sh
# Installs into an empty directory, then compiles, links and runs the examples against what is there, as a user would:
# install.sh BUILD EXAMPLES
set -eu
build=$1
examples=$2
root=$(mktemp -d)
trap 'rm -r "$root"' EXIT

meson install -C "$build" --no-rebuild --quiet --destdir "$root"
pc=$(find "$root" -name brt.pc)
prefix=$root$(pkg-config --variable=prefix "$pc")
LD_LIBRARY_PATH=$root$(pkg-config --variable=libdir "$pc")
export LD_LIBRARY_PATH
options=$(pkg-config --define-variable=prefix="$prefix" --cflags --libs "$pc")

for example in "$examples"/*.c; do
    name=$(basename "$example" .c)
    # shellcheck disable=SC2086  # a list of options
    ${CC:-cc} -std=c11 -Wall -Wextra -Werror "$example" -o "$root/$name" $options
done

"$root/three_calls"
"$prefix/bin/brt" --version
