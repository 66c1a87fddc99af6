#!/usr/bin/env bash
# Downloads the kernels that tests/kernels.rs boots into target/kernels, each once, from the archive
# that this machine installs its own packages from. Run by `./dev setup test`.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Series, suite, and a package that is the kernel or depends on it.
kernels="\
5.10 bullseye linux-image-5.10.0-32-cloud-amd64-unsigned
6.1 bookworm linux-image-cloud-amd64"

. tests/private_apt.sh

fail() { printf 'tests/kernels/fetch.sh: %s\n' "$*" >&2; exit 1; }

# Unpacks a package, or the kernel that it depends on.
unpack() { # SUITE PACKAGE
	local kernel
	private_apt "$1" download "$2" || fail "cannot download $2 from suite $1"
	dpkg-deb -x "$work/$2"_*.deb "$work/unpacked"
	ls "$work"/unpacked/boot/vmlinuz-* >/dev/null 2>&1 && return
	kernel=$(dpkg-deb -f "$work/$2"_*.deb Depends | grep -o 'linux-image-[0-9][^ ,]*' | head -n 1)
	[ -n "$kernel" ] || fail "$2 of suite $1 is not a kernel and depends on none"
	unpack "$1" "$kernel"
}

while read -r series suite package; do
	[ -e "target/kernels/$series" ] && continue
	printf 'fetching Linux %s from %s\n' "$series" "$suite" >&2
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	private_apt "$suite" update || fail "cannot read suite $suite"
	unpack "$suite" "$package"
	mkdir -p target/kernels
	cp "$work"/unpacked/boot/vmlinuz-* "target/kernels/$series.part"
	mv "target/kernels/$series.part" "target/kernels/$series"
	rm -rf "$work"
done <<<"$kernels"
