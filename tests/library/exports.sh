#!/bin/sh
# The library exports what the public headers declare, and nothing else: exports.sh LIBRARY HEADER...
set -eu
directory=$(mktemp -d)
trap 'rm -r "$directory"' EXIT
library=$1
shift
nm -D --defined-only "$library" | sed 's/.* //' | LC_ALL=C sort >"$directory/exported"
sed -n 's/^BRT_API [^(]*\(brt_[a-z0-9_]*\)(.*/\1/p' "$@" | LC_ALL=C sort >"$directory/declared"
diff -u "$directory/declared" "$directory/exported"
wc -l <"$directory/exported"
