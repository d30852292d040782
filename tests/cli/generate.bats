# Generating text and scoring it.
load common

setup_file() {
    make_model
}

setup() {
    cd "$BATS_FILE_TMPDIR"
}

@test "the same seed gives the same text, for any number of threads" {
    "$BRT" generate model --prompt "the king " -n 150 --seed 4 --threads 1 --quiet >a
    "$BRT" generate model --prompt "the king " -n 150 --seed 4 --threads 3 --quiet >b
    "$BRT" generate model --prompt "the king " -n 150 --seed 5 --quiet >c
    [ "$(wc -c <a)" -eq 150 ]
    cmp a b
    ! cmp -s a c
}

@test "stdout has the text alone, and the speed goes to stderr" {
    run --separate-stderr "$BRT" generate model --prompt x -n 20
    [ "$status" -eq 0 ]
    [[ "$stderr" == *"ms per token"* ]]
}

@test "a session in parts is the session in one" {
    "$BRT" generate model --prompt "a small ship" -n 137 --seed 3 --quiet >whole
    : >parts
    prompt=(--prompt "a small ship")
    for count in 1 15 16 17 0 50 38; do
        "$BRT" generate model "${prompt[@]}" -n "$count" --seed 3 --session parts.session --quiet >>parts
        prompt=()
    done
    cmp whole parts
}

@test "a prompt added to a session is read after what was there" {
    "$BRT" generate model --prompt "the old" -n 0 --session added.session --quiet
    "$BRT" generate model --prompt " king saw" -n 60 --session added.session --quiet >added
    "$BRT" generate model --prompt "the old king saw" -n 60 --quiet >together
    cmp added together
}

@test "a prompt from a file or standard input, of any length" {
    head -c 3001 text.txt >long.txt
    "$BRT" generate model --prompt-file long.txt -n 30 --quiet >a
    "$BRT" generate model --prompt-file - -n 30 --quiet <long.txt >b
    cmp a b
    "$BRT" generate model -n 30 --quiet >c
    [ "$(wc -c <c)" -eq 30 ]
}

@test "temperature 0 takes the most likely token, as top-k 1 and the narrowest filter do" {
    "$BRT" generate model --prompt "went" -n 80 --temperature 0 --quiet >greedy
    "$BRT" generate model --prompt "went" -n 80 --top-k 1 --quiet >one
    "$BRT" generate model --prompt "went" -n 80 --filter-thres 0.999 --quiet >filtered
    "$BRT" generate model --prompt "went" -n 80 --top-p 0.000001 --quiet >nucleus
    cmp greedy one
    cmp greedy filtered
    cmp greedy nucleus
}

@test "as JSON" {
    run --separate-stderr "$BRT" generate model --prompt "abc" -n 5 --json
    [ "$status" -eq 0 ]
    python3 -c 'import json, sys
result = json.loads(sys.argv[1])
assert len(result["tokens"]) == 5 and result["prompt_tokens"] == 3 and result["position"] == 8, result' "$output"
}

@test "SIGINT saves the session, so that it continues exactly" {
    "$BRT" generate model -n 1000000000 --seed 2 --session cut.session --quiet >first 2>/dev/null 3>&- &
    pid=$!
    for _ in $(seq 500); do
        [ -s first ] && break
        sleep 0.02
    done
    kill -INT "$pid"
    status=0
    wait "$pid" || status=$?
    [ "$status" -eq 130 ]
    done_so_far=$(wc -c <first)
    "$BRT" generate model -n 40 --seed 2 --session cut.session --quiet >>first
    "$BRT" generate model -n $((done_so_far + 40)) --seed 2 --quiet >whole
    cmp first whole
}

@test "refused: sessions of other models or that are none" {
    "$BRT" train --data text.txt --out other --quiet "${TINY[@]}" --dim 24 --steps 1 >/dev/null
    "$BRT" generate other --prompt x -n 3 --session other.session --quiet >/dev/null
    run "$BRT" generate model -n 3 --session other.session
    refused "other.session"
    head -c 200 other.session >broken.session
    run "$BRT" generate other -n 3 --session broken.session
    refused "broken.session"
    run "$BRT" generate model -n 3 --session text.txt
    refused "text.txt"
}

@test "refused before a token is generated: a session that cannot be written" {
    run --separate-stderr "$BRT" generate model -n 3 --session nowhere/s
    [ "$status" -eq 1 ]
    [ -z "$output" ]
    [ "$stderr" = "brt: cannot write the session nowhere/s: No such file or directory" ]
}

@test "a reader that has enough ends the program without a word" {
    run --separate-stderr bash -c '"$BRT" generate model -n 1000000 --quiet | head -c 1 >/dev/null'
    [ "$status" -eq 0 ]
    [ -z "$stderr" ]
}

@test "refused: impossible ways to draw" {
    run "$BRT" generate model -n 1 --temperature -1
    refused "temperature"
    run "$BRT" generate model -n 1 --top-p 1.5
    refused "top_p"
    run "$BRT" generate model -n 1 --filter-thres 1
    refused "filter_thres"
}

@test "a model whose tokens are not bytes reads and writes numbers" {
    "$BRT" train --data text.txt --format uint16 --num-tokens 65536 --out numbers --quiet "${TINY[@]}" --steps 1 \
        >/dev/null
    run --separate-stderr "$BRT" generate numbers --prompt "5 17 300" -n 4 --quiet
    [ "$status" -eq 0 ]
    [[ "$output" =~ ^([0-9]+\ ){4}$ ]]
    run "$BRT" generate numbers --prompt "5 seven" -n 4
    refused "'seven'"
    run "$BRT" generate numbers --prompt "5 65536" -n 4
    refused "'65536'"
    printf '5 \0 17' >zero.txt
    run "$BRT" generate numbers --prompt-file zero.txt -n 1
    refused "byte 0 at offset 2"
}

@test "eval scores a text" {
    run --separate-stderr "$BRT" eval model --data text.txt
    [ "$status" -eq 0 ]
    [[ "$output" == *"bits per byte"*"perplexity"*"tokens/s"* ]]
    [ -z "$stderr" ]
}

@test "eval as JSON, with and without what is carried" {
    for options in "" "--no-states" "--no-memories" "--clear-every-segment"; do
        # shellcheck disable=SC2086  # an option or none
        "$BRT" eval model --data text.txt --json $options >"result$options.json"
    done
    python3 - <<'PYTHON'
import json, math, os
size = os.path.getsize("text.txt")
plain = json.load(open("result.json"))
assert plain["documents"] == 1 and plain["tokens"] == size - 1, plain
assert abs(plain["bits_per_byte"] - plain["loss"] / math.log(2)) < 1e-12
assert abs(plain["perplexity"] - math.exp(plain["loss"])) < 1e-9
losses = {plain["loss"]}
for options in "--no-states", "--no-memories", "--clear-every-segment":
    losses.add(json.load(open(f"result{options}.json"))["loss"])
assert len(losses) == 4, losses
PYTHON
}

@test "eval by position adds up to the whole" {
    "$BRT" eval model --data text.txt text.txt --json --by-position --buckets 5 --bucket-width 100 >position.json
    python3 - <<'PYTHON'
import json
result = json.load(open("position.json"))
parts = result["by_position"]
assert [part["from"] for part in parts] == [0, 100, 200, 300, 400], parts
assert sum(part["tokens"] for part in parts) == result["tokens"]
mean = sum(part["tokens"] * part["loss"] for part in parts) / result["tokens"]
assert abs(mean - result["loss"]) < 1e-9
PYTHON
    run "$BRT" eval model --data text.txt --by-position
    [[ "$output" == *"position"*"bits/byte"* ]]
}

@test "eval of at most so many tokens" {
    run "$BRT" eval model --data text.txt --max-tokens 500 --json
    [ "$status" -eq 0 ]
    python3 -c 'import json, sys; assert 500 <= json.loads(sys.argv[1])["tokens"] < 600' "$output"
}

@test "info as text and JSON" {
    run "$BRT" info model
    [ "$status" -eq 0 ]
    [[ "$output" == *"block_width"*"parameters"*"recurrence"*"memory of training"* ]]
    "$BRT" info model --json >info.json
    python3 - <<'PYTHON'
import json
info = json.load(open("info.json"))
assert info["config"]["block_width"] == 16
assert info["parameters"] == sum(info["parameters_by_part"].values())
assert info["parameter_bytes"] == 4 * info["parameters"]
assert min(info[key] for key in ("flops_per_token", "stream_bytes", "training_bytes", "decode_bytes_per_token")) > 0
PYTHON
}

@test "info of a model that does not exist yet" {
    run "$BRT" info --preset reference --json
    [ "$status" -eq 0 ]
    [[ "$output" == *'"max_seq_len": 1024'* ]]
}
