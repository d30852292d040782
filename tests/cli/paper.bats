# Models of the paper's arithmetic from the command line.
load common

setup() {
    cd "$BATS_TEST_TMPDIR"
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
