# Help, mistyped options, and what goes where.
load common

COMMANDS="train eval generate info quantize plot trace bench"

@test "without a command the overview goes to stderr and the status is 2" {
    run bash -c '"$BRT" 2>/dev/null'
    [ "$status" -eq 2 ]
    [ -z "$output" ]
    run "$BRT"
    [[ "$output" == *"Usage: brt COMMAND"* ]]
}

@test "--help lists every command" {
    run "$BRT" --help
    [ "$status" -eq 0 ]
    for command in $COMMANDS; do
        [[ "$output" == *"  $command "* ]]
    done
}

@test "--version" {
    run "$BRT" --version
    [ "$status" -eq 0 ]
    [[ "$output" =~ ^brt\ [0-9]+\.[0-9]+\.[0-9]+ ]]
}

@test "every command has help on stdout" {
    for command in $COMMANDS; do
        run bash -c '"$BRT" "$1" --help 2>/dev/null' - "$command"
        [ "$status" -eq 0 ]
        [[ "${lines[0]}" == "Usage: brt $command"* ]]
        [[ "$output" == *"-h, --help"* ]]
    done
}

@test "train has an option for every argument of the model" {
    run "$BRT" train --help
    for name in num-tokens dim depth dim-head heads all-layers-qk-rmsnorm ff-mult max-seq-len block-width \
        recurrent-layers read-recurrent-layers num-state-vectors ignore-index use-flash-attn; do
        [[ "$output" == *"--$name "* ]]
    done
}

@test "an unknown command names the nearest" {
    run "$BRT" trian
    misused "did you mean 'train'?"
}

@test "an unknown option names the nearest" {
    run "$BRT" train --bathc 3
    misused "unknown option --bathc; did you mean --batch?"
    run "$BRT" train --blok-width=3
    misused "did you mean --block-width?"
    run "$BRT" eval run -z
    misused "unknown option -z"
}

@test "an option far from all others gets no suggestion" {
    run "$BRT" info --something-completely-different
    misused "unknown option --something-completely-different"
    [[ "$output" != *"did you mean"* ]]
}

@test "values are checked" {
    run "$BRT" train --data x --out y --batch many
    misused "--batch is 'many'; it must be a whole number"
    run "$BRT" train --data x --out y --batch -3
    misused "--batch is '-3'"
    run "$BRT" train --data x --out y --steps 99999999999999999999999
    misused "--steps is"
    run "$BRT" train --data x --out y --lr fast
    misused "--lr is 'fast'; it must be a number"
    run "$BRT" train --data x --out y --lr nan
    misused "--lr is 'nan'"
    run "$BRT" train --data x --out y --max-time 3d
    misused "--max-time is '3d'"
    run "$BRT" train --data x --out y --max-time 1e308h
    misused "--max-time is '1e308h'"
    run "$BRT" train --data x --out y --sampling random
    misused "--sampling is 'random'; it must be one of stream|crops"
    run "$BRT" train --data x --out y --preset huge
    misused "tiny|small|reference|paper-tiny|paper-150m"
}

@test "a missing value, and one too many" {
    run "$BRT" train --batch
    misused "--batch needs a value"
    run "$BRT" train --resume=yes
    misused "--resume takes no value"
}

@test "missing and superfluous arguments" {
    run "$BRT" train --out x
    misused "--data is missing"
    run "$BRT" train --data x
    misused "--out is missing"
    run "$BRT" eval
    misused "RUN is missing"
    run "$BRT" eval --data x run
    misused "before --data"
    run "$BRT" eval run
    misused "--data is missing"
    run "$BRT" generate one two
    misused "unexpected argument 'two'"
    run "$BRT" trace dir --tokens x
    misused "--out is missing"
    run "$BRT" info
    misused "a run's directory or the arguments of a model"
    run "$BRT" generate run --prompt a --prompt-file b
    misused "exclude each other"
    run "$BRT" generate run --session ''
    misused "--session is ''"
    run "$BRT" eval run --data x --by-position --buckets 1000000000
    misused "--buckets must lie between 1 and 1000000"
}

@test "dashes and underscores mean the same" {
    run "$BRT" info --preset tiny --block_width 32 --json
    [ "$status" -eq 0 ]
    [[ "$output" == *'"block_width": 32'* ]]
}

@test "the manual page and the completion know every command and option" {
    run "$BRT" --man
    [ "$status" -eq 0 ]
    [[ "${lines[0]}" == ".TH BRT 1"* ]]
    [[ "$output" == *'\-\-xl\-memories\-dropout'* ]]
    [[ "$output" == *'\-\-read\-recurrent\-layers'* ]]
    "$BRT" --completion >"$BATS_TEST_TMPDIR/brt"
    source "$BATS_TEST_TMPDIR/brt"
    COMP_WORDS=(brt train --xl) COMP_CWORD=2
    _brt
    [ "${COMPREPLY[*]}" = "--xl-memories-dropout" ]
    COMP_WORDS=(brt train --sampling c) COMP_CWORD=3
    _brt
    [ "${COMPREPLY[*]}" = "crops" ]
    COMP_WORDS=(brt ge) COMP_CWORD=1
    _brt
    [ "${COMPREPLY[*]}" = "generate" ]
}

@test "a full standard output is an error" {
    [ -c /dev/full ] || skip "there is no /dev/full"
    run bash -c '"$BRT" info --preset tiny >/dev/full'
    refused "cannot write to standard output"
    run bash -c '"$BRT" --help >/dev/full'
    refused "cannot write to standard output"
    run bash -c '"$BRT" --help >&-'
    refused "cannot write to standard output"
}

@test "an instruction set that does not exist is refused" {
    run "$BRT" info --preset tiny
    [ "$status" -eq 0 ]
    BRT_ISA=mmx run "$BRT" info --preset tiny
    refused "BRT_ISA=mmx"
}
