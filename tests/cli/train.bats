# Training runs: what they leave behind, and that they can be stopped anywhere.
load common

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    write_text text.txt 400
    write_text val.txt 40
}

setup() {
    cd "$BATS_FILE_TMPDIR"
}

# A run in the background that has done some steps: start_run OUT OPTION...; sets $pid
start_run() {
    local out=$1
    # exec: the signals of the tests go to the program and not to a shell around it.
    (exec "$BRT" train --data text.txt --out "$out" --quiet "${TINY[@]}" --steps 1000000 --schedule constant \
        --save-every 7 2>/dev/null 3>&-) &
    pid=$!
    for _ in $(seq 600); do
        [ -f "$out/metrics.jsonl" ] && [ "$(wc -l <"$out/metrics.jsonl")" -ge 20 ] && return
        sleep 0.02
    done
    return 1
}

@test "a run's directory holds everything" {
    run --separate-stderr train everything --steps 4 --val val.txt
    [ "$status" -eq 0 ]
    [[ "$output" == *"everything: 4 steps"* ]]
    [[ "$output" == *"validation: "*"bits per byte; without states "*"; cleared every segment "* ]]
    for file in config.json model.safetensors optimizer.safetensors trainer_state.json metrics.jsonl; do
        [ -s "everything/$file" ]
    done
    [ "$(wc -l <everything/metrics.jsonl)" -eq 4 ]
    [[ "$(head -n 1 everything/metrics.jsonl)" == '{"step":1,"loss":'* ]]
    [[ "$(tail -n 1 everything/metrics.jsonl)" == *'"validation":'* ]]
    [ "$(find everything -type f | wc -l)" -eq 5 ]
}

@test "the run says what it is and needs before it starts, in plain lines" {
    run --separate-stderr "$BRT" train --data text.txt --out spoken --steps 3 "${TINY[@]}"
    [ "$status" -eq 0 ]
    [[ "$stderr" == *"training data: 1 document, "* ]]
    [[ "$stderr" == *" parameters; memory: "*" for training"* ]]
    [[ "$stderr" == *"step 3/3  loss "*" bits/byte "*" tokens/s"* ]]
    [[ "$stderr" != *$'\r'* ]]
}

@test "a bar with the time left on a terminal" {
    command -v script >/dev/null || skip "there is no script(1) to make a terminal"
    run script -qec "'$BRT' train --data text.txt --out barred --steps 30 ${TINY[*]}" /dev/null
    [[ "$output" == *$'\r['*"#"*"] step "*"bits/byte"*"left"* ]]
}

@test "the result as JSON" {
    run --separate-stderr train json --steps 3 --val val.txt --json
    [ "$status" -eq 0 ]
    python3 -c 'import json, sys
result = json.loads(sys.argv[1])
assert result["steps"] == 3, result
assert result["train"]["loss"] > 0
for figure in "with_states", "without_states", "cleared_every_segment":
    assert result["validation"][figure]["bits_per_byte"] > 0' "$output"
}

@test "losses do not depend on the number of threads" {
    for threads in 1 2 3; do
        train "threads$threads" --steps 12 --threads "$threads" >/dev/null
    done
    diff <(losses threads1) <(losses threads2)
    diff <(losses threads1) <(losses threads3)
}

@test "computing activations again changes no number" {
    train kept --steps 12 >/dev/null
    train again --steps 12 --recompute >/dev/null
    diff <(losses kept) <(losses again)
}

@test "another seed, another run" {
    train seed0 --steps 3 >/dev/null
    train seed1 --steps 3 --seed 1 >/dev/null
    ! diff <(losses seed0) <(losses seed1) >/dev/null
}

@test "killed at any moment and resumed, a run has the losses of an uninterrupted one" {
    start_run killed
    kill -9 "$pid"
    wait "$pid" || true
    steps=$(($(wc -l <killed/metrics.jsonl) + 30))
    run train killed --resume --steps "$steps" --schedule constant
    [ "$status" -eq 0 ]
    [[ "$output" == *"resuming at step "* ]]
    train whole --steps "$steps" --schedule constant --save-every 7 >/dev/null
    [ "$(wc -l <killed/metrics.jsonl)" -eq "$steps" ]
    diff <(losses killed) <(losses whole)
    cmp killed/model.safetensors whole/model.safetensors
}

@test "SIGINT and SIGTERM write a checkpoint, end with 130, and the run goes on from there" {
    for signal in INT TERM; do
        start_run "stopped$signal"
        kill -s "$signal" "$pid"
        status=0
        wait "$pid" || status=$?
        [ "$status" -eq 130 ]
        steps=$(wc -l <"stopped$signal/metrics.jsonl")
        run train "stopped$signal" --resume --steps $((steps + 5))
        [ "$status" -eq 0 ]
        [[ "$output" == *"resuming at step $steps"* ]]
        train "whole$signal" --steps $((steps + 5)) --schedule constant >/dev/null
        diff <(losses "stopped$signal") <(losses "whole$signal")
    done
}

@test "resuming takes the options of the run where none are given" {
    train given --steps 6 --batch 3 --sampling crops --seed 5 --lr 2e-3 --schedule constant >/dev/null
    run "$BRT" train --data text.txt --out given --resume --steps 9 --quiet
    [ "$status" -eq 0 ]
    train straight --steps 9 --batch 3 --sampling crops --seed 5 --lr 2e-3 --schedule constant >/dev/null
    diff <(losses given) <(losses straight)
}

@test "a run cannot be resumed with an option that would change its past" {
    train fixed --steps 3 >/dev/null
    run train fixed --resume --steps 6 --seed 9
    refused "seed = 0"
}

@test "an existing run is not overwritten" {
    train kept --steps 3 >/dev/null
    cp kept/model.safetensors before
    run train kept --steps 3
    refused "already holds a run"
    cmp before kept/model.safetensors
}

@test "--max-time ends a run" {
    run train timed --max-time 1
    [ "$status" -eq 0 ]
    [ "$(wc -l <timed/metrics.jsonl)" -gt 3 ]
}

@test "one block per segment warns that the recurrence will not learn" {
    run train oneblock --steps 2 --segment-blocks 1
    [ "$status" -eq 0 ]
    [[ "$output" == *"the recurrence will not learn"* ]]
}

@test "a model from a file, with one argument changed" {
    echo '{"num_tokens": 256, "dim": 24, "depth": 2, "heads": 3, "dim_head": 8, "block_width": 8, "max_seq_len": 32}' >m.json
    run "$BRT" train --data text.txt --out filed --steps 2 --config m.json --heads 2 --quiet
    [ "$status" -eq 0 ]
    grep -q '"heads": 2' filed/config.json
    grep -q '"dim": 24' filed/config.json
}

@test "the end of the data held out" {
    run train fraction --steps 2 --val-fraction 0.1
    [ "$status" -eq 0 ]
    [[ "$output" == *"validation: "* ]]
}

@test "tokens of two bytes, and compressed text" {
    python3 -c 'import struct
open("tokens.bin", "wb").write(b"".join(struct.pack("<H", i * i % 1000) for i in range(20000)))'
    run "$BRT" train --data tokens.bin --out tokens --steps 2 --num-tokens 1000 "${TINY[@]}" --quiet
    [ "$status" -eq 0 ]
    [[ "$output" != *"bits"* ]]
    gzip -kf text.txt
    train plain --steps 3 >/dev/null
    "$BRT" train --data text.txt.gz --out packed --steps 3 "${TINY[@]}" --quiet >/dev/null
    diff <(losses plain) <(losses packed)
}

@test "a sample on the way" {
    "$BRT" train --data text.txt --out sampled --steps 4 --sample-every 2 "${TINY[@]}" 2>talk
    # The bytes of a model so young may be any: no shell variable holds them.
    [ "$(grep -ac -e "^---- sample at step [24]$" talk)" -eq 2 ]
}

@test "a loss that is not finite ends the run and keeps the checkpoint" {
    train finite --steps 5 --save-every 5 --schedule constant >/dev/null
    cp finite/model.safetensors before
    run train finite --resume --steps 400 --lr 1e30 --clip 0
    [ "$status" -eq 1 ]
    [[ "$output" == *"at step "*"not finite"* ]]
    cmp before finite/model.safetensors
}

@test "memory beyond the limit is refused with the sizes" {
    run train large --steps 2 --memory-limit 1M
    refused "MB"
    [ ! -e large/model.safetensors ]
}

@test "the curve as a picture" {
    train curve --steps 5 --val val.txt >/dev/null
    if ! command -v gnuplot >/dev/null; then
        run "$BRT" plot curve
        refused "gnuplot"
        skip "gnuplot is not installed"
    fi
    "$BRT" plot curve --out curve.svg
    grep -q '<svg' curve.svg
    run "$BRT" plot curve --out curve.jpeg
    refused "must end in .svg or .png"
    run env PATH=/nonexistent "$BRT" plot curve
    refused "gnuplot-nox"
}
