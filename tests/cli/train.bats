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
    script -qec true /dev/null >/dev/null 2>&1 || skip "script(1) cannot make a terminal here"
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

@test "the time by operation" {
    run --separate-stderr train profiled --steps 3 --profile
    [ "$status" -eq 0 ]
    for entry in linear attention optimizer "everything else"; do
        [[ "$stderr" == *"$entry"*" %"* ]]
    done
}

@test "the loss of compressed memories" {
    compressed=(--use-compressed-mem true --compressed-mem-factor 4 --reconstruction-weight 0.5)
    train compressing --steps 30 "${compressed[@]}"
    [[ "$(tail -n 1 compressing/metrics.jsonl)" == *'"reconstruction_loss":0.'* ]]
    train compressing --steps 32 --resume
    [[ "$(tail -n 1 compressing/metrics.jsonl)" == *'"reconstruction_loss":0.'* ]]
    run train uncompressed --steps 1 --reconstruction-weight 0.5
    refused "reconstruction_weight"
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
    train given --steps 6 --batch 3 --sampling crops --seed 5 --lr 2e-3 --schedule constant --recompute >/dev/null
    run "$BRT" train --data text.txt --out given --resume --steps 9 --quiet
    [ "$status" -eq 0 ]
    grep -q '"recompute": true' given/trainer_state.json
    train straight --steps 9 --batch 3 --sampling crops --seed 5 --lr 2e-3 --schedule constant >/dev/null
    diff <(losses given) <(losses straight)
}

@test "resuming validates, samples and saves as often as before" {
    train often --steps 6 --val val.txt --val-every 4 --val-tokens 20 --sample-every 5 --sample-tokens 7 \
        --save-every 3 >/dev/null
    run --separate-stderr "$BRT" train --data text.txt --val val.txt --out often --resume --steps 10 --quiet
    [ "$status" -eq 0 ]
    [ "$(grep -c '"validation":{"tokens":32,' often/metrics.jsonl)" -eq 4 ] # at 4, 6, 8 and 10
    [[ "$stderr" == *"sample at step 10"* ]]
    grep -q '"save_every": 3' often/trainer_state.json
}

@test "a run killed before its first checkpoint is resumed with its options, too" {
    start_run early --save-every 0 --batch 3
    kill -9 "$pid"
    wait "$pid" || true
    [ ! -e early/optimizer.safetensors ]
    run "$BRT" train --data text.txt --out early --resume --steps 4 --quiet
    [ "$status" -eq 0 ]
    [[ "$output" == *"no checkpoint in early yet"* ]]
    train late --batch 3 --steps 4 --schedule constant >/dev/null
    diff <(losses early) <(losses late)
}

@test "a run cannot be resumed with an option that would change its past" {
    train fixed --steps 3 >/dev/null
    run train fixed --resume --steps 6 --seed 9
    refused "seed = 0"
    run train fixed --resume --steps 6 --batch 3
    refused "batch = 2"
    run train fixed --resume --steps 6 --dim 40
    refused "dim = 32"
    run train fixed --resume --steps 6 --ignore-index 3
    refused "ignore_index = -100"
    run "$BRT" train --data text.txt --out fixed --resume --steps 6 --quiet --preset small
    refused "the model of the run in fixed has"
    run "$BRT" train --data val.txt --out fixed --resume --steps 6 --quiet
    refused "the data has changed"
}

@test "the largest seed is resumed with" {
    train seeded --steps 2 --seed 18446744073709551615 >/dev/null
    "$BRT" train --data text.txt --out seeded --resume --steps 4 --quiet
}

@test "a run that is done says so, and what a kill cut off its last checkpoint is there afterwards" {
    train done --steps 4 >/dev/null
    cp done/model.safetensors done/trainer_state.json .
    rm done/model.safetensors
    echo '{"options": {}}' >done/trainer_state.json
    run --separate-stderr train done --resume --steps 3 --json
    [ "$status" -eq 0 ]
    [[ "$stderr" == *"nothing is left to do: the run is at step 4"* ]]
    [[ "$output" == *'"steps": 4'* ]]
    cmp done/model.safetensors model.safetensors
    cmp done/trainer_state.json trainer_state.json
}

@test "what a killed run left half written is removed" {
    train swept --steps 2 >/dev/null
    touch swept/model.safetensors.123-0.tmp swept/metrics.jsonl.9-1.tmp swept/notes.tmp swept/model.safetensors.x.tmp
    train swept --resume --steps 3 >/dev/null
    [ ! -e swept/model.safetensors.123-0.tmp ]
    [ ! -e swept/metrics.jsonl.9-1.tmp ]
    [ -e swept/notes.tmp ]
    [ -e swept/model.safetensors.x.tmp ]
}

@test "one run at a time in a directory" {
    start_run shared
    run train shared --resume --steps 5
    refused "shared is in use"
    run train shared --steps 5
    refused "shared is in use"
    kill -9 "$pid"
    wait "$pid" || true
    train shared --resume --steps 1 >/dev/null
}

@test "without its checkpoint a model is not overwritten" {
    train lost --steps 3 >/dev/null
    rm lost/optimizer.safetensors
    md5sum lost/* >sums
    run train lost --steps 3
    refused "no optimizer.safetensors"
    run train lost --resume --steps 3
    refused "no optimizer.safetensors"
    md5sum --check --quiet sums
}

@test "an existing run is not overwritten" {
    train existing --steps 3 >/dev/null
    cp existing/model.safetensors before
    run train existing --steps 3
    refused "already holds a run"
    cmp before existing/model.safetensors
}

@test "--max-time ends a run" {
    run train timed --max-time 1
    [ "$status" -eq 0 ]
    [ "$(wc -l <timed/metrics.jsonl)" -gt 3 ]
}

@test "a run of some time goes on for some steps, and the other way round" {
    train renewed --max-time 0.2 >/dev/null
    steps=$(($(wc -l <renewed/metrics.jsonl) + 3))
    train renewed --resume --steps "$steps" >/dev/null
    [ "$(wc -l <renewed/metrics.jsonl)" -eq "$steps" ]
    train renewed --resume --max-time 2s >/dev/null
    [ "$(wc -l <renewed/metrics.jsonl)" -gt "$steps" ]
}

@test "data that is cut during a run ends it with a sentence" {
    write_text large.txt 3000
    (exec "$BRT" train --data large.txt --out cut --quiet "${TINY[@]}" --steps 1000000 2>sentence 3>&-) &
    pid=$!
    for _ in $(seq 600); do
        [ -s cut/metrics.jsonl ] && break
        sleep 0.02
    done
    : >large.txt
    status=0
    wait "$pid" || status=$?
    [ "$status" -eq 1 ]
    [ "$(cat sentence)" = "brt: a file was cut short, or its disk failed, while it was being read" ]
}

@test "a warning when the validation data is trained on" {
    run train seen --steps 1 --val text.txt
    [ "$status" -eq 0 ]
    [[ "$output" == *"warning: text.txt is trained on and validated on"* ]]
    run train unseen --steps 1 --val val.txt
    [[ "$output" != *"warning"* ]]
}

@test "one block per segment warns that the recurrence will not learn" {
    run train oneblock --steps 2 --segment-blocks 1
    [ "$status" -eq 0 ]
    [[ "$output" == *"the recurrence will not learn"* ]]
}

@test "a model from a file, with one argument changed" {
    echo '{"num_tokens": 256, "dim": 24, "depth": 2, "heads": 3, "dim_head": 8, "block_width": 8, "max_seq_len": 32}' \
        >m.json
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

@test "messages do not go into a file when standard error is closed" {
    "$BRT" train --data text.txt --out silent --steps 3 "${TINY[@]}" 2>&- >/dev/null
    train loud --steps 3 >/dev/null
    diff <(losses silent) <(losses loud)
}

@test "a directory whose name is not UTF-8 in a result as JSON" {
    run --separate-stderr "$BRT" train --data text.txt --out $'named\xff' --steps 1 --quiet "${TINY[@]}" --json
    [ "$status" -eq 0 ]
    [[ "$output" == *'"run": "named?"'* ]]
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
    run --separate-stderr "$BRT" plot curve --out nowhere/curve.svg
    [ -z "$output" ]
    [ "$stderr" = "brt: cannot write nowhere/curve.svg: No such file or directory" ]
    run env PATH=/nonexistent "$BRT" plot curve --out none.svg
    refused "gnuplot-nox"
    [ ! -e none.svg ]
    run "$BRT" plot curve --out curve.jpeg
    refused "must end in .svg or .png"
}

@test "a graft computes what its model does, and trains on" {
    train stateless --steps 3 --recurrent-layers '[]'
    "$BRT" graft stateless grafted --recurrent-layers 2
    local before after
    before=$("$BRT" eval stateless --data val.txt --json | grep '"loss"')
    after=$("$BRT" eval grafted --data val.txt --json | grep '"loss"')
    [ -n "$before" ]
    [ "$after" = "$before" ]
    "$BRT" train --data text.txt --out grown --init grafted --steps 2 --quiet
    [ "$("$BRT" info grown --json | grep -c '"recurrent_layers"')" -eq 1 ]
    run "$BRT" train --data text.txt --out other --init grafted --depth 3 --steps 1
    [ "$status" -eq 2 ]
    [[ "$output" == *"--init has a model of its own"* ]]
    run "$BRT" graft stateless other --recurrent-layers 2 --depth 9
    [ "$status" -eq 1 ]
    [[ "$output" == *"changes recurrent layers, their states and routed memories only"* ]]
}
