#!/bin/sh
# Runs fuzzers one after the other and adds up what they did.
#
#   tools/fuzz.sh DIR SECONDS NAME...        DIR holds fuzz_NAME (`make fuzz` builds them) and seeds/NAME
#
# What counts as a failure: a crash, a sanitizer's report, a leak, more than 512 MB, one allocation of more than 256 MB,
# an input that takes more than a second.  The input is kept in DIR/found/NAME; what was learnt, in DIR/corpus/NAME, or FUZZ_CORPUS/NAME.
# FUZZ_ENGINE=afl uses afl-fuzz; FUZZ_ARGS goes to libFuzzer.  What each harness has done in all stands in DIR/total/NAME.
set -u
dir=$1 seconds=$2
shift 2
here=$(cd "$(dirname "$0")/.." && pwd)
corpus=${FUZZ_CORPUS:-$dir/corpus}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0 total=0

libfuzzer() {
    name=$1
    dict=$here/tests/fuzz/dict/$name.dict regress=$here/tests/fuzz/regress/$name
    set -- "$corpus/$name" "$dir/seeds/$name"
    [ -d "$regress" ] && set -- "$@" "$regress"
    [ -f "$dict" ] && set -- -dict="$dict" "$@"
    # shellcheck disable=SC2086
    "$dir/fuzz_$name" -max_total_time="$seconds" -max_len=1024 -len_control=50 -rss_limit_mb=512 -malloc_limit_mb=256 -timeout=1 \
        -print_final_stats=1 -artifact_prefix="$dir/found/$name/" -verbosity=1 ${FUZZ_ARGS:-} "$@" >"$log" 2>&1
    rc=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
    [ -n "$runs" ] || runs=$(sed -n 's/^#\([0-9]*\).*/\1/p' "$log" | tail -n 1)
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

add_up() {
    before=$(cat "$dir/total/$1" 2>/dev/null)
    echo $((${before:-0} + ${2:-0})) >"$dir/total/$1"
    total=$((total + ${2:-0}))
}

for name in "$@"; do
    mkdir -p "$dir/found/$name" "$corpus/$name" "$dir/seeds/$name" "$dir/out" "$dir/total"
    if [ "${FUZZ_ENGINE:-}" = afl ]; then afl "$name"; else libfuzzer "$name"; fi
    add_up "$name" "$runs"
    if [ "$rc" -eq 0 ] && [ -n "$runs" ]; then echo "  ok  $name: $runs executions, ${edges:-?} edges"
    else failed=$((failed + 1)); echo "FAIL  $name: after ${runs:-0} executions, ${edges:-?} edges; the input is in $dir/found/$name"; tail -n 30 "$log"; fi
done
echo "$total executions"
echo "$(($# - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
