#!/usr/bin/env bash
# Makes docs/flamegraph.png: everytick watching a compiler, as `./dev picture`.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '#include <map>\n#include <regex>\n#include <string>\nint main() { std::regex r("a+"); }\n' >"$work/a.cc"
target/release/everytick record -q -F 499 -o "$work/a.svg" -- \
	sh -c "for i in 1 2 3; do g++ -std=c++17 -O1 -c $work/a.cc -o $work/a.o; gzip -9 -c /usr/lib/gcc/x86_64-linux-gnu/*/cc1plus | head -c 3000000 | sha256sum; done"
rsvg-convert -w 1400 "$work/a.svg" -o docs/flamegraph.png
