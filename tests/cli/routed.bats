# Routed memories and exact recall from the command line, in a layer with a conditional feed-forward: one of CoLT5's.
load common

ROUTED=(--routed-layers 2 --routes 2 --routed-tokens 6 --route-every 8 --routed-capacity 100
        --conditional-ff-layers 2 --conditional-ff-tokens 3)

setup_file() {
    make_model
    train routed --steps 20 "${ROUTED[@]}" >/dev/null
}

setup() {
    cd "$BATS_FILE_TMPDIR"
}

@test "a run with a routed memory resumes bit by bit" {
    train parts --steps 10 "${ROUTED[@]}" --schedule constant >/dev/null
    "$BRT" train --data text.txt --out parts --resume --steps 20 --quiet
    train whole --steps 20 "${ROUTED[@]}" --schedule constant >/dev/null
    [ "$(losses parts)" = "$(losses whole)" ]
}

@test "a session with a full routed memory goes on where it was" {
    "$BRT" generate routed --prompt "a small ship" -n 300 --seed 3 --quiet >whole.txt
    "$BRT" generate routed --prompt "a small ship" -n 211 --seed 3 --session s --quiet >parts.txt
    "$BRT" generate routed -n 89 --seed 3 --session s --quiet >>parts.txt
    cmp whole.txt parts.txt
}

@test "exact recall, with routes or without" {
    for model in routed model; do
        "$BRT" generate "$model" --prompt "a small ship" -n 200 --seed 3 --recall 4 --quiet >whole.txt
        "$BRT" generate "$model" --prompt "a small ship" -n 120 --seed 3 --recall 4 --session "$model.s" --quiet \
            >parts.txt
        "$BRT" generate "$model" -n 80 --seed 3 --recall 4 --session "$model.s" --quiet >>parts.txt
        cmp whole.txt parts.txt
        "$BRT" eval "$model" --data text.txt --max-tokens 500 --recall 4 --json >recalled
        "$BRT" eval "$model" --data text.txt --max-tokens 500 --json >chosen
        ! cmp -s recalled chosen
    done
    run "$BRT" eval model --data text.txt --recall 4 --recall-layer 3
    refused "layers range from 1 to 2"
}

@test "info and trace have the routed memory" {
    "$BRT" info routed --json >info.json
    python3 -c '
import json
info = json.load(open("info.json"))
assert info["parameters_by_part"]["routing"] > 0
assert info["routed_bytes"] == 2 * 112 * 8 * 2  # keys and values of 112 tokens of 8 numbers in bf16
'
}
