#!/bin/sh
# Runs test programs, as many at a time as there are cores, shows what failed, and closes with `N passed, N failed`.
#   BUILD=build tools/run_tests.sh TEST...
# A program that dies without saying how many of its tests failed counts as one failure.
set -u
export DANLU_DATA="${DANLU_DATA:-../shared/data}"
export DANLU_BIN="${BUILD:-build}/danlu"
export TEST_TIMEOUT="${TEST_TIMEOUT:-600}" TEST_ROOT="${BUILD:-build}/test/"
TEST_COUNTS=$(mktemp -d) || exit 1
export TEST_COUNTS
trap 'rm -rf "$TEST_COUNTS"' EXIT

# One program: its line, and its log if it failed, in one piece; its counts in a file.
one='
log=$(mktemp "$TEST_COUNTS/log.XXXXXX") began=$(date +%s)
timeout "$TEST_TIMEOUT" "$0" >"$log" 2>&1
rc=$?
count() { sed -n "s/^\[  $1  \] \([0-9]*\) test.*/\1/p" "$log" | awk "{n += \$1} END {print n + 0}"; }
p=$(count PASSED) f=$(count FAILED)
[ "$rc" -eq 0 ] || [ "$f" -gt 0 ] || f=1
[ "$rc" -ne 0 ] || [ "$p" -gt 0 ] || [ "$f" -gt 0 ] || p=1
echo "$p $f" >"$log.count"
name=${0#"$TEST_ROOT"}
if [ "$f" -gt 0 ]; then
    printf "FAIL  %s (exit %s)\n%s\n" "$name" "$rc" "$(tail -n 40 "$log")" | tee "$log.failed"
else
    printf "  ok  %s (%s, %s s)\n" "$name" "$p" "$(($(date +%s) - began))"
fi
'
# The long ones first, so that none runs alone at the end.
long='/(session|trainer|kernels|hostile|qgemm|gemm)_test$'
[ $# -eq 0 ] || { printf '%s\n' "$@" | grep -E "$long"; printf '%s\n' "$@" | grep -vE "$long"; } | xargs -P "${TEST_JOBS:-$(nproc)}" -I{} sh -c "$one" {}

set -- "$#" $(cat "$TEST_COUNTS"/*.count 2>/dev/null | awk '{p += $1; f += $2; n++} END {print p + 0, f + 0, n + 0}')
failed=$(($3 + $1 - $4))                       # a program without counts was lost
cat "$TEST_COUNTS"/*.failed 2>/dev/null        # once more, where it is seen
echo "$2 passed, $failed failed"
[ "$failed" -eq 0 ]
