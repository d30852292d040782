#!/bin/sh
# Every instruction set gives the right results: isa.sh BUILD TEST...
#
# Runs unit tests with each table of kernels that this processor has, and on processors that qemu imitates: one without
# AVX and one without AVX-512, where an instruction that is not theirs ends the program.
set -eu
build=$1
shift

for isa in generic sse2 avx2 avx512 avx512_bf16 neon; do
    if ! BRT_ISA=$isa "$build/brt" info --preset tiny >/dev/null 2>&1; then
        echo "-- $isa: not on this processor"
        continue
    fi
    for test in "$@"; do
        echo "-- $isa: $test"
        BRT_ISA=$isa "$build/tests/test_$test"
    done
done

[ "$(uname -m)" = x86_64 ] || exit 0
for processor in Nehalem Haswell; do
    for test in "$@"; do
        echo "-- $processor: $test"
        qemu-x86_64 -cpu "$processor" "$build/tests/test_$test"
    done
done
