#!/bin/sh
# Runs test programs one after the other, shows what failed, and closes with `N passed, N failed`.
#   BUILD=build tools/run_tests.sh TEST...
# A program that dies without saying how many of its tests failed counts as one failure.
set -u
export DANLU_DATA="${DANLU_DATA:-../shared/data}"
export DANLU_BIN="${BUILD:-build}/danlu"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0
for t in "$@"; do
    name=${t#"${BUILD:-build}"/test/}
    timeout "${TEST_TIMEOUT:-600}" "$t" >"$log" 2>&1
    rc=$?
    p=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
    f=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test.*/\1/p' "$log" | awk '{n += $1} END {print n + 0}')
    [ "$rc" -eq 0 ] || [ "$f" -gt 0 ] || f=1
    [ "$rc" -ne 0 ] || [ "$p" -gt 0 ] || [ "$f" -gt 0 ] || p=1
    passed=$((passed + p)) failed=$((failed + f))
    if [ "$f" -gt 0 ]; then
        echo "FAIL  $name (exit $rc)"
        tail -n 40 "$log"
    else
        echo "  ok  $name ($p)"
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
