#!/bin/sh
# Runs each fuzzer: fuzz.sh SECONDS
#
# An input that fails is left as build-fuzz/FUZZER-*; new ones that reached something are kept in build-fuzz/corpus.
set -eu
seconds=$1
CC=clang scripts/build.sh build-fuzz --werror -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false

for source in tests/fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    log=build-fuzz/$name.log
    mkdir -p "build-fuzz/corpus/$name"
    if ! UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        "build-fuzz/tests/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -max_len=65536 \
        -print_final_stats=1 -artifact_prefix="build-fuzz/$name-" \
        "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
        cat "$log"
        exit 1
    fi
    echo "$name: $(awk '/^stat::number_of_executed_units/ { print $2 }' "$log") inputs"
done
