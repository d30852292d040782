# brt trace against the golden files of the PyTorch reference.
load common

setup() {
    cd "$BATS_TEST_TMPDIR"
    same="python3 $BATS_TEST_DIRNAME/same_tensors.py"
}

cases() {
    for dir in "$BRT_TEST_DATA"/*/; do
        [ -f "$dir/tokens_forward.safetensors" ] || continue
        echo "$dir"
    done
}

# Writes one file of tokens: write_tokens FILE JSON_OF_CALLS [DTYPE]
write_tokens() {
    python3 - "$@" <<'PYTHON'
import json, struct, sys
path, calls, dtype = sys.argv[1], json.loads(sys.argv[2]), (sys.argv[3:] + ["I64"])[0]
header, data = {}, b""
for index, rows in enumerate(calls):
    values = [token for row in rows for token in row]
    part = struct.pack(f"<{len(values)}{'q' if dtype == 'I64' else 'i'}", *values)
    header[f"tokens.{index}"] = {"dtype": dtype, "shape": [len(rows), len(rows[0])],
                                 "data_offsets": [len(data), len(data) + len(part)]}
    data += part
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)
PYTHON
}

@test "there are enough cases" {
    [ "$(cases | wc -l)" -ge 10 ]
}

@test "logits, memories and states of chained calls" {
    for dir in $(cases); do
        "$BRT" trace "$dir" --tokens "$dir/tokens_forward.safetensors" --out out
        $same "$dir/forward.safetensors" out
    done
}

@test "losses" {
    for dir in $(cases); do
        "$BRT" trace "$dir" --tokens "$dir/tokens.safetensors" --out out --loss
        $same "$dir/loss.safetensors" out --without-gradients
    done
}

@test "gradients" {
    for dir in $(cases); do
        "$BRT" trace "$dir" --tokens "$dir/tokens.safetensors" --out out --loss --grad
        $same "$dir/loss.safetensors" out
    done
}

@test "a call longer than a segment is several segments" {
    # Two calls of whole segments, or one: only what is carried counts, and both carry it.
    dir=$BRT_TEST_DATA/default_like
    run "$BRT" info "$dir" --json
    length=$(sed -n 's/.*"max_seq_len": \([0-9]*\).*/\1/p' <<<"$output")
    one=$(python3 -c "print([[[i * 7 % 11 for i in range(2 * $length + 1)]]])")
    two=$(python3 -c "
numbers = [i * 7 % 11 for i in range(2 * $length + 1)]
print([[numbers[:$length + 1]], [numbers[$length:]]])")
    write_tokens one "$one"
    write_tokens two "$two"
    "$BRT" trace "$dir" --tokens one --out one.out --loss --grad
    "$BRT" trace "$dir" --tokens two --out two.out --loss --grad
    # The loss of one call is the mean of the two, and so is the gradient.
    $same two.out one.out --halved
}

@test "refused: tokens outside the vocabulary, except as an ignored target" {
    dir=$BRT_TEST_DATA/default_like
    write_tokens bad '[[[1, 2, 100000, 3]]]'
    run "$BRT" trace "$dir" --tokens bad --out out
    refused "100000"
    [ ! -e out ]
    write_tokens huge '[[[1, 2, 4294967297, 3]]]'
    run "$BRT" trace "$dir" --tokens huge --out out
    refused "4294967297"
    write_tokens negative '[[[1, -100, 2, 3]]]'
    run "$BRT" trace "$dir" --tokens negative --out out --loss
    refused "-100"
    write_tokens ignored '[[[1, 2, 3, -100]]]'
    "$BRT" trace "$dir" --tokens ignored --out out --loss
    run "$BRT" trace "$dir" --tokens ignored --out out
    refused "-100"
}

# The reference's mean of no losses is NaN, and with it every gradient.
@test "a call whose targets are all ignored has the loss 0 and adds no gradient" {
    dir=$BRT_TEST_DATA/default_like
    write_tokens ignored '[[[1, -100]]]'
    "$BRT" trace "$dir" --tokens ignored --out out --loss --grad
    python3 - out <<'PYTHON'
import json, struct, sys
content = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", content[:8])[0]
header = json.loads(content[8:8 + size])
names = [name for name in header if name.startswith(("loss.", "grad."))]
assert len(names) > 1
for name in names:
    begin, end = header[name]["data_offsets"]
    assert not any(struct.unpack(f"<{(end - begin) // 4}f", content[8 + size + begin:8 + size + end])), name
PYTHON
}

@test "refused: files that do not hold calls" {
    dir=$BRT_TEST_DATA/default_like
    run "$BRT" trace "$dir" --tokens nothing --out out
    refused "nothing"
    run "$BRT" trace "$dir" --tokens "$dir/model.safetensors" --out out
    refused "no tensor tokens.0"
    write_tokens short '[[[1]]]'
    run "$BRT" trace "$dir" --tokens short --out out --loss
    refused "one token per row"
    write_tokens uneven '[[[1, 2], [3, 4]], [[1, 2]]]'
    run "$BRT" trace "$dir" --tokens uneven --out out
    refused "tokens.1 has 1 rows"
    write_tokens nobody '[[[1, 2]], [[]]]'
    run "$BRT" trace "$dir" --tokens nobody --out out
    refused "tokens.1 must have the shape [batch, time]"
    write_tokens narrow '[[[1, 2, 3]]]' I32
    "$BRT" trace "$dir" --tokens narrow --out out
    run "$BRT" trace "$dir" --tokens narrow --out /nonexistent/out
    refused "/nonexistent/out"
}
