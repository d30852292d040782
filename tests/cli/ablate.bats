# Ablations: runs that differ in one thing each.
load common

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    write_text text.txt 100
    write_text val.txt 10
}

setup() {
    cd "$BATS_FILE_TMPDIR"
}

ablate() {
    "$BRT" ablate --data text.txt --val val.txt "${TINY[@]}" --steps 3 "$@"
}

@test "a table, a result of each run, a picture" {
    run --separate-stderr ablate --arms base no-recurrence 'wide=--dim 48 --depth 1 --recurrent-layers 1' --seeds 2 \
        --out all
    [ "$status" -eq 0 ]
    [[ "${lines[0]}" == "| arm | bits per byte | against base | tokens/s | memory | steps |" ]]
    [[ "${lines[2]}" == "| base | "*" ± "*" | +0.0000 | "*" | 3 |" ]]
    [[ "${lines[4]}" == "| wide | "* ]]
    [ -s all/losses.svg ]
    [ -s all/wide-1/model.safetensors ]
    [ "$("$BRT" info all/wide-0 --json | grep -c '"dim": 48')" -eq 1 ]
    [ "$("$BRT" info all/no-recurrence-0 --json | grep -c '"recurrent_layers": \[\]')" -eq 1 ]
}

@test "seeds begin where --seed says" {
    ablate --arms base --seed 5 --seeds 2 --out later
    [ "$(ls -d later/base-?)" = "$(printf 'later/base-5\nlater/base-6')" ]
    "$BRT" train --data text.txt --val val.txt "${TINY[@]}" --steps 3 --seed 6 --out alone
    cmp alone/model.safetensors later/base-6/model.safetensors
}

@test "an ablation goes on where it was interrupted" {
    ablate --arms base t5 --out cut >before
    run ablate --arms base t5 --out cut
    refused "holds the run already"
    rm cut/t5-0.json
    run --separate-stderr ablate --arms base t5 --out cut --resume
    [ "$status" -eq 0 ]
    [[ "$stderr" != *"base, seed 0: training"* ]]
    [ "$(cut -d '|' -f 2,3,4 <before)" = "$(cut -d '|' -f 2,3,4 <<<"$output")" ]
}

@test "the paper's arms are its table" {
    run --separate-stderr "$BRT" ablate --paper --data text.txt --val val.txt --out table --steps 1 --dim 32 --depth 2 \
        --heads 2 --dim-head 8 --num-state-vectors 8 --recurrent-layers 2 --batch 1
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 14 ]
    [[ "${lines[2]}" == "| paper-xl | "* ]]
    [[ "${lines[13]}" == "| paper-feedback | "* ]]
}

@test "arms are listed, and unknown ones refused" {
    run "$BRT" ablate --list
    [[ "$output" == *"no-recurrence"*"no states"* ]]
    run ablate --arms no-recurence --out none
    refused "did you mean no-recurrence?"
    run ablate --arms '../x=--dim 8' --out none
    refused "is no arm"
    run ablate --arms base base --out none
    refused "is there twice"
    run "$BRT" ablate --data text.txt --arms base --out none "${TINY[@]}" --steps 1
    [ "$status" -eq 1 ]
    [[ "$output" == *"was not validated: --val, --val-fraction or --split is needed"* ]]
    run ablate --out none
    [ "$status" -eq 2 ]
}
