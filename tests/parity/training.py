"""`brt train --preset reference` against the training loop of the package's repository, step by step."""
import json
import random
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from block_recurrent_transformer_pytorch import RecurrentTrainerWrapper

import reference

STEPS = 12
LEARNING_RATE = 3e-3
# Of losses, norms and the last weights, relative to the largest where that is above 1: Adam magnifies rounding.
TOLERANCE = 1e-4
# A model that the package itself trains to other weights in double is not drawn.
SHARE_FOR_ROUNDING = 1 / 8
# The preset trains a batch of 4 on windows of 2 segments, gradients of 4 batches, clipped at 0.5. Dropout draws differ.
BATCH, SEGMENTS, ACCUMULATION, CLIP = 4, 2, 4, 0.5
WITHOUT_DROPOUT = ("--xl-memories-dropout", 0, "--state-dropout", 0)
SECONDS_PER_RUN = 120


def draw_arguments(rng):
    width, depth = rng.choice((3, 4, 8)), rng.randint(1, 3)
    return dict(num_tokens=rng.randint(5, 40), dim=rng.choice((16, 20, 27)), depth=depth, dim_head=8, heads=2,
                block_width=width, max_seq_len=2 * width, recurrent_layers=[rng.randint(1, depth)], num_state_vectors=5)


def train_in_brt(brt, folder, out, steps, learning_rate):
    """The metrics of every step."""
    subprocess.run([brt, "train", "--preset", "reference", "--config", folder / "config.json", "--data",
                    folder / "data.bin", "--out", folder / out, "--steps", str(steps), "--lr", str(learning_rate),
                    "--quiet", *map(str, WITHOUT_DROPOUT)],
                   check=True, stdout=subprocess.DEVNULL, timeout=SECONDS_PER_RUN)
    return [json.loads(line) for line in (folder / out / "metrics.jsonl").read_text().splitlines()]


def load(folder, arguments, number):
    """A model that computes in `number`, torch.float or torch.double."""
    model = reference.build(arguments)
    weights = reference.load_arrays(folder / "model.safetensors")
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()})
    return model.to(number)


def train_in_package(model, window):
    """(loss, norm of the gradient before it is clipped) of every step, as train.py has them."""
    wrapper = RecurrentTrainerWrapper(model).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    batch = window.repeat(BATCH, 1)
    for _ in range(STEPS):
        total = 0
        for _ in range(ACCUMULATION):
            loss = wrapper(batch)
            (loss / ACCUMULATION).backward()
            total += loss.item() / ACCUMULATION
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP).item()
        optimizer.step()
        optimizer.zero_grad()
        yield total, norm


def differs(found, expected, tolerance=TOLERANCE):
    return not np.abs(found - expected).max() <= tolerance * max(1, np.abs(expected).max())


def is_stable(folder, arguments, window, trained):
    in_double = load(folder / "untrained", arguments, torch.double)
    for _ in train_in_package(in_double, window):
        pass
    return not any(differs(trained[name].numpy(), weight.numpy(), SHARE_FOR_ROUNDING * TOLERANCE)
                   for name, weight in in_double.state_dict().items())


def compare(folder, steps, weights, metrics):
    """What differs first, or None; `steps` and `weights` are the package's."""
    for step, (expected, line) in enumerate(zip(steps, metrics, strict=True), 1):
        found = line["loss"], line["gradient_norm"]
        if any(differs(np.float64(a), np.float64(b)) for a, b in zip(found, expected)):
            return f"training step {step}: loss and norm {found}, expected {expected}"
    trained = reference.load_arrays(folder / "trained" / "model.safetensors")
    wrong = [name for name, weight in weights.items() if differs(trained[name], weight.numpy())]
    return f"after {STEPS} training steps these differ: {', '.join(wrong)}" if wrong else None


def try_one(brt, arguments, folder):
    """What is wrong, or None; whether the model was fit to be compared."""
    # as long as one window: there is only one place to draw it from
    window = torch.randint(0, arguments["num_tokens"], (1, SEGMENTS * arguments["max_seq_len"] + 1))
    window.numpy().astype("<u2").tofile(folder / "data.bin")
    reference.save_json(folder / "config.json", arguments)
    train_in_brt(brt, folder, "untrained", 1, 1e-30)  # the weights of before the first step
    model = load(folder / "untrained", arguments, torch.float)
    steps = list(train_in_package(model, window))
    if not is_stable(folder, arguments, window, model.state_dict()):
        return None, False
    metrics = train_in_brt(brt, folder, "trained", STEPS, LEARNING_RATE)
    return compare(folder, steps, model.state_dict(), metrics), True


def run_one(brt, rng):
    while True:
        arguments = draw_arguments(rng)
        with tempfile.TemporaryDirectory(prefix="brt-parity-") as temporary:
            problem, fit = try_one(brt, arguments, Path(temporary))
        if fit:
            return problem and f"{problem} {json.dumps(arguments)}"


def run(brt, seed, count):
    """For each of `count` models None, or what is wrong."""
    rng = random.Random(f"{seed} training")
    torch.manual_seed(seed)
    for _ in range(count):
        yield run_one(brt, rng)
