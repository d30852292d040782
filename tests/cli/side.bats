# Our side of `make bench-peer`: $BRT_SIDE is the program.
load common

# Two rows of two windows and the token that follows, as files for `brt eval` and as 16-bit tokens.
setup_file() {
    make_model
    head -c 258 text.txt | tr '\n' ' ' >rows.txt
    head -c 129 rows.txt >row1.txt
    tail -c 129 rows.txt >row2.txt
    sed 's/./&\x00/g' rows.txt >rows.bin
}

setup() {
    cd "$BATS_FILE_TMPDIR" || return
}

# The loss in each line of JSON.
losses_of() {
    sed -n 's/.*"loss": \([0-9.]*\).*/\1/p'
}

@test "a step's loss is that of brt eval on the same tokens, and falls" {
    expected=$("$BRT" eval model --data row1.txt row2.txt --json | losses_of)
    printf 'step\nstep\n' | "$BRT_SIDE" 1 train model rows.bin 2 f32 | losses_of | awk -v expected="$expected" '
        NR == 1 && ($1 - expected) ^ 2 > 1e-10 { print $1 " is not " expected; exit 1 }
        NR == 2 && $1 >= expected { print $1 " is not less than " expected; exit 1 }
        END { exit NR != 2 }'
}

@test "tokens are generated anywhere in a timeline" {
    printf 'generate 1 3\ngenerate 100 200\n' | "$BRT_SIDE" 1 generate model rows.bin >answers
    [ "$(grep -c '"seconds": [0-9.]*, "work": [0-9]' answers)" -eq 2 ]
}

@test "what cannot be done is said" {
    run "$BRT_SIDE" 1 train model rows.bin 3 f32
    [ "$status" -ne 0 ]
    [[ "$output" == *"258 tokens; 3 rows need 387"* ]]
    run "$BRT_SIDE" 1 generate model rows.bin <<<"generate 259 260"
    [ "$status" -ne 0 ]
    [[ "$output" == *"259"* ]]
    run "$BRT_SIDE" 1 dance
    [ "$status" -eq 2 ]
    [[ "$output" == usage* ]]
}
