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
    diff <("$BRT" info model) <("$BRT" info broken)
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
    for bytes in '\xff\xff\xff\xff\xff\xff\xff\xff' '\xff\xff\xff\xff\x00\x00\x00\x00' \
                 '\x00\x00\x00\x00\x00\x00\x00\x80'; do
        cp model/model.safetensors broken/model.safetensors
        printf "$bytes" | dd of=broken/model.safetensors conv=notrunc status=none
        run "$BRT" info broken
        refused "broken/model.safetensors"
    done
}

@test "config.json that is none" {
    for text in '' '{' '[]' '{"dim": 3' '{"dim": 1, "dim": 2}' '{"dim": "wide"}' '{"width": 3}' \
                '{"dim": 99999999999999999999}'; do
        printf '%s' "$text" >broken/config.json
        run "$BRT" info broken
        refused "broken/config.json"
    done
    sed 's/"dim_head": 8/"dim_head": 7/' model/config.json >broken/config.json
    run "$BRT" info broken
    refused 'the configuration in broken: "dim_head" is 7'
    long=$(printf 'a%.0s' $(seq 200))
    run "$BRT" info "$long/$long/$long/$long/$long/$long/$long"
    refused "No such file or directory"
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
    run "$BRT" info --preset tiny --num-tokens 2147483647
    refused "bytes of parameters"
    run "$BRT" info --preset tiny --num-state-vectors 2147483647
    refused "bytes of parameters"
    run "$BRT" info --preset tiny --block-width 1073741824 --max-seq-len 1073741824
    refused "bytes of position tables"
    run timeout 20 "$BRT" info --preset tiny --segment-blocks 1000000
    refused "segment_blocks is 1000000; with 4 layers it must be at most 32768"
    run train giant --steps 1 --sample-every 1 --sample-tokens 4611686018427387904
    refused "sample_tokens is 4611686018427387904"
    run train giant --steps 1 --sampling crops --crop-segments 18446744073709551615
    refused "crop_segments is 18446744073709551615"
}

@test "more threads than can be" {
    run "$BRT" bench --preset tiny --threads 1025
    refused "threads is 1025; it must lie between 0 (all processors) and 1024"
    run "$BRT" eval model --data text.txt --threads 1025
    refused "threads is 1025; it must lie between 0 (all processors) and 1024"
    run "$BRT" generate model -n 1 --threads 2000000000
    refused "threads is 2000000000"
    run train crowd --steps 1 --threads 1025
    refused "threads is 1025"
    [ ! -e crowd/model.safetensors ]
}

@test "arguments that break a rule name it" {
    run "$BRT" info --preset tiny --block-width 100
    refused "block_width"
    run "$BRT" info --preset tiny --recurrent-layers 9
    refused "recurrent_layers"
    run "$BRT" info --preset tiny --dim 0
    refused "dim"
    run "$BRT" info --preset tiny --use-compressed-mem true --compressed-mem-factor 65
    refused "compressed_mem_factor"
    run "$BRT" info --preset tiny --compression least
    refused "most_used"
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
    run train none --steps 1 --val one.txt
    refused "there is nothing to validate on"
    [ ! -e none/model.safetensors ]
}

@test "data that is no file, and names of any bytes" {
    mkfifo pipe
    run timeout 20 "$BRT" eval model --data pipe
    refused "pipe is a device, pipe or socket"
    run timeout 20 "$BRT" eval model --data /dev/zero
    refused "/dev/zero is a device"
    ln -s loop loop
    run "$BRT" eval model --data loop
    refused "loop"
    mkdir odd
    cp text.txt $'odd/new\nline.txt'
    cp text.txt $'odd/\xff\xfe'
    cp text.txt 'odd/[a] b*.txt'
    run "$BRT" eval model --data odd --max-tokens 50 --json
    [ "$status" -eq 0 ]
    "$BRT" eval model --data 'odd/[a] b*.txt' --max-tokens 50 >/dev/null
}

@test "a pipe in the place of a run's file is not waited for" {
    rm broken/metrics.jsonl broken/trainer_state.json
    mkfifo broken/metrics.jsonl broken/trainer_state.json broken/loss.svg
    run timeout 20 "$BRT" plot model --out broken/loss.svg
    refused "cannot write broken/loss.svg"
    run timeout 20 "$BRT" plot broken --out broken.svg
    refused "broken/metrics.jsonl is a device, pipe or socket"
    run timeout 20 "$BRT" train --data text.txt --out broken --resume --steps 60 --quiet
    refused "broken/trainer_state.json is a device, pipe or socket"
    rm broken/trainer_state.json
    run timeout 20 "$BRT" train --data text.txt --out broken --resume --steps 60 --quiet "${TINY[@]}"
    [ "$status" -eq 1 ]
    [[ "$output" == *"broken/metrics.jsonl is a device, pipe or socket"* ]]
}

@test "control characters in names do not reach the terminal" {
    name=$'no\e[31m\n\tfile\x7f'
    run "$BRT" eval model --data "$name"
    refused "no?[31m??file?"
    run "$BRT" info "$name"
    refused "no?[31m??file?/config.json"
    run "$BRT" trace model --tokens "$name" --out out
    refused "no?[31m??file?"
    run "$BRT" generate model "$name"
    misused "unexpected argument 'no?[31m??file?'"
    run "$BRT" "$name"
    misused "unknown command 'no?[31m??file?'"
}

@test "files of another user" {
    [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null || skip "another user is needed"
    chmod 700 model
    run setpriv --reuid=65534 --clear-groups "$BRT" info "$PWD/model"
    [ "$status" -eq 1 ]
    [[ "$output" == *"Permission denied"* ]]
    chmod 755 model
}

@test "weights of every real type, and of no other" {
    convert() {
        python3 - "$1" <<'PYTHON'
import json, struct, sys
kind, letter = sys.argv[1], {"F16": "e", "F64": "d", "I32": "i", "BOOL": "?"}.get(sys.argv[1])
data = open("model/model.safetensors", "rb").read()
size = struct.unpack("<Q", data[:8])[0]
header, body, out, made = json.loads(data[8:8 + size]), data[8 + size:], b"", {}
for name, tensor in header.items():
    if name == "__metadata__":
        continue
    begin, end = tensor["data_offsets"]
    values = struct.unpack(f"<{(end - begin) // 4}f", body[begin:end])
    if kind == "BF16":
        part = b"".join(body[i + 2:i + 4] for i in range(begin, end, 4))
    elif kind in ("NAN", "LARGE"):
        factor = float("nan") if kind == "NAN" else 1e4 if name == "to_logits.1.weight" else 1
        part = struct.pack(f"<{len(values)}f", *[value * factor for value in values])
    else:
        part = struct.pack(f"<{len(values)}{letter}", *[int(v) if letter == "i" else v for v in values])
    made[name] = {"dtype": "F32" if kind in ("NAN", "LARGE") else kind, "shape": tensor["shape"],
                  "data_offsets": [len(out), len(out) + len(part)]}
    out += part
text = json.dumps(made).encode()
open("broken/model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + out)
PYTHON
    }
    for kind in F16 BF16 F64; do
        convert "$kind"
        "$BRT" eval broken --data text.txt --max-tokens 50 >/dev/null
    done
    for kind in I32 BOOL; do
        convert "$kind"
        run "$BRT" info broken
        refused "holds $kind, not real numbers"
    done
    convert NAN
    run "$BRT" eval broken --data text.txt
    refused "the loss is not finite"
    run "$BRT" generate broken -n 3 --quiet
    refused "is not finite: the model's weights are damaged"
    convert LARGE # a perplexity beyond all numbers
    run "$BRT" eval broken --data text.txt --max-tokens 50 --json
    [ "$status" -eq 0 ]
    [[ "$output" == *'"perplexity": null'* ]]
}

@test "a prompt without an end" {
    run timeout 60 "$BRT" generate model --prompt-file /dev/zero -n 1
    refused "/dev/zero is too long for a prompt"
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
    echo '{"step": 1, "loss": 2, "validation": {}}' >broken/metrics.jsonl
    run "$BRT" plot broken
    refused 'broken/metrics.jsonl:1: "validation" lacks'
    rm broken/metrics.jsonl
    run "$BRT" plot broken
    refused "broken/metrics.jsonl"
}
