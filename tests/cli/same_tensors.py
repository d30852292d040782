#!/usr/bin/env python3
"""Compare two safetensors files.

    same_tensors.py EXPECTED ACTUAL [--without-gradients] [--halved]

Every tensor of EXPECTED must be in ACTUAL: values within 2e-5, gradients within 1e-4 of their norm. --halved: EXPECTED
has the losses of two calls, ACTUAL those of the two as one call: its gradient is half of the expected one."""
import argparse
import array
import math
import sys

from tensors import load

VALUE_TOLERANCE = 2e-5
GRADIENT_TOLERANCE = 1e-4
GRADIENT_FLOOR = 1e-6  # below, a gradient is rounding


def load_floats(path):
    return {name: (shape, array.array("f", data)) for name, (dtype, shape, data) in load(path) if dtype == "F32"}


def difference(name, expected, actual):
    """What is wrong with a tensor, or None."""
    if name.startswith("grad."):
        norm = math.sqrt(sum(x * x for x in expected))
        error = math.sqrt(sum((x - y) ** 2 for x, y in zip(expected, actual)))
        allowed = max(GRADIENT_TOLERANCE * norm, GRADIENT_FLOOR)
    else:
        error = max((abs(x - y) for x, y in zip(expected, actual)), default=0)
        allowed = VALUE_TOLERANCE
        if any(math.isnan(y) for y in actual):
            error = math.inf
    return None if error <= allowed else f"differs by {error:.3g}, allowed {allowed:.3g}"


def compare(expected, actual, options):
    for name, (shape, values) in expected.items():
        gradient = name.startswith("grad.")
        if (gradient and options.without_gradients) or (options.halved and not gradient):
            continue
        if name not in actual:
            yield name, "is missing"
        elif len(actual[name][1]) != len(values) or (actual[name][0] != shape and not name.startswith("loss.")):
            yield name, f"has the shape {actual[name][0]} instead of {shape}"
        else:
            factor = 0.5 if options.halved else 1
            problem = difference(name, [factor * x for x in values], actual[name][1])
            if problem:
                yield name, problem


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("expected")
    parser.add_argument("actual")
    parser.add_argument("--without-gradients", action="store_true")
    parser.add_argument("--halved", action="store_true")
    options = parser.parse_args()
    problems = list(compare(load_floats(options.expected), load_floats(options.actual), options))
    for name, problem in problems:
        print(f"{options.expected}: {name} {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
