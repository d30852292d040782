#!/bin/sh
# Holds the sources to their rules and prints every line that breaks one:
#
#   - a folder includes its own headers, those of the folders it stands on, and the public headers; programs and
#     examples know the public headers only
#   - a library of others has one door
#   - file names are unique, no file is over 600 lines, no function over 80
#   - nothing is left to be done
#   - no line is over 120 columns, but for tables in Markdown
set -eu
cd "$(dirname "$0")/.."
status=0

# shellcheck disable=SC2046  # names without spaces
awk '
length > 120 && !(FILENAME ~ /[.]md$/ && /^[|]/) {
    print FILENAME ":" FNR ": a line of more than 120 columns"
    status = 1
}
END { exit status }
' README.md meson.build $(find src cli include examples bench tests docs scripts -name '*.[ch]' -o -name '*.def' \
    -o -name '*.md' -o -name '*.sh' -o -name '*.py' -o -name '*.bats' -o -name '*.bash' -o -name meson.build | sort) ||
    status=1

# shellcheck disable=SC2046
awk '
BEGIN {
    stands_on["kernels"] = "base"
    stands_on["tensor"] = "base kernels"
    stands_on["ops"] = "base kernels tensor"
    stands_on["data"] = "base"
    stands_on["ckpt"] = "base tensor"
    stands_on["model"] = "base kernels tensor ops ckpt"
    stands_on["bench"] = "base kernels tensor ops ckpt model train"
    stands_on["train"] = "base kernels tensor ops ckpt model data"

    door["<immintrin.h>"] = "src/kernels/bf16.c src/kernels/vector.h"
    door["<jansson.h>"] = "src/base/json.h cli/output.h"
    door["<lzma.h>"] = door["<zlib.h>"] = "src/data/decompress.c"
}

function broken(rule) {
    print FILENAME ":" FNR ": " rule
    status = 1
}

function lists(words, word) {
    return index(" " words " ", " " word " ") > 0
}

FNR == 1 {
    split(FILENAME, part, "/")
    top = part[1]
    folder = part[2]
    name = FILENAME
    sub(/.*\//, "", name)
    if (name in seen)
        broken("has the name of " seen[name])
    seen[name] = FILENAME
    start = 0
}

/^#include "/ && lists("bench examples", top) { broken("knows more than the public headers") }
/^#include ".*\// && top == "cli" { broken("knows more than the public headers") }
/^#include ".*\// && top == "src" {
    split($2, to, "/")
    if (to[1] != "\".." || !lists(stands_on[folder], to[2]))
        broken(folder " does not stand on " $2)
}
/^#include </ && $2 in door && top != "tests" && !lists(door[$2], FILENAME) {
    broken("the door to " $2 " is " door[$2])
}

/^[{]/ { start = FNR }
/^[}]/ && start {
    if (FNR - start - 1 > 80)
        broken("ends a function of " FNR - start - 1 " lines")
    start = 0
}

FNR == 601 { broken("a file of more than 600 lines") }
/TODO|FIXME|XXX/ && (top == "src" || top == "cli") { broken("something is left to be done") }

END { exit status }
' $(find src cli include examples bench tests -name '*.[ch]' -o -name '*.def' | sort) || status=1

exit $status
