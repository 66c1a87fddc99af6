#!/usr/bin/env bash
# Makes docs/flamegraph.png: Python starting up, in a browser's window, as `./dev picture`. Needs
# chromium, pngquant and python3. With files as arguments, makes a picture of each instead:
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
# The interpreter itself, and no script that chooses one.
python=$(python3 -c 'import sys; print(sys.executable)')
PATH=$(dirname "$python"):$PATH
target/release/everytick record -F 1999 -o "$work/python.svg" -- \
	sh -c 'for i in 1 2 3 4 5 6; do python3 -c "import asyncio, unittest"; done'
touch "$work/python.png"
screenshot "$work/python.svg" "$work/python.png"
pngquant --force --speed 1 --output docs/flamegraph.png 256 "$work/python.png"
