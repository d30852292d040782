# scripts/import_flax.py: checkpoints of the paper's own code.
load common

IMPORT=$BATS_TEST_DIRNAME/../../scripts/import_flax.py

setup() {
    cd "$BATS_TEST_TMPDIR"
}

# The last import was refused in one line that contains $1.
import_refused() {
    [ "$status" -eq 1 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ "$output" == "import_flax.py: "*"$1"* ]]
}

@test "an imported checkpoint computes what the model does that it was made of" {
    for dir in "$BRT_TEST_DATA"/paper/{pos_,odd_,no_norm,residual,two}*/; do
        options=$(python3 "$BATS_TEST_DIRNAME/write_flax.py" "$dir" checkpoint_7)
        python3 "$IMPORT" checkpoint_7 imported $options
        python3 "$BATS_TEST_DIRNAME/paper_trace.py" "$dir/values.safetensors" in expected
        "$BRT" trace "$dir" --tokens in --out original --loss
        "$BRT" trace imported --tokens in --out found --loss
        cmp original found
    done
}

@test "position biases, gates and sizes follow from the parameters" {
    for name in pos_orthogonal_bias_skip odd_lstm_dual two_recurrent_feedback full_single; do
        dir=$BRT_TEST_DATA/paper/$name
        python3 "$BATS_TEST_DIRNAME/write_flax.py" "$dir" checkpoint_7 >/dev/null
        python3 "$IMPORT" checkpoint_7 imported --window 4 --segment 24 --set position_end=256 --release 2025
        python3 - imported/config.json "$dir/config.json" <<'PYTHON'
import json, sys
found, expected = (json.load(open(path)) for path in sys.argv[1:])
for name, value in expected.items():
    assert name in ("block_width", "max_seq_len") or found[name] == value, (name, found, value)
PYTHON
    done
}

@test "what is no checkpoint is refused in one line" {
    python3 "$BATS_TEST_DIRNAME/write_flax.py" "$BRT_TEST_DATA/paper/bias_dual" checkpoint_7 >/dev/null
    head -c 5000 checkpoint_7 >short
    run python3 "$IMPORT" short out
    import_refused "ends inside a value"
    printf '\xc1' >unknown
    run python3 "$IMPORT" unknown out
    import_refused "0xc1 begins no value"
    printf '\x81\xa1x\x07' >other
    run python3 "$IMPORT" other out
    import_refused "no checkpoint of meliad"
    printf '\xc7\x01\x01\x07' >extension
    run python3 "$IMPORT" extension out
    [ "$status" -eq 1 ] && [ "${#lines[@]}" -eq 1 ]
    head -c 4000 /dev/zero | tr '\0' '\221' >deep
    run python3 "$IMPORT" deep out
    [ "$status" -eq 1 ] && [ "${#lines[@]}" -eq 1 ]
    run python3 "$IMPORT" none out
    import_refused "No such file"
    [ ! -e out ]
}
