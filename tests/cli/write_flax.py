"""Writes a model of tests/golden/paper as flax.training.checkpoints does, in MessagePack:

    write_flax.py DIR CHECKPOINT

and prints the options of scripts/import_flax.py that its parameters do not tell. The moments of an optimizer stand
before the parameters under the same names, one array is in chunks, as those of more than a gigabyte are."""
import json
import struct
import sys


def pack(value):
    if isinstance(value, Array):
        payload = b"\x93" + pack(value.shape) + pack("float32") + pack(value.data)
        return b"\xc9" + struct.pack(">Ib", len(payload), 1) + payload
    if isinstance(value, dict):
        return b"\xde" + struct.pack(">H", len(value)) + b"".join(pack(k) + pack(v) for k, v in value.items())
    if isinstance(value, list):
        return bytes([0x90 | len(value)]) + b"".join(map(pack, value))
    if isinstance(value, str):
        return b"\xd9" + struct.pack(">B", len(value)) + value.encode()
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return b"\xce" + struct.pack(">I", value)
    return b"\xc6" + struct.pack(">I", len(value)) + value


class Array:
    def __init__(self, shape, data):
        self.shape, self.data = shape, data

    def in_chunks(self):
        half = len(self.data) // 8 * 4
        parts = [Array([len(data) // 4], data) for data in (self.data[:half], self.data[half:])]
        return {"__msgpack_chunked_array__": True, "shape": {str(i): n for i, n in enumerate(self.shape)},
                "chunks": {str(i): part for i, part in enumerate(parts)}}


def read(path):
    content = open(path, "rb").read()
    size = struct.unpack("<Q", content[:8])[0]
    for name, entry in json.loads(content[8:8 + size]).items():
        if name != "__metadata__":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            yield name, Array(entry["shape"], content[begin:end])


def main():
    directory, checkpoint = sys.argv[1:]
    parameters, moments = {}, {}
    for name, array in read(directory + "/model.safetensors"):
        *path, last = name.split("/")
        for tree, leaf in ((parameters, array), (moments, Array(array.shape, bytes(len(array.data))))):
            for part in path:
                tree = tree.setdefault(part, {})
            tree[last] = leaf.in_chunks() if name == "embed/embedding" else leaf
    state = {"optimizer": {"state": {"param_states": moments}, "target": parameters}, "step": 7}
    with open(checkpoint, "wb") as file:
        file.write(pack(state))
    config = json.load(open(directory + "/config.json"))
    options = ["--window", config["block_width"], "--segment", config["max_seq_len"],
               "--release", 2025 if config["attention_scale"] == "absolute" else 2022, "--heads", config["heads"]]
    for name in ("position_encoding", "alibi_bound", "position_end"):
        if name in config:
            options += ["--set", f"{name}={config[name]}"]
    print(*options)


main()
