# Input from outside that is wrong: one sentence, status 1, nothing damaged.
load common

setup_file() {
    make_model
}

setup() {
    cd "$BATS_FILE_TMPDIR"
    rm -rf broken
    cp -r model broken
}

@test "a model that is not there" {
    run "$BRT" info nowhere
    refused "nowhere"
    run "$BRT" generate nowhere -n 3
    refused "nowhere"
    rm broken/model.safetensors
    run "$BRT" eval broken --data text.txt
    refused "broken/model.safetensors"
}

@test "model.safetensors cut anywhere" {
    size=$(wc -c <model/model.safetensors)
    for length in 0 1 7 8 9 100 1000 $((size / 2)) $((size - 1)); do
        head -c "$length" model/model.safetensors >broken/model.safetensors
        run "$BRT" info broken
        refused "broken/model.safetensors"
    done
}

@test "model.safetensors with something behind it" {
    echo more >>broken/model.safetensors
    run "$BRT" info broken
    refused "broken/model.safetensors"
}

@test "a header that lies about its length" {
    for bytes in '\xff\xff\xff\xff\xff\xff\xff\xff' '\xff\xff\xff\xff\x00\x00\x00\x00' '\x00\x00\x00\x00\x00\x00\x00\x80'; do
        cp model/model.safetensors broken/model.safetensors
        printf "$bytes" | dd of=broken/model.safetensors conv=notrunc status=none
        run "$BRT" info broken
        refused "broken/model.safetensors"
    done
}

@test "config.json that is none" {
    for text in '' '{' '[]' '{"dim": 3' '{"dim": 1, "dim": 2}' '{"dim": "wide"}' '{"width": 3}' '{"dim": 99999999999999999999}'; do
        printf '%s' "$text" >broken/config.json
        run "$BRT" info broken
        refused "broken"
    done
}

@test "config.json that does not match the weights" {
    sed -i 's/"depth": 2/"depth": 3/' broken/config.json
    run "$BRT" info broken
    refused "broken/model.safetensors"
    cp model/config.json broken/config.json
    sed -i 's/"dim": 32/"dim": 40/' broken/config.json
    run "$BRT" info broken
    refused "broken/model.safetensors"
}

@test "a configuration too large for any machine" {
    run "$BRT" info --preset tiny --dim 2147483647 --depth 64 --num-tokens 2147483647
    [ "$status" -eq 1 ]
    run "$BRT" train --data text.txt --out giant --steps 1 --dim 1000000 --heads 10000
    [ "$status" -eq 1 ]
    [ ! -e giant/model.safetensors ]
}

@test "arguments that break a rule name it" {
    run "$BRT" info --preset tiny --block-width 100
    refused "block_width"
    run "$BRT" info --preset tiny --recurrent-layers 9
    refused "recurrent_layers"
    run "$BRT" info --preset tiny --dim 0
    refused "dim"
    run "$BRT" info --preset tiny --use-compressed-mem
    refused "compressed"
}

@test "data that is not there, empty or too short" {
    run train none --data missing.txt --steps 1
    refused "missing.txt"
    : >empty.txt
    run "$BRT" train --data empty.txt --out none --steps 1 --quiet "${TINY[@]}"
    [ "$status" -eq 1 ]
    printf x >one.txt
    run "$BRT" train --data one.txt --out none --steps 1 --quiet "${TINY[@]}"
    [ "$status" -eq 1 ]
    run "$BRT" eval model --data empty.txt
    [ "$status" -eq 1 ]
    run "$BRT" eval model --data 'nothing*.txt'
    refused "nothing*.txt"
    [ ! -e none/model.safetensors ]
}

@test "tokens outside the vocabulary" {
    printf '\x01\x00\xff\xff' >large.bin
    run "$BRT" eval model --data large.bin --format uint16
    refused "large.bin"
    run "$BRT" train --data large.bin --out none --steps 1 --quiet "${TINY[@]}"
    refused "large.bin"
}

@test "compressed text that is damaged" {
    gzip -c text.txt | head -c 500 >damaged.gz
    run "$BRT" eval model --data damaged.gz
    refused "damaged.gz"
    xz -c text.txt | head -c 500 >damaged.xz
    run "$BRT" eval model --data damaged.xz
    refused "damaged.xz"
}

@test "a checkpoint that is damaged is refused, and stays as it is" {
    head -c 5000 model/optimizer.safetensors >broken/optimizer.safetensors
    md5sum broken/* >sums
    run train broken --resume --steps 60
    [ "$status" -eq 1 ]
    grep -v metrics.jsonl sums | md5sum --check --quiet
    echo '{"options": 3' >broken/trainer_state.json
    run train broken --resume --steps 60
    refused "broken/trainer_state.json"
}

@test "a directory that cannot be written" {
    run train /dev/null/run --steps 1
    refused "/dev/null/run"
    run train text.txt --steps 1
    refused "text.txt"
}

@test "metrics that are none" {
    echo nonsense >broken/metrics.jsonl
    run "$BRT" plot broken
    refused "broken/metrics.jsonl:1"
    rm broken/metrics.jsonl
    run "$BRT" plot broken
    refused "broken/metrics.jsonl"
}
