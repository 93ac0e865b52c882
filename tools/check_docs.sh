#!/usr/bin/env bash
# docs/ref is generated; this fails when what is committed is stale.  `tools/check_docs.sh BUILD update` rewrites it.
set -eu
cd "$(dirname "$0")/.."
danlu=${1:-build}/danlu
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT
"$danlu" help --markdown > "$new/commands.md"
"$danlu" inspect --ops > "$new/ops.md"
if [ "${2-}" = update ]; then mkdir -p docs/ref && cp "$new"/*.md docs/ref/; exit 0; fi
for f in "$new"/*.md; do
    diff -u "docs/ref/$(basename "$f")" "$f" || { echo "docs/ref/$(basename "$f") is stale: run tools/check_docs.sh ${1:-build} update"; exit 1; }
done
