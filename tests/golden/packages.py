"""Packages other than the reference, each with a case of its own: write(folder) writes the golden file, write(folder,
seed, **draw(rng)) another one like it. tests/test_packages.c compares with them."""
import conditional_case
import descent_case
import memformer_case
import reconstruction_case

PACKAGES = {"conditional": conditional_case, "descent": descent_case, "memformer": memformer_case,
            "reconstruction": reconstruction_case}
