#!/bin/sh
# The main job on Jane Austen's six novels: demo.sh BRT DIR
#
# Trains on five of them for about three minutes, predicts the sixth, and compares with xz. The books are in the Debian
# package r-cran-janeaustenr, of which only the data is used.
set -eu
brt=$1
dir=$2
run=$dir/run
held_out=$dir/books/persuasion.txt
seconds=${DEMO_SECONDS:-170}

fetch_books() {
    [ ! -f "$held_out" ] || return 0
    mkdir -p "$dir/package"
    (
        cd "$dir/package"
        apt-get -qq download r-cran-janeaustenr 2>/dev/null || {
            # A new machine has no lists of packages yet.
            if [ "$(id -u)" -eq 0 ]; then apt-get -qq update; else sudo apt-get -qq update; fi
            apt-get -qq download r-cran-janeaustenr
        }
        dpkg-deb -x r-cran-janeaustenr_*.deb .
    )
    python3 scripts/novels.py "$dir/package/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb" "$dir/books"
}

# Prints the figures of the last validation beside the size that xz needs.
compare() {
    bytes=$(wc -c <"$held_out")
    packed=$(xz -9e -c "$held_out" | wc -c)
    python3 - "$dir/result.json" "$bytes" "$packed" <<'PYTHON'
import json
import sys

result, size, packed = json.load(open(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
figures = [(f"brt, {name.replace('_', ' ')}", result["validation"][name]["bits_per_byte"])
           for name in ("with_states", "without_states", "cleared_every_segment")]
print(f"Persuasion, {size} bytes that training has not seen, in bits per byte:")
for name, value in figures + [("xz -9e", 8 * packed / size)]:
    print(f"  {name:28}{value:.3f}")
PYTHON
}

echo "books: five novels to learn from, Persuasion held out" >&2
fetch_books
rm -rf "$run"
training_books=$(find "$dir/books" -name '*.txt' ! -name persuasion.txt | sort)
# shellcheck disable=SC2086  # a list of names
"$brt" train --data $training_books --val "$held_out" --out "$run" --json --max-time "$seconds" \
    --dim 256 --depth 4 --heads 4 --max-seq-len 512 --block-width 128 --num-state-vectors 64 \
    --batch 4 --segment-blocks 4 --lr 2e-3 --beta2 0.99 --warmup 50 >"$dir/result.json"

echo
compare
"$brt" plot "$run" --out "$dir/loss.svg"
echo
echo "Loss curve: $dir/loss.svg"
echo "A page from the model:"
echo
"$brt" generate "$run" --prompt "CHAPTER I

" -n 1800 --temperature 0.8 --quiet
echo
