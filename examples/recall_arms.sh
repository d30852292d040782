#!/bin/sh
# What the gate of a state and the scale of its logits do to learning one fact, and to how far back it is remembered, as
# a table: recall_arms.sh RECALL_DISTANCE [NAME=VALUE...]
#
# RECALL_DISTANCE is the example of that name, and the rest goes to it. BIASES, SCALES and SEEDS are lists.
set -eu
program=$1
shift

# A row of the table, and before the first one its head: table_row ARM RESULT
table_row() {
    printf '%s\n' "$2" | awk -v arm="$1" -v is_first="$is_first" '
        / answered by step / { step = $NF }
        /^recall after [0-9]+ blocks:/ { distances = distances " " $3 " |"; recall = recall " " $NF " |" }
        END {
            if (is_first) {
                print "| gate bias | logit scale | seed | longest answered by step |" distances
                gsub(/[^|]+/, "---", distances)
                print "|---|---|---|---|" distances
            }
            print "| " arm " | " step " |" recall
        }'
}

is_first=1
for bias in ${BIASES:-0 -3 -4}; do
    for scale in ${SCALES:-0 8}; do
        for seed in ${SEEDS:-1}; do
            result=$("$program" "$@" state_gate_bias="$bias" qk_logit_scale="$scale" seed="$seed")
            table_row "$bias | $scale | $seed" "$result"
            is_first=0
        done
    done
done
