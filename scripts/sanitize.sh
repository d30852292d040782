#!/bin/sh
# Builds with a sanitizer and runs the tests: sanitize.sh address|thread
set -eu

case ${1:-} in
address)
    # gcc's, and libgomp; detect_leaks finds what oneDNN and libgomp keep for the life of the process, too.
    scripts/build.sh build-asan -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1
    ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1:strict_string_checks=1 \
    UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        meson test -C build-asan --print-errorlogs --timeout-multiplier 5
    ;;
thread)
    # With clang, LLVM's OpenMP and its archer tool, which tells the sanitizer what OpenMP orders; gcc's OpenMP gives
    # false alarms. Products in plain C: oneDNN is not compiled with the sanitizer.
    CC=clang scripts/build.sh build-tsan -Db_sanitize=thread -Db_lundef=false -Dgemm=plain -Doptimization=1
    OMP_TOOL_LIBRARIES=$(clang -print-resource-dir)/../../libarcher.so \
    TSAN_OPTIONS=halt_on_error=1:ignore_noninstrumented_modules=1 \
        meson test -C build-tsan --print-errorlogs --timeout-multiplier 5 --suite threads
    ;;
*)
    echo "usage: $0 address|thread" >&2
    exit 2
    ;;
esac
