"""The comparisons of tests/test_packages.c on random draws: a folder with a case of each package, and the test
program on it."""
import os
import random
import subprocess
import tempfile
from pathlib import Path

from packages import PACKAGES  # parity.py makes tests/golden known

SECONDS_PER_RUN = 120


def write_draws(folder, rng):
    """What was drawn, as a sentence."""
    drawn = {}
    for package, case in PACKAGES.items():
        drawn[package] = case.draw(rng)
        (folder / package).mkdir()
        case.write(folder / package, rng.getrandbits(32), **drawn[package])
    return str(drawn)


def run(brt, seed, count):
    """For each draw None, or what is wrong with it."""
    program = Path(brt).resolve().parent / "tests" / "test_packages"
    for index in range(count):
        rng = random.Random(f"packages {seed} {index}")
        with tempfile.TemporaryDirectory(prefix="brt-parity-") as temporary:
            drawn = write_draws(Path(temporary), rng)
            process = subprocess.run([program], env={**os.environ, "BRT_GOLDEN": temporary}, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, timeout=SECONDS_PER_RUN, text=True, check=False)
        yield None if process.returncode == 0 else f"packages, draw {index}: {drawn}\n{process.stdout}"
