#!/usr/bin/env bash
# Makes docs/flamegraph.png: everytick watching gofmt read a source tree, in a browser's window, as
# `./dev picture`. Needs go and chromium. With files as arguments, makes a picture of each instead:
# FILE.svg -> FILE.png.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

screenshot() { # FILE.svg FILE.png
	chromium --headless --no-sandbox --disable-gpu --no-first-run --hide-scrollbars \
		--disable-background-networking --disable-component-update --disable-sync \
		--user-data-dir="$work/browser" --virtual-time-budget=5000 --window-size=1280,800 \
		--screenshot="$(realpath "$2")" "file://$(realpath "$1")" >"$work/log" 2>&1 ||
		{ cat "$work/log" >&2 && exit 1; }
}

if [ $# -gt 0 ]; then
	for file in "$@"; do
		touch "${file%.svg}.png"
		screenshot "$file" "${file%.svg}.png"
	done
	exit
fi
cd "$(dirname "$0")/.."
target/release/everytick record -F 499 -o "$work/go.svg" -- \
	gofmt -l "$(go env GOROOT)"/src/{net,os,runtime,time} >/dev/null
screenshot "$work/go.svg" docs/flamegraph.png
