#!/usr/bin/env bash
# Makes docs/flamegraph.png: everytick watching gofmt read a source tree, as `./dev picture`. Needs go.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
target/release/everytick record -F 499 -o "$work/go.svg" -- \
	gofmt -l "$(go env GOROOT)"/src/{net,os,runtime,time} >/dev/null
rsvg-convert -w 1400 "$work/go.svg" -o docs/flamegraph.png
