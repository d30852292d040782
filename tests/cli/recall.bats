# The example of how far back a state remembers: $RECALL_ARMS compares arms of $RECALL_DISTANCE.
load common

@test "one fact is learned within the window, and asked for ever later" {
    run "$RECALL_DISTANCE" blocks=3 longest=4 steps=150 qk_logit_scale=8
    [ "$status" -eq 0 ]
    [[ "$output" == *"2 blocks answered by step "* ]]
    [[ "$output" == *"recall after 2 blocks: 1.00"* ]]
    [[ "$output" == *"recall after 4 blocks: "* ]]
}

@test "arms are rows of one table" {
    BIASES="0 -3" SCALES=8 run "$RECALL_ARMS" "$RECALL_DISTANCE" blocks=2 longest=2 steps=5
    [ "$status" -eq 0 ]
    [ "${#lines[@]}" -eq 4 ]
    [[ "${lines[0]}" == *"| 2 |" ]]
    [[ "${lines[3]}" == "| -3 | 8 | 1 |"*"| 0."*" |" ]]
}

@test "an argument that is not there is refused" {
    run "$RECALL_DISTANCE" gate=3
    [ "$status" -eq 1 ]
    [[ "$output" == *'"gate" is not an argument of the model'* ]]
}
