# What all tests of the program share. $BRT is the program, $BRT_TEST_DATA the golden files.
bats_require_minimum_version 1.5.0

# A model small enough for hundreds of steps per second.
TINY=(--dim 32 --depth 2 --heads 2 --dim-head 8 --max-seq-len 64 --block-width 16 --batch 2 --segment-blocks 4)

# Text with something to learn, always the same: write_text FILE LINES
write_text() {
    awk -v lines="$2" 'BEGIN {
        split("the a ship king wood river went came saw under over and of old blue small", word, " ")
        x = 1
        for (i = 0; i < lines; i++) {
            line = ""
            for (j = 0; j < 8; j++) {
                x = (x * 1103515 + 12345) % 2147483647
                line = line word[1 + int(x / 7) % 16] " "
            }
            print line
        }
    }' >"$1"
}

# Trains without a sound: train OUT OPTION...
train() {
    local out=$1
    shift
    "$BRT" train --data text.txt --out "$out" --quiet "${TINY[@]}" "$@"
}

# A run in the background that has done some steps: start_run OUT OPTION...; sets $pid
start_run() {
    local out=$1
    shift
    # exec: the signals of the tests go to the program and not to a shell around it.
    (exec "$BRT" train --data text.txt --out "$out" --quiet "${TINY[@]}" --steps 1000000 --schedule constant \
        --save-every 7 "$@" 2>/dev/null 3>&-) &
    pid=$!
    for _ in $(seq 600); do
        [ -f "$out/metrics.jsonl" ] && [ "$(wc -l <"$out/metrics.jsonl")" -ge 20 ] && return
        sleep 0.02
    done
    return 1
}

# A trained model in ./model, made once per file of tests.
make_model() {
    cd "$BATS_FILE_TMPDIR" || return
    write_text text.txt 400
    train model --steps 40 --lr 3e-3 >/dev/null
}

# What a step computed, without what depends on the time.
losses() {
    sed -E 's/"seconds":[^,}]*,"tokens_per_s":[^,}]*//' "$1/metrics.jsonl"
}

# The last command failed with status 1 and one line of text that contains $1.
refused() {
    [ "$status" -eq 1 ] || { echo "status $status, not 1: $output"; return 1; }
    [ "${#lines[@]}" -eq 1 ] || { echo "not one line: $output"; return 1; }
    case $output in
    brt:*"$1"*) ;;
    *) echo "does not say '$1': $output"; return 1 ;;
    esac
}

# The last command was refused for how it was written.
misused() {
    [ "$status" -eq 2 ] || { echo "status $status, not 2: $output"; return 1; }
    case $output in
    *"$1"*) ;;
    *) echo "does not say '$1': $output"; return 1 ;;
    esac
}
