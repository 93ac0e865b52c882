#!/usr/bin/env bash
# ThreadSanitizer over what runs threads: the pool, the executor, the trainer, kernels.
set -eu
cd "$(dirname "$0")/.."
b=build/tsan
tests=$(ls src/base/threads_test.c src/exec/*_test.c src/train/*_test.c src/infer/session_test.c tests/table/kernels_test.c 2>/dev/null | sed "s,^,$b/test/,; s,\.c\$,,")
make --no-print-directory "-j$(nproc)" CONFIG=tsan $tests
BUILD=$b sh tools/run_tests.sh $tests
