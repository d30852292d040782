"""Reading safetensors files."""
import json
import struct


def load(path):
    """Each tensor's name and (dtype, shape, bytes)."""
    content = open(path, "rb").read()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + size])
    header.pop("__metadata__", None)
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        yield name, (entry["dtype"], entry["shape"], content[8 + size + begin:8 + size + end])
