#!/bin/sh
# Makes sure that what `make run` or `make test` needs is installed: Debian's packages, by name.
#   tools/deps.sh run|test
# As root or with sudo it installs what is missing; otherwise it prints the exact command and stops.
set -eu

base="gcc make libc6-dev libjansson-dev libutf8proc-dev libpcre2-dev libsqlite3-dev liblapacke-dev libopenblas-dev"
case ${1-} in
run) want="$base" ;;
test) want="$base libcmocka-dev" ;;
text) want="fortunes fortunes-min" ;;
ci) want="$base libcmocka-dev clang libclang-rt-14-dev python3" ;;
*) echo "usage: $0 run|test|text|ci" >&2; exit 2 ;;
esac

command -v dpkg-query >/dev/null 2>&1 || exit 0        # not a Debian: the compiler will say what is missing
missing=
for p in $want; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

cmd="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    sudo="sudo -n"
else
    echo "these packages are missing:$missing" >&2
    echo "install them with:  sudo apt-get update && sudo $cmd" >&2
    exit 1
fi
echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq >/dev/null
$sudo $cmd -qq >/dev/null
