"""Configurations at the borders of what the package accepts: brt must take what it takes and refuse what it refuses."""
import json
import random
import subprocess
import tempfile
from pathlib import Path

import torch

import reference
from draw import compression, draw_valid

MOST_CHANGES = 3
SECONDS_PER_RUN = 60


# ---- drawing

def draw_layers(rng, depth):
    return [rng.randint(-1 if rng.random() < 0.1 else 1, depth + rng.choice((0, 0, 0, 1)))
            for _ in range(rng.randint(0, 3))]


def border_values(rng, arguments):
    """For every argument a value that is at the edge of what is allowed, or next to it."""
    depth, width = arguments["depth"], arguments["block_width"]
    return dict(
        num_tokens=rng.choice((1, 2, 0, -1)),
        dim=rng.choice((1, 2, -1)),
        depth=rng.choice((1, 1, 2, 0, -1)),
        heads=rng.choice((1, 7, 0, -1)),
        dim_head=rng.choice((1, 2, 3, 6, 0, -2)),
        ff_mult=rng.choice((0.75, 1, 1.6, 7, -1)),
        max_seq_len=rng.choice((width, width + 1, 2 * width, 2 * width - 1, 0, -width)),
        block_width=rng.choice((1, width + 1, arguments["max_seq_len"], 2 * arguments["max_seq_len"], 0, -width)),
        recurrent_layers=rng.choice((None, draw_layers(rng, depth), draw_layers(rng, depth))),
        read_recurrent_layers=rng.choice((None, draw_layers(rng, depth), draw_layers(rng, depth))),
        num_state_vectors=rng.choice((None, 1, 50, 0, -1)),
        ignore_index=rng.choice((-100, -1, 0, arguments["num_tokens"])),
        use_compressed_mem=rng.random() < 0.5,
        compressed_mem_factor=rng.choice((4, 1, 0, -3, width, width + 1)))


def draw_borderline(rng):
    arguments = draw_valid(rng)
    values = border_values(rng, arguments)
    names = rng.sample(sorted(values), rng.randint(1, MOST_CHANGES))
    return {**arguments, **{name: values[name] for name in names}}


def differs_by_design(arguments):
    """What the package takes and brt does not: a feed-forward without hidden units, int(dim * ff_mult * 2 / 3) being 0,
    a negative number of state vectors where no layer has any, and a compressed memory that stays empty."""
    return 0 <= arguments["dim"] * arguments.get("ff_mult", 4) * 2 / 3 < 1 or \
        ((arguments.get("num_state_vectors") or 0) < 0 and arguments.get("recurrent_layers") == []) or \
        (compression(arguments) or 0) > arguments["block_width"]


# ---- running

def write_model(folder, arguments, refused):
    """Weights that fit, or, where the package makes none, any file: arguments are looked at first."""
    model = reference.build_perturbed(dict(num_tokens=2, dim=4, depth=2) if refused else arguments, seed=0)
    reference.save_json(folder / "config.json", arguments)
    reference.save_tensors(folder / "model.safetensors", reference.stored_state(model, keep_beta=True))
    reference.save_tokens(folder / "tokens", [torch.zeros(1, 1, dtype=torch.long)])


def judge(process, refused):
    """What is wrong with how brt ended, or None."""
    refusal = process.stderr.strip()
    if refused is None:
        return None if process.returncode == 0 else f"the package accepts it, brt does not: {refusal}"
    if process.returncode == 0:
        return f"brt accepts it, the package does not: {refused[1]}"
    if process.returncode != 1 or len(refusal.splitlines()) != 1 or "config.json" not in refusal and '"' not in refusal:
        return f"brt ended with status {process.returncode} and not one line about an argument: {refusal}"
    return None


def run_one(brt, arguments):
    refused = reference.refusal(arguments)
    with tempfile.TemporaryDirectory(prefix="brt-parity-") as temporary:
        folder = Path(temporary)
        write_model(folder, arguments, refused)
        process = subprocess.run([brt, "trace", folder, "--tokens", folder / "tokens", "--out", folder / "out"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SECONDS_PER_RUN, text=True)
    return refused, judge(process, refused)


def run(brt, seed, count):
    """For each of `count` configurations None, or what is wrong."""
    rng = random.Random(f"{seed} borders")
    numbers = {True: 0, False: 0}
    while sum(numbers.values()) < count:
        arguments = draw_borderline(rng)
        if differs_by_design(arguments):
            continue
        refused, problem = run_one(brt, arguments)
        numbers[refused is None] += 1
        yield problem and f"{problem} {json.dumps(arguments)}"
    print(f"{numbers[True]} configurations at the borders accepted, {numbers[False]} refused")
