#!/bin/sh
# The library exports what the public header declares, and nothing else: exports.sh LIBRARY HEADER
set -eu
directory=$(mktemp -d)
trap 'rm -r "$directory"' EXIT
nm -D --defined-only "$1" | sed 's/.* //' | LC_ALL=C sort >"$directory/exported"
sed -n 's/^BRT_API [^(]*\(brt_[a-z0-9_]*\)(.*/\1/p' "$2" | LC_ALL=C sort >"$directory/declared"
diff -u "$directory/declared" "$directory/exported"
wc -l <"$directory/exported"
