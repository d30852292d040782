#!/usr/bin/env python3
"""The golden values of the paper's code as input and output of `brt trace --loss --grad --grad-of 1`.

    paper_trace.py values.safetensors IN EXPECTED"""
import json
import re
import struct
import sys

from tensors import load


def save(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, part) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    open(path, "wb").write(struct.pack("<Q", len(text)) + text + data)


def memories(golden, layer):
    """Keys | values of [batch, window, heads, dim_head] as [2, batch, window, heads * dim_head]."""
    dtype, (batch, window, heads, head), keys = golden[f"state.2/{layer}/previous_keys_test"]
    values = golden[f"state.2/{layer}/previous_values_test"][2]
    return dtype, [2, batch, window, heads * head], keys + values


def expected(golden):
    for name, tensor in golden.items():
        if name.startswith(("logits.", "loss.")):
            yield name, tensor
        elif name.startswith("grad.1/"):
            yield "grad." + name[len("grad.1/"):], tensor
    states = sorted(name for name in golden if name.endswith("/recurrent_state_test"))
    for index, name in enumerate(states):
        yield f"states.2.{index}", golden[name]
    for name in golden:
        layer = re.fullmatch(r"state\.2/(transformer(\d+))/previous_keys_test", name)
        if layer:
            yield f"memories.2.{layer[2]}", memories(golden, layer[1])


def main():
    golden = dict(load(sys.argv[1]))
    save(sys.argv[2], {n: t for n, t in golden.items() if n.startswith(("tokens.", "start_of_sequence."))})
    save(sys.argv[3], dict(expected(golden)))


main()
