#!/usr/bin/env python3
"""Compare `brt trace` with the original package on random models.

    parity.py --brt build/brt [--cases 120] [--seed 0] [--only N] [--keep DIR] [--no-compressed-memory]

Run with the Python of ../golden/setup_reference.sh. Every case has its own random numbers, so --only N repeats case N
of a longer run by itself. A line per disagreement says what differs and in which configuration; the last line is
"N passed, M failed", and the exit status is 1 unless M is 0."""
import argparse
import copy
import json
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from draw import Draw, draw

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "golden"))
import reference  # noqa: E402  (found through the line above)

VALUE_TOLERANCE = 2e-5     # largest difference, relative to the largest value where that is above 1
LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4  # norm of the difference, relative to the norm
GRADIENT_FLOOR = 1e-6      # a difference of this norm is rounding, however small the gradient
SHARE_IGNORED = 0.25       # of the targets, where a token of the vocabulary is ignored
# Some random models magnify rounding (a head of two numbers that is normalised while both are almost 0). A model for
# which the package in single and in double precision are not this much closer together than brt has to be is drawn
# again: it could not tell a mistake from rounding.
SHARE_FOR_ROUNDING = 1 / 8
SECONDS_PER_RUN = 120


# ---- drawing

@dataclass
class Trial:
    case: Draw
    model: torch.nn.Module
    calls: list        # tokens of each call
    refused: tuple     # what the package says against the configuration, or None
    expected: dict     # tensors by name, where it is not refused


def draw_calls(case):
    """Tokens of every call; each call has at least one target that counts, or its loss would be 0/0."""
    vocabulary = case.weights_of["num_tokens"]
    ignored = case.weights_of.get("ignore_index", -100)
    calls = [torch.randint(0, vocabulary, (case.batch, inputs + case.loss)) for inputs in case.inputs]
    for tokens in calls:
        if 0 <= ignored < vocabulary:  # in a large vocabulary it would hardly come up
            tokens[torch.rand(tokens.shape) < SHARE_IGNORED] = ignored
        if (tokens[:, 1:] == ignored).all():
            tokens[0, -1] = (ignored + 1) % vocabulary
    return calls


def trace(case, model, calls):
    if case.loss:
        return reference.to_numpy(reference.trace_loss(model, calls, case.gradient))
    return reference.to_numpy(reference.trace_forward(model, calls))


def is_stable(case, model, calls, expected):
    in_double = trace(case, copy.deepcopy(model).double(), calls)
    errors = (measure(name, in_double[name], expected[name].astype(np.float64)) for name in expected)
    return all(error <= SHARE_FOR_ROUNDING * allowed for error, allowed in errors)


def draw_trial(options, index):
    rng = random.Random(f"{options.seed} {index}")
    while True:
        case = draw(rng, options.compressed_memory)
        refused = reference.refusal(case.arguments)
        if (refused is None) != (case.arguments == case.weights_of):
            raise AssertionError(f"case {index} was meant otherwise: {refused} {json.dumps(case.arguments)}")
        model = reference.build_perturbed(case.weights_of, rng.getrandbits(32))
        calls = draw_calls(case)
        if refused:
            return Trial(case, model, calls, refused, {})
        expected = trace(case, model, calls)
        if is_stable(case, model, calls, expected):
            return Trial(case, model, calls, None, expected)


# ---- running

def write_inputs(folder, trial):
    case = trial.case
    reference.save_json(folder / "config.json", case.arguments)
    reference.save_tensors(folder / "model.safetensors",
                           reference.stored_state(trial.model, case.keep_beta, case.prefix))
    reference.save_tokens(folder / "tokens.safetensors",
                          [tokens.to(getattr(torch, case.token_type)) for tokens in trial.calls])


def run_brt(brt, folder, case):
    command = [brt, "trace", str(folder), "--tokens", str(folder / "tokens.safetensors"),
               "--out", str(folder / "out.safetensors")]
    command += ["--loss"] * case.loss + ["--grad"] * case.gradient
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SECONDS_PER_RUN, text=True,
                          errors="replace")


def run_trial(brt, folder, trial):
    """The disagreements of one trial, as sentences; empty if there is none."""
    write_inputs(folder, trial)
    try:
        process = run_brt(brt, folder, trial.case)
    except subprocess.TimeoutExpired:
        return [f"brt did not end within {SECONDS_PER_RUN} seconds"]
    if trial.refused:
        return judge_refusal(process, trial.refused)
    if process.returncode != 0:
        return [f"brt ended with status {process.returncode}: {last_line(process.stderr)}"]
    try:
        actual = reference.load_arrays(folder / "out.safetensors")
    except (OSError, SafetensorError) as error:
        return [f"brt left no readable output: {error}"]
    return compare(trial.expected, actual, optional_names(trial.case))


# ---- judging

def last_line(text):
    return (text.strip().splitlines() or ["(nothing on stderr)"])[-1]


def judge_refusal(process, refused):
    if process.returncode != 1:
        return [f"brt ended with status {process.returncode}, not 1; the package refuses: {refused[1]}"]
    if not process.stderr.strip():
        return ["brt refused without a message on stderr"]
    if "Sanitizer" in process.stderr:  # a sanitizer's report also ends with status 1
        return [f"brt was stopped: {last_line(process.stderr)}"]
    return []


def optional_names(case):
    """A last call that ends inside a block: brt still has the states of the last full block, the package has not."""
    if case.inputs[-1] % case.weights_of["block_width"] == 0:
        return ()
    last = len(case.inputs) - 1
    return (f"memories.{last}.", f"states.{last}.")


def compare(expected, actual, optional):
    problems = [f"{name}: missing" for name in sorted(expected.keys() - actual.keys())]
    problems += [f"{name}: not expected" for name in sorted(actual.keys() - expected.keys())
                 if not name.startswith(optional)]
    for name in sorted(expected.keys() & actual.keys()):
        problem = difference(name, expected[name], actual[name])
        if problem:
            problems.append(f"{name}: {problem}")
    return problems


def difference(name, expected, actual):
    if name.startswith("loss."):  # one number, whether its shape is [1] or []
        expected, actual = expected.reshape(-1), actual.reshape(-1)
    if actual.dtype != np.float32:
        return f"type {actual.dtype}"
    if actual.shape != expected.shape:
        return f"shape {list(actual.shape)}, expected {list(expected.shape)}"
    error, allowed = measure(name, expected.astype(np.float64), actual.astype(np.float64))
    # written so that a NaN is a disagreement
    return None if error <= allowed else f"differs by {error:.3g}, allowed {allowed:.3g}"


def measure(name, expected, actual):
    if name.startswith("grad."):
        allowed = max(GRADIENT_TOLERANCE * np.linalg.norm(expected), GRADIENT_FLOOR)
        return np.linalg.norm(actual - expected), allowed
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    tolerance = LOSS_TOLERANCE if name.startswith("loss.") else VALUE_TOLERANCE
    return np.abs(actual - expected).max(initial=0.0), tolerance * scale


# ---- all cases

def describe(index, case, problems):
    description = dict(config=case.arguments, batch=case.batch, inputs=case.inputs, loss=case.loss,
                       gradient=case.gradient, tokens=case.token_type)
    return "".join(f"case {index}: {problem} {json.dumps(description)}\n" for problem in problems)


def run_numbered(options, index):
    trial = draw_trial(options, index)
    with tempfile.TemporaryDirectory(prefix="brt-parity-") as temporary:
        folder = Path(temporary)
        if options.keep:
            folder = Path(options.keep) / f"case-{index}"
            folder.mkdir(parents=True, exist_ok=True)
        problems = run_trial(options.brt, folder, trial)
    sys.stdout.write(describe(index, trial.case, problems))
    sys.stdout.flush()
    return not problems


def parse_options():
    parser = argparse.ArgumentParser(description="Compare brt trace with the original package on random models.")
    parser.add_argument("--brt", default="build/brt", help="the program (default %(default)s)")
    parser.add_argument("--cases", type=int, default=120, help="how many models (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="other models for another seed (default %(default)s)")
    parser.add_argument("--only", type=int, metavar="N", help="only case N")
    parser.add_argument("--no-compressed-memory", dest="compressed_memory", action="store_false",
                        help="no configurations with use_compressed_mem")
    parser.add_argument("--keep", metavar="DIR", help="keep the files of every case in DIR/case-N")
    return parser.parse_args()


def main():
    options = parse_options()
    # said by torch about weights without elements while the package tries arguments it then refuses
    warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
    if not shutil.which(options.brt):
        sys.exit(f"parity.py: no program {options.brt}")
    indices = range(options.cases) if options.only is None else [options.only]
    results = [run_numbered(options, index) for index in indices]
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
