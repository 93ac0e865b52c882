# What infer.sh and fusion.sh share: `. tests/e2e/lib.sh`, with the build folder in $1.  Moves into a work folder of its own.
danlu=$(realpath "${1:-build}/danlu" 2>/dev/null) && [ -x "$danlu" ] || { echo "there is no ${1:-build}/danlu; run make first"; echo "0 passed, 1 failed"; exit 1; }
root=$PWD
work=$(mktemp -d)
export DANLU_HOME=$work/home NO_COLOR=1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
cd "$work" || exit 1

ok() { passed=$((passed + 1)); echo "  ok  $1"; }
bad() { failed=$((failed + 1)); echo "FAIL  $1"; tail -n 15 log; }
check() { local name=$1; shift; if bash -c "$*" >log 2>&1; then ok "$name"; else bad "$name"; fi; }
refused() {     # NAME CODE PATTERN COMMAND...: exits with CODE, and stderr says PATTERN
    local name=$1 code=$2 pattern=$3 rc; shift 3
    "$@" >out 2>log; rc=$?
    if [ "$rc" -eq "$code" ] && grep -qiE -- "$pattern" log; then ok "$name"; else echo "exit $rc, expected $code and /$pattern/" >>log; bad "$name"; fi
}
danlu() { "$danlu" "$@"; }
