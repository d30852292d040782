#!/usr/bin/env python3
"""Makes a model directory of a checkpoint of the paper's own code (google-research/meliad), which brt then reads:

    import_flax.py CHECKPOINT OUT [--window 512] [--segment 4096] [--set position_encoding=rotary] ...

CHECKPOINT is a file of flax.training.checkpoints (the code of 2022, Python alone reads it) or a directory of Orbax
(that of 2025; the PyPI package orbax-checkpoint reads it). Sizes, gates and position biases follow from names and
shapes of the parameters. What leaves no trace there must be said: the window, the segment (for absolute positions), and
with --set any other argument of the model, such as the position encodings rotary and absolute."""
import argparse
import json
import os
import re
import struct
import sys

DTYPES = {"float32": "F32", "float16": "F16", "float64": "F64", "bfloat16": "BF16"}


class Error(Exception):
    pass


# ---- MessagePack ---------------------------------------------------------------------------------------------


class Reader:
    """MessagePack as flax.serialization writes it: arrays are extensions of type 1, (shape, type's name, bytes)."""

    def __init__(self, data):
        self.data, self.at = memoryview(data), 0

    def take(self, count):
        if count > len(self.data) - self.at:
            raise Error("the file ends inside a value")
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, kind):
        return struct.unpack(">" + kind, self.take(struct.calcsize(kind)))[0]

    def items(self, count):
        return [self.value() for _ in range(count)]

    def mapping(self, count):
        return {self.value(): self.value() for _ in range(count)}

    def extension(self, length):
        kind, payload = self.number("b"), self.take(length)
        if kind != 1:
            return None  # a scalar of numpy, a complex number: no parameter
        shape, dtype, data = Reader(payload).value()
        return Array(shape, dtype, data)

    def value(self):
        code = self.number("B")
        if code < 0x80:
            return code
        if code >= 0xE0:
            return code - 0x100
        if code < 0x90:
            return self.mapping(code & 15)
        if code < 0xA0:
            return self.items(code & 15)
        if code < 0xC0:
            return str(self.take(code & 31), "utf-8")
        constants = {0xC0: None, 0xC2: False, 0xC3: True}
        if code in constants:
            return constants[code]
        numbers = {0xCA: "f", 0xCB: "d", 0xCC: "B", 0xCD: "H", 0xCE: "I", 0xCF: "Q", 0xD0: "b", 0xD1: "h", 0xD2: "i",
                   0xD3: "q"}
        if code in numbers:
            return self.number(numbers[code])
        if 0xD4 <= code <= 0xD8:
            return self.extension(1 << (code - 0xD4))
        lengths = {0xC4: ("B", self.take), 0xC5: ("H", self.take), 0xC6: ("I", self.take), 0xC7: ("B", self.extension),
                   0xC8: ("H", self.extension), 0xC9: ("I", self.extension), 0xD9: ("B", self.text),
                   0xDA: ("H", self.text), 0xDB: ("I", self.text), 0xDC: ("H", self.items), 0xDD: ("I", self.items),
                   0xDE: ("H", self.mapping), 0xDF: ("I", self.mapping)}
        if code not in lengths:
            raise Error(f"the byte {code:#x} begins no value")
        kind, read = lengths[code]
        return read(self.number(kind))

    def text(self, count):
        return str(self.take(count), "utf-8")


class Array:
    def __init__(self, shape, dtype, data):
        self.shape, self.dtype, self.data = list(shape) or [1], dtype, data


def read_flax(path):
    with open(path, "rb") as file:
        return Reader(file.read()).value()


def read_orbax(path):
    try:
        from orbax.checkpoint import PyTreeCheckpointer
    except ImportError:
        raise Error(f"{path} is a directory; Orbax reads it: pip install orbax-checkpoint") from None
    inner = os.path.join(path, "tstate")  # what meliad calls its state
    return PyTreeCheckpointer().restore(os.path.abspath(inner if os.path.isdir(inner) else path))


# ---- parameters ----------------------------------------------------------------------------------------------------


def joined(tree):
    """Flax cuts arrays of more than a gigabyte into chunks."""
    chunks = tree["chunks"]
    parts = [chunks[str(i)] for i in range(len(chunks))]
    shape = [tree["shape"][str(i)] for i in range(len(tree["shape"]))]
    return Array(shape, parts[0].dtype, b"".join(part.data for part in parts))


def flatten(tree, prefix=""):
    """(name, array) of all leaves that are arrays, names joined by /."""
    if isinstance(tree, dict) and "__msgpack_chunked_array__" in tree:
        yield prefix[:-1], joined(tree)
    elif isinstance(tree, dict):
        for name, branch in tree.items():
            yield from flatten(branch, f"{prefix}{name}/")
    elif isinstance(tree, (list, tuple)):
        yield from flatten(dict(enumerate(tree)), prefix)
    elif hasattr(tree, "dtype") and hasattr(tree, "shape"):
        yield prefix[:-1], tree if isinstance(tree, Array) else Array(tree.shape, str(tree.dtype), tree.tobytes())


def find_parameters(tree):
    """Those of the model: the optimizer's moments have the same names behind another prefix."""
    leaves = dict(flatten(tree))
    tail = "embed/embedding"
    prefixes = [name[:-len(tail)] for name in leaves if name == tail or name.endswith("/" + tail)]
    chosen = [p for p in prefixes if p == "" or {"params", "target"} & set(p.split("/"))]
    if not chosen:
        raise Error(f"there is no params/.../{tail} in it: it is no checkpoint of meliad's language model")
    prefix = min(chosen, key=len)
    return {name[len(prefix):]: array for name, array in leaves.items() if name.startswith(prefix)}


# ---- the configuration ---------------------------------------------------------------------------------------------


def one_of(names, choices, otherwise):
    return next((choice for part, choice in choices.items() if any(part in name for name in names)), otherwise)


def describe(parameters, options):
    """The arguments of the model that its parameters tell."""
    def has(pattern):
        return [int(match.group(1)) for match in (re.match(pattern, name) for name in parameters) if match]

    num_tokens, dim = parameters["embed/embedding"].shape
    layers = sorted(set(has(r"transformer(\d+)/tbase/")))
    recurrent = sorted(set(has(r"transformer(\d+)/recurrent_tbase/")))
    state = [name for name in parameters if "/recurrent_tbase/" in name]
    keys, hidden = (parameters[f"transformer0/tbase/{name}/kernel"].shape[1]
                    for name in ("_kvq/keys_layer", "ffn/hidden0"))
    scale = parameters.get("transformer0/tbase/_kvq/attention_scale")
    heads = scale.shape[0] if scale else options.heads
    if not heads or keys % heads:
        raise Error(f"keys of {keys} numbers are no {heads} heads" if heads else "say how many --heads there are")
    crossing = set(has(r"transformer(\d+)/tbase/_kvq/queries2_layer/"))
    with_ffn, with_output = (any(part in name for name in state) for part in ("/ffn/", "/post_attn_mlp/"))
    config = {
        "arithmetic": "paper", "num_tokens": num_tokens, "dim": dim, "depth": len(layers), "heads": heads,
        "dim_head": keys // heads, "ff_mult": hidden / dim, "block_width": options.window,
        "max_seq_len": options.segment, "recurrent_layers": [layer + 1 for layer in recurrent],
        "cosine_attention": scale is not None, "feedback": bool(crossing - set(recurrent)),
        "position_encoding": one_of(parameters, {
            "/rel_embedding": "t5", "/rotation_matrix": "fourier", "/dense_1_kernel": "nn",
            "/orthogonal_basis_coeffs": "orthogonal", "relative_positions/_wrapped_module/scale": "alibi"}, "none"),
        "attention_scale": "absolute" if options.release == 2025 else "signed",
        "logit_divisor": "dim" if options.release == 2025 else "vocabulary",
    }
    if recurrent:
        config["num_state_vectors"] = parameters[f"transformer{recurrent[0]}/recurrent_initial_state"].shape[0]
        config["state_gate"] = one_of(state, {"/gate_bias": "fixed", "/forget_gate": "lstm", "/gate_layer": "full"},
                                      "residual")
        config["state_update"] = "dual" if with_ffn and with_output else "single" if with_ffn else "skip"
    coefficients = parameters.get("transformer0/relative_positions/orthogonal_basis_coeffs")
    if coefficients:
        config["position_terms"] = coefficients.shape[0]
    for name, value in options.set:
        config[name] = value
    return config


# ---- writing -------------------------------------------------------------------------------------------------------


def write_safetensors(path, parameters):
    header, end = {"__metadata__": {"format": "flax"}}, 0
    for name, array in parameters.items():
        if array.dtype not in DTYPES:
            raise Error(f"{name} holds {array.dtype}, not real numbers")
        header[name] = {"dtype": DTYPES[array.dtype], "shape": array.shape,
                        "data_offsets": [end, end + len(array.data)]}
        end += len(array.data)
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in parameters.values():
            file.write(array.data)


def setting(text):
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("out")
    parser.add_argument("--window", type=int, default=512, help="tokens that a token sees (512)")
    parser.add_argument("--segment", type=int, default=4096, help="tokens of a segment (4096)")
    parser.add_argument("--heads", type=int, help="where there is no scale of each head (options/no_norm.gin)")
    parser.add_argument("--release", type=int, choices=(2022, 2025), help="of the code; else told by the kind of file")
    parser.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    try:
        orbax = os.path.isdir(options.checkpoint)
        options.release = options.release or (2025 if orbax else 2022)
        parameters = find_parameters((read_orbax if orbax else read_flax)(options.checkpoint))
        config = describe(parameters, options)
        os.makedirs(options.out, exist_ok=True)
        write_safetensors(os.path.join(options.out, "model.safetensors"), parameters)
        with open(os.path.join(options.out, "config.json"), "w") as file:
            json.dump(config, file, indent=2)
            file.write("\n")
    except KeyError as error:
        sys.exit(f"import_flax.py: {options.checkpoint}: there is no {error}")
    except (Error, OSError, ArithmeticError, AttributeError, RecursionError, TypeError, ValueError) as error:
        sys.exit(f"import_flax.py: {options.checkpoint}: {error}")


if __name__ == "__main__":
    main()
