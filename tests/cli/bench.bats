# What is measured, and how it is told.
load common

MODEL=("${TINY[@]:0:12}" --batch 2 --repeats 1) # bench takes no --segment-blocks

setup() {
    cd "$BATS_TEST_TMPDIR" || return
}

# Runs Python statements on the object `bench` that brt bench printed.
check_json() {
    python3 -c "
import json
bench = json.load(open('bench.json'))
$1"
}

@test "bench prints the keys that scripts read" {
    "$BRT" bench --json "${MODEL[@]}" >bench.json
    check_json '
assert list(bench) == ["machine", "training", "training_operations", "decode"]
machine = bench["machine"][0]
assert machine["peak_f32_gflops"] > 0 and machine["read_gbytes_per_s"] > 0 and machine["threads"] > 0
assert machine["peak_bf16_gflops"] is None or machine["peak_bf16_gflops"] > 0
step = bench["training"][0]
assert step["dtype"] == "f32" and step["batch"] == 2
assert min(step[key] for key in ("seconds_per_step", "tokens_per_s", "fraction_of_peak")) > 0
shares = [row["fraction_of_step"] for row in bench["training_operations"] if row["dtype"] == "f32"]
assert abs(sum(shares) - 1) < 1e-9
assert [row["weights"] for row in bench["decode"]] == ["f32", "bf16", "int8"]
for row in bench["decode"]:
    assert min(row[key] for key in ("mbytes", "ms_per_token", "fraction_of_bandwidth")) > 0
    assert row["worst_over_median"] >= 1
'
}

@test "sections are chosen by name" {
    "$BRT" bench --json "${MODEL[@]}" decode machine >bench.json
    check_json 'assert list(bench) == ["machine", "decode"]'
    run "$BRT" bench trainig
    misused "there is no section 'trainig'; did you mean 'training'?"
    run "$BRT" bench decode everything
    misused "there is no section 'everything'"
}

@test "every kernel in every instruction set, and attention" {
    "$BRT" bench --json "${MODEL[@]}" kernels attention >bench.json
    check_json '
assert all(row["unit"] in ("GB/s", "GFLOP/s") for row in bench["kernels"])
for row in bench["kernels"]:
    speeds = {key: value for key, value in row.items() if key not in ("kernel", "unit")}
    assert "generic" in speeds and min(speeds.values()) > 0, row
assert {(row["to"], row["keys"]) for row in bench["attention"]} == {("window", 32), ("states", 16)}
fractions = ("forward_fraction_of_peak", "backward_fraction_of_peak")
assert all(0 < row[key] < 2 for row in bench["attention"] for key in fractions)
'
}

@test "one thread and all" {
    "$BRT" bench --json "${MODEL[@]}" scaling >bench.json
    check_json '
assert {row["what"] for row in bench["scaling"]} == {"training step", "decoding a block"}
assert all(row["efficiency"] > 0 and row["efficiency_over_machines"] > 0 for row in bench["scaling"])
assert "linear" in {row["operation"] for row in bench["scaling_operations"]}
'
}

@test "tables are Markdown" {
    run "$BRT" bench "${MODEL[@]}" --dtype f32 training
    [ "$status" -eq 0 ]
    [[ "${lines[1]}" =~ ^\|\ type\ \|\ batch\ \| ]]
    [[ "${lines[2]}" =~ ^\|-+\|-+:\| ]]
    [[ "${lines[3]}" =~ ^\|\ f32\ +\|\ +2\ \|.*%\ \|$ ]]
}

@test "streams together, prompts, and tokens far into a text" {
    "$BRT" bench --json "${MODEL[@]}" streams prefill context --context 5000 >bench.json
    check_json '
assert [(row["weights"], row["streams"]) for row in bench["streams"]] == [
    (weights, streams) for weights in ("f32", "bf16", "int8") for streams in (1, 4, 16)]
assert all(row["tokens_per_s"] > 0 for row in bench["streams"])
assert [row["weights"] for row in bench["prefill"]] == ["f32", "bf16", "int8"]
assert all(row["over_training_forward"] > 0 for row in bench["prefill"])
assert [row["tokens"] for row in bench["context"]] == [2000, 5000]
assert all(row["resident_mbytes"] > 0 for row in bench["context"])
'
}
