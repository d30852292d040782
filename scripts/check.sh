#!/bin/sh
# Every check, stage by stage, and how long each took.
set -eu
times=

# stage NAME COMMAND...
stage() {
    name=$1
    shift
    printf '\n==== %s\n' "$name"
    began=$(date +%s)
    "$@"
    times="$times$(printf '%5d s  %s' $(($(date +%s) - began)) "$name")
"
}

stage 'build, where warnings are errors' scripts/build.sh build --werror
stage 'tests' scripts/test.sh build
stage 'golden values with every instruction set' scripts/isa.sh build golden
stage 'tests with the address and undefined behaviour sanitizers' scripts/sanitize.sh address
stage 'tests of threads with the thread sanitizer' scripts/sanitize.sh thread
stage 'fuzzers, 10 seconds each' scripts/fuzz.sh 10
printf '\n==== all passed\n%s' "$times"
