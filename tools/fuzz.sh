#!/bin/sh
# Runs fuzzers one after the other and adds up what they did.
#
#   tools/fuzz.sh DIR SECONDS NAME...        DIR holds fuzz_NAME (`make fuzz` builds them) and seeds/NAME
#
# What counts as a failure: a crash, a sanitizer's report, a leak, more than 512 MB, one allocation of more than 256 MB,
# an input that takes more than a second.  The input is kept in DIR/found/NAME; what was learnt, in DIR/corpus/NAME.
# FUZZ_ENGINE=afl uses afl-fuzz; FUZZ_ARGS goes to libFuzzer.
set -u
dir=$1 seconds=$2
shift 2
here=$(cd "$(dirname "$0")/.." && pwd)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0 total=0

libfuzzer() {
    dict=$here/tests/fuzz/dict/$1.dict
    [ -f "$dict" ] && set -- "$1" -dict="$dict"
    name=$1; shift
    regress=$here/tests/fuzz/regress/$name
    [ -d "$regress" ] || regress=
    "$dir/fuzz_$name" -max_total_time="$seconds" -max_len=4096 -len_control=200 -rss_limit_mb=512 -malloc_limit_mb=256 -timeout=1 \
        -print_final_stats=1 -artifact_prefix="$dir/found/$name/" -verbosity=1 "$@" ${FUZZ_ARGS:-} \
        "$dir/corpus/$name" "$dir/seeds/$name" $regress >"$log" 2>&1
    rc=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
}

afl() {
    name=$1
    AFL_NO_UI=1 AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_AFFINITY=1 \
        afl-fuzz -V "$seconds" -m none -t 1000 -i "${SEEDS:-$dir/seeds}/$name" -o "$dir/out/$name" -- "$dir/fuzz_$name" >"$log" 2>&1
    stats=$dir/out/$name/default/fuzzer_stats
    runs=$(sed -n 's/^execs_done *: *//p' "$stats" 2>/dev/null)
    edges=$(sed -n 's/^edges_found *: *//p' "$stats" 2>/dev/null)
    rc=$(find "$dir/out/$name" -path '*crashes/id*' -o -path '*hangs/id*' 2>/dev/null | wc -l)
}

for name in "$@"; do
    mkdir -p "$dir/found/$name" "$dir/corpus/$name" "$dir/seeds/$name" "$dir/out"
    if [ "${FUZZ_ENGINE:-}" = afl ]; then afl "$name"; else libfuzzer "$name"; fi
    total=$((total + ${runs:-0}))
    if [ "$rc" -eq 0 ] && [ -n "$runs" ]; then echo "  ok  $name: $runs executions, ${edges:-?} edges"
    else failed=$((failed + 1)); echo "FAIL  $name: after ${runs:-0} executions, ${edges:-?} edges; the input is in $dir/found/$name"; tail -n 30 "$log"; fi
done
echo "$total executions"
echo "$(($# - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
