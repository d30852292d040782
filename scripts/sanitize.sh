#!/bin/sh
# Builds with a sanitizer and runs tests: sanitize.sh address|thread
set -eu

# The sanitizers of Debian 12 do not know how far newer kernels scatter addresses. Containers may forbid this.
setarch=
! setarch -R true 2>/dev/null || setarch='setarch -R'

# The library has an answer to memory that is not there, and tests ask for it.
memory=allocator_may_return_null=1

case ${1:-} in
address)
    scripts/build.sh build-asan -Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1
    ASAN_OPTIONS=$memory:detect_leaks=1:strict_string_checks=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        $setarch scripts/test.sh build-asan --timeout-multiplier 5
    ;;
thread)
    scripts/build.sh build-tsan -Db_sanitize=thread -Db_lundef=false -Doptimization=1
    TSAN_OPTIONS=$memory:halt_on_error=1 \
        $setarch scripts/test.sh build-tsan --timeout-multiplier 5 --suite threads
    ;;
*)
    echo "usage: $0 address|thread" >&2
    exit 2
    ;;
esac
