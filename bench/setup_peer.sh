#!/bin/sh
# Makes a Python environment that runs block-recurrent-transformer-pytorch 0.4.4 on the PyTorch of PyPI, as fast as it
# can be had: setup_peer.sh VENV
#
# What the environment has already is left as it is: another PyTorch there is the one that is measured.
set -eu

# --no-deps: PyTorch would bring 3 GB of CUDA, and the package names one that it never imports.
PYTORCH='torch==2.15.0 typing_extensions==4.16.0 filelock==4.3.1 sympy==1.14.0 mpmath==1.3.0 networkx==3.6.1
    jinja2==3.1.6 markupsafe==3.0.4 fsspec==2026.9.0'
PACKAGE='block-recurrent-transformer-pytorch==0.4.4 einops==0.8.1 beartype==0.23.1 packaging==26.4
    safetensors==0.8.0 numpy==2.4.6'

imports() {
    "$venv/bin/python" -W ignore -c "import $1" 2>/dev/null
}

install() {
    echo "installing into $venv: $1" >&2
    # shellcheck disable=SC2086  # a list of words
    "$venv/bin/python" -m pip install --quiet --no-deps --disable-pip-version-check $1
}

# PyPI's PyTorch is linked to libraries of CUDA, which it does not call where there is no such device. Empty ones of
# their names stand in for them, and one that has all of their functions; each answers "no device".
stand_in_for_cuda() {
    lib=$(echo "$venv"/lib/python3*/site-packages/torch/lib)
    cuda='\(cu\|nv\|nccl\)'
    nm -D --undefined-only "$lib"/*.so* 2>/dev/null | sed 's/@.*//; s/.* //' | grep "^_*$cuda" | sort -u |
        sed 's/.*/int &(void) { return 100; }/' |
        gcc -shared -fPIC -Wl,-soname,libno_cuda.so -x c -o "$lib/libno_cuda.so" -
    for name in $(readelf -d "$lib"/*.so* | sed -n "s/.*NEEDED.*\[\(lib$cuda.*\)\]/\1/p" | sort -u); do
        # shellcheck disable=SC2016  # $ORIGIN is for the dynamic linker
        gcc -shared -Wl,--no-as-needed -Wl,-rpath,'$ORIGIN' -o "$lib/$name" "$lib/libno_cuda.so"
    done
}

# PyTorch's products of float32 are MKL's, which keeps its AVX-512 kernels for Intel's processors. Preloaded, this
# answers the question whether there is one.
answer_mkl() {
    echo 'int mkl_serv_intel_cpu_true(void) { return 1; }' | gcc -shared -fPIC -x c -o "$venv/lib/mkl_avx512.so" -
}

[ $# -eq 1 ] || { echo "usage: $0 VENV" >&2; exit 2; }
venv=$1
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
[ -f "$venv/lib/mkl_avx512.so" ] || answer_mkl
if ! imports torch; then
    install "$PYTORCH"
    imports torch || stand_in_for_cuda
fi
package='numpy, safetensors.torch, block_recurrent_transformer_pytorch'
imports "$package" || install "$PACKAGE"
imports "$package" || { echo "$0: $venv cannot import PyTorch and the package" >&2; exit 1; }
