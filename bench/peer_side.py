"""The PyTorch package's side of bench_peer.py: answers the requests that brt_side.c answers, in the same words.

    peer_side.py THREADS make DIR                            fills DIR, which has a config.json, with new weights
    peer_side.py THREADS train DIR TOKENS ROWS DTYPE FLASH   "step"
    peer_side.py THREADS generate DIR TOKENS DTYPE FLASH     "generate FIRST LAST"
"""
import array
import inspect
import json
import sys
import time
from pathlib import Path

import torch
from block_recurrent_transformer_pytorch import BlockRecurrentTransformer, RecurrentTrainerWrapper
from safetensors.torch import load_file, save_file

# As the package's train.py.
LEARNING_RATE = 1e-4
CLIP = 0.5


def build(folder, **changes):
    """Of the arguments in config.json those that the package has: the others are brt's own."""
    known = inspect.signature(BlockRecurrentTransformer).parameters
    arguments = json.loads((folder / "config.json").read_text(encoding="utf-8")) | changes
    return BlockRecurrentTransformer(**{name: tuple(value) if isinstance(value, list) else value
                                        for name, value in arguments.items() if name in known})


def make(folder):
    torch.manual_seed(0)
    save_file(build(folder).state_dict(), folder / "model.safetensors")


def load(folder, flash):
    model = build(folder, use_flash_attn=flash == "flash")
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    return model


def read_tokens(path, rows):
    return torch.tensor(array.array("H", Path(path).read_bytes())).long().reshape(rows, -1)


def autocast(dtype):
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bf16")


def training(folder, path, rows, dtype, flash):
    """A function that makes a step: forward and backward of a sample per row, clipping and Adam."""
    model = RecurrentTrainerWrapper(load(folder, flash))
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    tokens = read_tokens(path, int(rows))

    def step():
        start = time.perf_counter()
        with autocast(dtype):
            loss = model(tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return dict(seconds=time.perf_counter() - start, loss=loss.item())

    return step


def generation(folder, path, dtype, flash):
    """A function that draws tokens first to last of a timeline; those before are read from the file."""
    model = load(folder, flash)
    tokens = read_tokens(path, 1)
    window = model.max_seq_len

    @torch.no_grad()
    def windows_before(start):
        memories, states = [], []
        for first in range(0, start, window):
            _, memories, states = model(tokens[:, first:first + window], xl_memories=memories, states=states)
        return dict(xl_memories=memories, states=states)

    def generate(first, last):
        first, last = int(first), int(last)
        start = (first - 1) // window * window
        with autocast(dtype):
            before = windows_before(start)
            began = time.perf_counter()
            model.generate(tokens[:, start:first], length=last - start, **before)
        return dict(seconds=(time.perf_counter() - began) / (last - first))

    return generate


def main(threads, task, folder, *arguments):
    torch.set_num_threads(int(threads))
    folder = Path(folder)
    if task == "make":
        make(folder)
        return
    answer = {"train": training, "generate": generation}[task](folder, *arguments)
    for request in sys.stdin:
        print(json.dumps(answer(*request.split()[1:])), flush=True)


main(*sys.argv[1:])
