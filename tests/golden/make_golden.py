#!/usr/bin/env python3
"""Write the golden files beside this script from the original package. README.md says what is in them.

Run with the Python of setup_reference.sh. The same machine writes the same bytes every time."""
import shutil
import sys
import warnings
import zlib
from pathlib import Path

import torch

import config_rules
import generate_case
import reference
import training_case
from cases import CASES
from packages import PACKAGES

HERE = Path(__file__).resolve().parent


def empty_folder(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def draw_calls(case, lengths):
    vocabulary = case.arguments["num_tokens"]
    return [torch.randint(0, vocabulary, (case.batch, length)) for length in lengths]


def as_stored(calls, token_type):
    return [tokens.to(getattr(torch, token_type)) for tokens in calls]


def check_lengths(case):
    """Only after full blocks do memories and states of the package belong together."""
    width = case.arguments["block_width"]
    for lengths in (case.forward, case.loss):
        assert all(length % width == 0 for length in lengths[:-1]), case.name
        assert max(lengths) <= case.arguments["max_seq_len"], case.name


def seed_of(case):
    """From the name alone: a new case leaves the others as they are."""
    return zlib.crc32(case.name.encode())


def write_model(case, model, arguments, arrange=lambda tensors: tensors):
    """The case's folder: the model, described by brt's arguments, and what it computes, in brt's arrangement."""
    check_lengths(case)
    folder = empty_folder(case.name)
    forward_calls = draw_calls(case, case.forward)
    loss_calls = draw_calls(case, [length + 1 for length in case.loss])
    prefix = "transformer." if case.from_trainer else ""

    reference.save_json(folder / "config.json", arguments)
    reference.save_tensors(folder / "model.safetensors", reference.stored_state(model, case.keep_beta, prefix))
    reference.save_tokens(folder / "tokens_forward.safetensors", as_stored(forward_calls, case.token_type))
    reference.save_tokens(folder / "tokens.safetensors", as_stored(loss_calls, case.token_type))
    reference.save_tensors(folder / "forward.safetensors", arrange(reference.trace_forward(model, forward_calls)))
    reference.save_tensors(folder / "loss.safetensors",
                           arrange(reference.trace_loss(model, loss_calls, with_gradient=True)))


def write_case(case):
    model = reference.build_perturbed(case.arguments, seed_of(case))
    if case.enhanced_recurrence:
        reference.enhance_recurrence(model)
    write_model(case, model, case.arguments | ({"enhanced_recurrence": True} if case.enhanced_recurrence else {}))


def main():
    # said by torch about weights without elements, which some accepted configurations have
    warnings.filterwarnings("ignore", message="Initializing zero-element tensors")
    for case in CASES:
        write_case(case)
    training_case.write(empty_folder("training"))
    generate_case.write(empty_folder("generate"))
    for package, case in PACKAGES.items():
        case.write(empty_folder(package))
    config_rules.write(HERE)


if __name__ == "__main__":
    sys.exit(main())
