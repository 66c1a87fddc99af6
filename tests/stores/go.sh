#!/usr/bin/env bash
# Prints a `go` command that can build tests/stores. The go.mod files there say which version they need, and since
# 1.21 `go` fetches that version by itself as a module. Where `go` is missing or older (Debian 12 has 1.19), Go 1.23
# of Debian's backports is unpacked beside the stores, and the machine's own packages stay as they are.
set -euo pipefail
. "$(dirname "$0")/../private_apt.sh"

store=${XDG_CACHE_HOME:-$HOME/.cache}/everytick-stores
unpacked=$store/go-1.23/usr/lib/go-1.23/bin/go

fail() { printf 'tests/stores/go.sh: %s\n' "$*" >&2; exit 1; }

# Whether a `go` fetches a newer one when it needs one.
can_switch() { # GO
	local minor
	minor=$("$1" version 2>/dev/null | sed -n 's/^go version go1\.\([0-9]*\).*/\1/p')
	[ "${minor:-0}" -ge 21 ]
}

if command -v go >/dev/null && can_switch go; then
	command -v go
	exit
fi
if [ ! -x "$unpacked" ]; then
	printf 'tests/stores/go.sh: fetching Go 1.23\n' >&2
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	private_apt bookworm-backports update || fail "suite bookworm-backports cannot be read"
	private_apt bookworm-backports download golang-1.23-go golang-1.23-src || fail "Go 1.23 cannot be had"
	for package in "$work"/golang-1.23-*.deb; do
		dpkg-deb -x "$package" "$work/unpacked"
	done
	mkdir -p "$store"
	rm -rf "$store/go-1.23"
	mv "$work/unpacked" "$store/go-1.23"
fi
printf '%s\n' "$unpacked"
