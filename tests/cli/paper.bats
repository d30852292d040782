# Models of the paper's arithmetic from the command line.
load common

# A small model of the paper's arithmetic, trained as its presets do.
PAPER=(--preset paper-tiny --recurrent-layers 2 --state-gate lstm --state-update dual --num-state-vectors 8)

setup() {
    cd "$BATS_TEST_TMPDIR"
    write_text text.txt 400
}

# Those that the program can run: the code clears the states of bias_skip_always_clear at every segment.
cases() {
    for dir in "$BRT_TEST_DATA"/paper/*/; do
        case $dir in
        *always_clear/ | *_trained/) ;;
        *) echo "$dir" ;;
        esac
    done
}

@test "brt trace: logits, losses, memories, states and gradients of the paper's code" {
    [ "$(cases | wc -l)" -ge 20 ]
    for dir in $(cases); do
        python3 "$BATS_TEST_DIRNAME/paper_trace.py" "$dir/values.safetensors" in expected
        "$BRT" trace "$dir" --tokens in --out out --loss --grad --grad-of 1
        python3 "$BATS_TEST_DIRNAME/same_tensors.py" expected out
        "$BRT" trace "$dir" --tokens in --out out --loss
        python3 "$BATS_TEST_DIRNAME/same_tensors.py" expected out --without-gradients
    done
}

@test "killed and resumed, a run has the losses of an uninterrupted one" {
    start_run killed "${PAPER[@]}"
    kill -9 "$pid"
    wait "$pid" || true
    steps=$(($(wc -l <killed/metrics.jsonl) + 20))
    run train killed --resume --steps "$steps"
    [ "$status" -eq 0 ]
    [[ "$output" == *"resuming at step "* ]]
    train whole "${PAPER[@]}" --schedule constant --steps "$steps" >/dev/null
    diff <(losses killed) <(losses whole)
    cmp killed/model.safetensors whole/model.safetensors
}

@test "threads and recomputation change no loss, dropouts do" {
    train whole "${PAPER[@]}" --steps 6 --threads 1 >/dev/null
    train again "${PAPER[@]}" --steps 6 --threads 2 --recompute >/dev/null
    train without "${PAPER[@]}" --steps 6 --attention-dropout 0 >/dev/null
    diff <(losses whole) <(losses again)
    ! diff -q <(losses whole) <(losses without)
}

@test "a session goes on where it was, of a quantized model and one with a routed memory, too" {
    train model "${PAPER[@]}" --steps 10 >/dev/null
    train routed "${PAPER[@]}" --steps 10 --routed-layers 1 --routed-tokens 6 --route-every 8 >/dev/null
    "$BRT" quantize model int8 --dtype int8 >/dev/null
    for model in model routed int8; do
        "$BRT" generate "$model" --prompt "a small ship" -n 150 --seed 3 --quiet >whole.txt
        "$BRT" generate "$model" --prompt "a small ship" -n 71 --seed 3 --session "$model.s" --quiet >parts.txt
        "$BRT" generate "$model" -n 79 --seed 3 --session "$model.s" --quiet >>parts.txt
        cmp whole.txt parts.txt
    done
}
