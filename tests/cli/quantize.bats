# Models with weights in fewer bits.
load common

setup_file() {
    make_model
    for dtype in bf16 int8; do
        "$BRT" quantize model "$dtype" --dtype "$dtype" >"$dtype.txt"
    done
}

setup() {
    cd "$BATS_FILE_TMPDIR"
}

bits_per_byte() {
    "$BRT" eval "$1" --data text.txt --json | sed -n 's/.*"bits_per_byte": \([0-9.]*\).*/\1/p'
}

# agree A B TOLERANCE: two numbers, relative to the first
agree() {
    python3 -c 'import sys; a, b, most = map(float, sys.argv[1:]); assert 0 < a and abs(b / a - 1) < most, (a, b)' "$@"
}

@test "quantized models are smaller, and predict as well within 0.5 %" {
    grep -q "^int8: weights in int8, .* instead of" int8.txt
    whole=$(wc -c <model/model.safetensors)
    [ "$(wc -c <bf16/model.safetensors)" -lt $((whole * 7 / 10)) ]
    [ "$(wc -c <int8/model.safetensors)" -lt $((whole * 6 / 10)) ]
    for dtype in bf16 int8; do
        cmp model/config.json "$dtype/config.json"
        agree "$(bits_per_byte model)" "$(bits_per_byte "$dtype")" 0.005
    done
}

@test "generate, info and trace read them" {
    for dtype in bf16 int8; do
        "$BRT" generate "$dtype" --prompt "the king " -n 50 --seed 4 --threads 1 --quiet >a
        "$BRT" generate "$dtype" --prompt "the king " -n 50 --seed 4 --threads 3 --quiet >b
        [ "$(wc -c <a)" -eq 50 ]
        cmp a b
        run "$BRT" info "$dtype"
        [[ "$output" == *"a quantized model cannot be trained"* ]]
        "$BRT" info "$dtype" --json | python3 -c '
import json, sys
info = json.load(sys.stdin)
assert info["training_bytes"] is None and info["parameter_bytes"] < 4 * info["parameters"], info'
    done
}

@test "a session of a quantized model goes on" {
    "$BRT" generate int8 --prompt "a small ship" -n 60 --seed 3 --quiet >whole
    "$BRT" generate int8 --prompt "a small ship" -n 20 --seed 3 --session story --quiet >parts
    "$BRT" generate int8 -n 40 --seed 3 --session story --quiet >>parts
    cmp whole parts
    run "$BRT" generate model -n 1 --session story
    refused "of another model"
}

@test "losses without gradients are traced, gradients are refused" {
    python3 - tokens <<'PYTHON'
import json, struct, sys
header = json.dumps({"tokens.0": {"dtype": "I32", "shape": [1, 20], "data_offsets": [0, 80]}}).encode()
open(sys.argv[1], "wb").write(struct.pack("<Q", len(header)) + header + struct.pack("<20i", *range(97, 117)))
PYTHON
    "$BRT" trace int8 --tokens tokens --out out --loss
    run "$BRT" trace int8 --tokens tokens --out out --grad
    refused "this model cannot be trained"
}

@test "quantizing again: to floats, which a trainer takes, and not over a model" {
    "$BRT" quantize int8 floats --dtype f32
    agree "$(bits_per_byte floats)" "$(bits_per_byte int8)" 1e-6
    run "$BRT" quantize model int8 --dtype int8
    refused "int8 holds a model already"
    run "$BRT" quantize model other --dtype int4
    misused "--dtype is 'int4'"
    run "$BRT" quantize nothing other
    refused "nothing"
    run "$BRT" quantize model
    misused "RUN OUT"
    [ ! -e other ]
}
