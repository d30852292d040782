#!/usr/bin/env python3
"""Compare `brt trace` with the original package on random models.

    parity.py --brt build/brt [--cases 160] [--seed 0] [--only N] [--keep DIR]

Run with the Python of ../golden/setup_reference.sh. Every case has its own random numbers, so --only N repeats case N
of a longer run by itself. A line per disagreement says what differs and in which configuration. Then come the largest
differences, what the drawn models had (of 100 or more, all of it must occur), arguments at the borders of what is
allowed (borders.py), short trainings (training.py), and what other packages have (package_draws.py). The last line is
"N passed, M failed"; the exit status is 0 if all is well."""
import argparse
import copy
import json
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "golden"))
import borders  # noqa: E402  (it and the next are found through the line above)
import package_draws  # noqa: E402
import reference  # noqa: E402
import training  # noqa: E402
from draw import FEATURES, Draw, draw  # noqa: E402

VALUE_TOLERANCE = 2e-5     # largest difference, relative to the largest value where that is above 1
LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4  # norm of the difference, relative to the norm
GRADIENT_FLOOR = 1e-6      # a difference of this norm is rounding, however small the gradient
ZERO_FLOOR = 1e-7          # and of this, where it is 0: that of a softmax over a single key, which brt leaves out
SHARE_IGNORED = 0.25       # of the targets, where a token of the vocabulary is ignored
# Some random models magnify rounding (a head of two numbers that is normalised while both are almost 0). A model for
# which the package in single and in double precision are not this much closer together than brt has to be is drawn
# again: it could not tell a mistake from rounding.
SHARE_FOR_ROUNDING = 1 / 8
CASES_WITH_ALL_FEATURES = 100
TRAINING_TOKENS = 4096
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
    """Tokens of every call; each call has at least one target that counts, or its loss would be 0/0. Its last tokens
    are only targets: there even an ignored value that is no token may stand."""
    vocabulary = case.weights_of["num_tokens"]
    ignored = case.weights_of.get("ignore_index", -100)
    calls = [torch.randint(0, vocabulary, (case.batch, inputs + case.loss)) for inputs in case.inputs]
    for tokens in calls:
        if 0 <= ignored < vocabulary:  # in a large vocabulary it would hardly come up
            tokens[torch.rand(tokens.shape) < SHARE_IGNORED] = ignored
        elif case.loss:
            tokens[torch.rand(case.batch) < SHARE_IGNORED, -1] = ignored
        if (tokens[:, 1:] == ignored).all():
            tokens[0, -1] = (ignored + 1) % vocabulary
    return calls


def round_weights(model, weight_type):
    for parameter in model.parameters():
        parameter.data = parameter.data.to(weight_type).float()


def trace(case, model, calls):
    if case.loss:
        return reference.to_numpy(reference.trace_loss(model, calls, case.gradient))
    return reference.to_numpy(reference.trace_forward(model, calls))


def is_stable(run, model, expected):
    in_double = run(copy.deepcopy(model).double())
    errors = (measure(name, in_double[name], expected[name].astype(np.float64)) for name in expected)
    return all(error <= SHARE_FOR_ROUNDING * allowed for error, allowed in errors)


def draw_trial(options, index):
    rng = random.Random(f"{options.seed} {index}")
    while True:
        case = draw(rng)
        refused = reference.refusal(case.arguments)
        if (refused is None) != (case.arguments == case.weights_of):
            raise AssertionError(f"case {index} was meant otherwise: {refused} {json.dumps(case.arguments)}")
        model = reference.build_perturbed(case.weights_of, rng.getrandbits(32))
        round_weights(model, getattr(torch, case.weight_type))
        calls = draw_calls(case)
        if refused:
            return Trial(case, model, calls, refused, {})
        expected = trace(case, model, calls)
        if is_stable(lambda other: trace(case, other, calls), model, expected):
            return Trial(case, model, calls, None, expected)


# ---- running

def write_inputs(folder, trial):
    case = trial.case
    reference.save_json(folder / "config.json", {**case.arguments, **({"use_flash_attn": True} if case.flash else {})})
    weights = reference.stored_state(trial.model, case.keep_beta, case.prefix)
    reference.save_tensors(folder / "model.safetensors",
                           {name: tensor.to(getattr(torch, case.weight_type)) for name, tensor in weights.items()})
    reference.save_tokens(folder / "tokens.safetensors",
                          [tokens.to(getattr(torch, case.token_type)) for tokens in trial.calls])


def run_brt(brt, *arguments):
    return subprocess.run([brt, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=SECONDS_PER_RUN, text=True, errors="replace")


def run_trace(brt, model, tokens, *options):
    """(What brt computes, None) or (None, why there is nothing)."""
    out = tokens.with_name("out.safetensors")
    process = run_brt(brt, "trace", model, "--tokens", tokens, "--out", out, *options)
    if process.returncode != 0:
        return None, f"brt trace ended with status {process.returncode}: {last_line(process.stderr)}"
    try:
        return reference.load_arrays(out), None
    except (OSError, SafetensorError) as error:
        return None, f"brt left no readable output: {error}"


def run_trial(brt, folder, trial, largest):
    """The disagreements of one trial, as sentences; empty if there is none."""
    case = trial.case
    write_inputs(folder, trial)
    tokens = folder / "tokens.safetensors"
    if trial.refused:
        return judge_refusal(run_brt(brt, "trace", folder, "--tokens", tokens, "--out", folder / "out"), trial.refused)
    actual, problem = run_trace(brt, folder, tokens, *["--loss"] * case.loss, *["--grad"] * case.gradient)
    problems = [problem] if problem else compare(trial.expected, actual, optional_names(case), largest)
    return problems + (run_trained(brt, folder, case, largest) if case.trained else [])


# ---- a model on its way from brt to the package

def train(brt, folder, case):
    """A model of brt's own after a few updates in folder/trained; the tokens it learns from mean nothing."""
    torch.randint(0, case.arguments["num_tokens"], (TRAINING_TOKENS,)).numpy().astype("<u2").tofile(folder / "data.bin")
    process = run_brt(brt, "train", "--config", folder / "config.json", "--data", folder / "data.bin",
                      "--out", folder / "trained", "--steps", 3, "--lr", 0.01, "--quiet")
    if process.returncode != 0:
        return f"brt train ended with status {process.returncode}: {last_line(process.stderr)}"


def load_trained(folder):
    """The package's model with its arguments and, by their names, all the weights that brt saved."""
    saved = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = reference.build({**reference.known_arguments(saved), "use_flash_attn": False})
    weights = reference.load_arrays(folder / "model.safetensors")
    model.load_state_dict({name: torch.from_numpy(weight) for name, weight in weights.items()}, strict=True)
    return model.eval()


def run_trained(brt, folder, case, largest):
    problem = train(brt, folder, case)
    if problem:
        return [problem]
    try:
        model = load_trained(folder / "trained")
    except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: of load_state_dict
        return [f"the package does not load what brt trained: {' '.join(str(error).split())}"]
    calls = [torch.randint(0, case.arguments["num_tokens"], (case.batch, model.max_seq_len)) for _ in range(2)]
    expected = reference.to_numpy(reference.trace_forward(model, calls))
    if not is_stable(lambda other: reference.to_numpy(reference.trace_forward(other, calls)), model, expected):
        return []
    tokens = folder / "trained_tokens.safetensors"
    reference.save_tokens(tokens, calls)
    actual, problem = run_trace(brt, folder / "trained", tokens)
    problems = [problem] if problem else compare(expected, actual, (), largest)
    return [f"trained by brt: {problem}" for problem in problems]


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


def compare(expected, actual, optional, largest):
    """Disagreements as sentences; `largest` gets the largest share of what is allowed, by kind of tensor."""
    problems = [f"{name}: missing" for name in sorted(expected.keys() - actual.keys())]
    problems += [f"{name}: not expected" for name in sorted(actual.keys() - expected.keys())
                 if not name.startswith(optional)]
    for name in sorted(expected.keys() & actual.keys()):
        problem = difference(name, expected[name], actual[name], largest)
        if problem:
            problems.append(f"{name}: {problem}")
    return problems


def difference(name, expected, actual, largest):
    if name.startswith("loss."):  # one number, whether its shape is [1] or []
        expected, actual = expected.reshape(-1), actual.reshape(-1)
    if actual.dtype != np.float32:
        return f"type {actual.dtype}"
    if actual.shape != expected.shape:
        return f"shape {list(actual.shape)}, expected {list(expected.shape)}"
    error, allowed = measure(name, expected.astype(np.float64), actual.astype(np.float64))
    kind = name.split(".")[0]
    largest[kind] = max(largest[kind], error / allowed)
    # written so that a NaN is a disagreement
    return None if error <= allowed else f"differs by {error:.3g}, allowed {allowed:.3g}"


def measure(name, expected, actual):
    if name.startswith("grad."):
        norm = np.linalg.norm(expected)
        return np.linalg.norm(actual - expected), max(GRADIENT_TOLERANCE * norm, GRADIENT_FLOOR) if norm else ZERO_FLOOR
    scale = max(1.0, np.abs(expected).max(initial=0.0))
    tolerance = LOSS_TOLERANCE if name.startswith("loss.") else VALUE_TOLERANCE
    return np.abs(actual - expected).max(initial=0.0), tolerance * scale


# ---- all cases

@dataclass
class Totals:
    passed: int = 0
    failed: int = 0
    features: Counter = field(default_factory=Counter)
    largest: Counter = field(default_factory=Counter)


def describe(index, case, problems):
    description = dict(config=case.arguments, batch=case.batch, inputs=case.inputs, loss=case.loss,
                       gradient=case.gradient, tokens=case.token_type, weights=case.weight_type, flash=case.flash)
    return "".join(f"case {index}: {problem} {json.dumps(description)}\n" for problem in problems)


def run_numbered(options, index, totals):
    trial = draw_trial(options, index)
    with tempfile.TemporaryDirectory(prefix="brt-parity-") as temporary:
        folder = Path(temporary)
        if options.keep:
            folder = Path(options.keep) / f"case-{index}"
            folder.mkdir(parents=True, exist_ok=True)
        try:
            problems = run_trial(options.brt, folder, trial, totals.largest)
        except subprocess.TimeoutExpired:
            problems = [f"brt did not end within {SECONDS_PER_RUN} seconds"]
    sys.stdout.write(describe(index, trial.case, problems))
    sys.stdout.flush()
    totals.passed += not problems
    totals.failed += bool(problems)
    totals.features["refused by the package"] += bool(trial.refused)
    totals.features.update(name for name, test in FEATURES.items() if not trial.refused and test(trial.case))


def report(totals):
    """Prints what the cases were and how close they came; whether there was enough to see."""
    for kind, share in sorted(totals.largest.items()):
        print(f"{kind}: at most {share:.2f} of the allowed difference")
    for name in ("refused by the package", *FEATURES):
        print(f"{totals.features[name]:5} x {name}")
    missing = [name for name in FEATURES if not totals.features[name]]
    if totals.passed + totals.failed < CASES_WITH_ALL_FEATURES or not missing:
        return True
    print(f"no model had: {'; '.join(missing)}")
    return False


def count_all(sentences, totals):
    """Each is None or says what is wrong."""
    for sentence in sentences:
        totals.passed += sentence is None
        totals.failed += sentence is not None
        if sentence:
            print(sentence)


def parse_options():
    parser = argparse.ArgumentParser(description="Compare brt trace with the original package on random models.")
    parser.add_argument("--brt", default="build/brt", help="the program (default %(default)s)")
    parser.add_argument("--cases", type=int, default=160, help="how many models (default %(default)s)")
    parser.add_argument("--borders", type=int, default=100,
                        help="how many configurations that may be refused (default %(default)s)")
    parser.add_argument("--trainings", type=int, default=6, help="how many short trainings (default %(default)s)")
    parser.add_argument("--packages", type=int, default=40,
                        help="how many draws of what other packages have (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="other models for another seed (default %(default)s)")
    parser.add_argument("--only", type=int, metavar="N", help="only case N")
    parser.add_argument("--keep", metavar="DIR", help="keep the files of every case in DIR/case-N")
    return parser.parse_args()


def main():
    options = parse_options()
    # said by torch about weights without elements while the package tries arguments it then refuses
    warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
    if not shutil.which(options.brt):
        sys.exit(f"parity.py: no program {options.brt}")
    totals = Totals()
    for index in range(options.cases) if options.only is None else [options.only]:
        run_numbered(options, index, totals)
    enough = report(totals)
    if options.only is None:
        count_all(borders.run(options.brt, options.seed, options.borders), totals)
        count_all(training.run(options.brt, options.seed, options.trainings), totals)
        count_all(package_draws.run(options.brt, options.seed, options.packages), totals)
    print(f"{totals.passed} passed, {totals.failed} failed")
    return 0 if enough and totals.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
