#!/bin/sh
# Fuzzes for a long time, in slices: always the harness that has run least.
#
#   tools/fuzz_campaign.sh UNTIL DIR [FAST]        UNTIL as `date -d` reads it: 'now + 8 hours'
#
# DIR and FAST hold what `make fuzz-build` made, FAST without sanitizers (FUZZ_SAN=).  FAST looks for inputs; DIR, which runs after it, begins with
# all of them, so that what FAST has learnt is seen by the sanitizers.  Both learn into DIR/corpus.  FUZZ_SLICE: seconds of each (20);
# FUZZ_PAUSE: nothing begins while this file is there.  A line for each slice; what was found lies in found/NAME, how much was done in
# total/NAME of either folder.  A harness that fails rests until the build is made anew.
set -u
until=$(date -d "$1" +%s) || exit 2
dir=$2 fast=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
FUZZ_CORPUS=$dir/corpus
export FUZZ_CORPUS
mkdir -p "$dir/total" "$dir/failed" ${fast:+"$fast/failed"}

# The harness with the smallest total of those that do not rest.
least() {
    for f in "$dir"/fuzz_*; do
        name=${f##*/fuzz_}
        case $name in *.*) continue ;; esac
        for d in "$dir" $fast; do [ -z "$(find "$d/failed/$name" -newer "$d/fuzz_$name" 2>/dev/null)" ] || continue 2; done
        done=0
        for d in "$dir" $fast; do done=$((done + $(cat "$d/total/$name" 2>/dev/null || echo 0))); done
        echo "$done $name"
    done | sort -n | sed -n '1s/.* //p'
}

# No shorter than the seeds, which would be cut off; longer for bugs that need it.  Entropic weights find other inputs, at two to three
# times the price of an execution: one slice in four.
arguments() {
    longest=$(for f in "$dir/seeds/$1"/*; do wc -c <"$f"; done | sort -n | tail -n 1)
    echo "-max_len=$(shuf -n 1 -e "$longest" $((2 * longest)) $((512 + longest))) -entropic=$(shuf -n 1 -e 0 0 0 1) -reload=0"
}

slice() {
    out=$(FUZZ_ARGS=$(arguments "$2") sh "$here/fuzz.sh" "$1" "${FUZZ_SLICE:-20}" "$2") || { touch "$1/failed/$2"; echo "$out"; }
    echo "$(date +%H:%M:%S) ${1##*/} $(echo "$out" | sed -n 1p), $(find "$FUZZ_CORPUS/$2" -type f | wc -l) kept, $(cat "$1/total/$2") in all"
}

while [ "$(date +%s)" -lt "$until" ]; do
    name=$(least)
    [ -n "$name" ] || { echo "no harness is left that did not fail"; exit 1; }
    for d in $fast "$dir"; do
        while [ -n "${FUZZ_PAUSE:-}" ] && [ -e "$FUZZ_PAUSE" ]; do sleep 1; done
        slice "$d" "$name"
    done
done
