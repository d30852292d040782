#!/bin/sh
# Make a Python environment that runs the original package, block-recurrent-transformer-pytorch 0.4.4, and others that
# have what it lacks.
#
#   setup_reference.sh VENV_DIR
#
# PyTorch comes from Debian (python3-torch), the rest from PyPI at fixed versions. Nothing is done, and nothing is
# printed, when VENV_DIR already holds what is needed.
set -eu

# The package also names memorizing-transformers-pytorch as a dependency but never imports it, hence --no-deps.
# beartype and einops are versions from the time of the package; both still know Python 3.11 and PyTorch 1.13.
REQUIREMENTS='
block-recurrent-transformer-pytorch==0.4.4
einops==0.7.0
beartype==0.18.5
packaging==24.1
safetensors==0.4.5
compressive-transformer-pytorch==0.4.0
mogrifier==0.0.5
CoLT5-attention==0.11.2
local-attention==1.9.15
memformer==0.3.1
'
DEBIAN_PACKAGES='python3-torch python3-numpy python3-venv python3-pip'

is_ready() {
    # shellcheck disable=SC2086  # a list of words
    [ -x "$1/bin/python" ] && [ -d "$1/early" ] && [ -d "$1/enhanced" ] &&
        "$1/bin/python" - $REQUIREMENTS >/dev/null 2>&1 <<'PYTHON'
import sys
from importlib.metadata import version
for requirement in sys.argv[1:]:
    name, wanted = requirement.split("==")
    assert version(name) == wanted
import numpy, torch, safetensors.numpy
from block_recurrent_transformer_pytorch import BlockRecurrentTransformer
from compressive_transformer_pytorch import CompressiveTransformer
from colt5_attention import ConditionalRoutedFeedForward
from memformer import Memformer
PYTHON
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

installed() {
    dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null | grep -q '^install ok installed$'
}

install_debian_packages() {
    missing=
    for package in $DEBIAN_PACKAGES; do
        installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086  # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive sh -c \
        "apt-get -qq update && apt-get -qq install -y --no-install-recommends$missing" >/dev/null
}

[ $# -eq 1 ] || { echo "usage: $0 VENV_DIR" >&2; exit 2; }
venv=$1
is_ready "$venv" && exit 0

install_debian_packages
# Debian's interpreter by its path: only that one sees Debian's PyTorch.
/usr/bin/python3 -m venv --system-site-packages "$venv"
# shellcheck disable=SC2086  # a list of words
"$venv/bin/python" -m pip install --quiet --no-deps --disable-pip-version-check $REQUIREMENTS
# The releases that make_early.py and make_enhanced.py run, each in a folder of its own.
"$venv/bin/python" -m pip install --quiet --no-deps --disable-pip-version-check --target "$venv/early" \
    block-recurrent-transformer-pytorch==0.0.18
"$venv/bin/python" -m pip install --quiet --no-deps --disable-pip-version-check --target "$venv/enhanced" \
    block-recurrent-transformer-pytorch==0.3.0
is_ready "$venv" || { echo "$0: $venv still cannot import the reference" >&2; exit 1; }
