#!/usr/bin/env bash
# Installs interpreters of CPython that Debian 12 lacks below the directory, each once: those of
# other Debian suites, with the libraries that they need, and python-build-standalone out of a
# module of Go. Run by `./dev setup runtimes`.
#
#     benches/pythons.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/.."
pythons=$1

# Version and suite.
debian="\
3.9 bullseye
3.13 trixie
3.14 sid
3.15 sid"
# Libraries that the modules of the programs need, as each suite names them.
libraries=(libc6 libgcc-s1 zlib1g libexpat1 libffi7 libffi8 libssl1.1 libssl3 libssl3t64 libuuid1
	libzstd1)
go_module=github.com/kluctl/go-embed-python
go_versions=(v0.0.0-3.10.16-20241219-1 v0.0.0-3.14.6-20260610-1)

. tests/private_apt.sh

fail() { printf 'benches/pythons.sh: %s\n' "$*" >&2; exit 1; }

# Makes a directory appear whole.
install_directory() { # DIRECTORY NAME
	mkdir -p "$pythons"
	rm -rf "${pythons:?}/$2.part"
	cp -a "$1" "$pythons/$2.part"
	mv "$pythons/$2.part" "$pythons/$2"
}

install_debian() { # VERSION SUITE
	local name="$2 $1" package
	name=${name// /-}
	[ -e "$pythons/$name" ] && return
	printf 'fetching Python %s from %s\n' "$1" "$2" >&2
	work=$(mktemp -d)
	private_apt "$2" update || fail "cannot read suite $2"
	for package in "python$1-minimal" "libpython$1-minimal" "libpython$1-stdlib"; do
		private_apt "$2" download "$package" || fail "cannot download $package of suite $2"
	done
	for package in "${libraries[@]}"; do # not every suite has each
		private_apt "$2" download "$package/$2" 2>/dev/null || true
	done
	mkdir -p "$work/python"
	for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/python/root"; done
	# Such a program needs the C library of its suite, and so its loader.
	cat >"$work/python/python" <<-'EOF'
		#!/bin/sh
		root=$(dirname "$(readlink -f "$0")")/root
		libraries=$root/usr/lib/x86_64-linux-gnu:$root/lib/x86_64-linux-gnu
		for loader in "$root"/lib64/ld-linux-x86-64.so.2 "$root"/lib/x86_64-linux-gnu/ld-*.so* \
			"$root"/usr/lib64/ld-linux-x86-64.so.2; do
			[ -x "$loader" ] && exec "$loader" --library-path "$libraries" "$root"/usr/bin/python3.* "$@"
		done
	EOF
	chmod +x "$work/python/python"
	install_directory "$work/python" "$name"
	rm -rf "$work"
}

install_standalone() { # VERSION OF THE MODULE
	local name=${1#v0.0.0-} from
	name=standalone-${name%%-*}
	[ -e "$pythons/$name" ] && return
	printf 'fetching %s\n' "$name" >&2
	work=$(mktemp -d)
	from=$(cd "$work" && go mod download -json "$go_module@$1" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
	[ -n "$from" ] || fail "cannot download $go_module@$1"
	cp -a "$from/python/internal/data/linux-amd64" "$work/python"
	chmod -R u+w "$work/python"
	find "$work/python" -name '*.gz' -exec gunzip -q {} +
	chmod +x "$work"/python/bin/*
	ln -sf "$(cd "$work/python/bin" && ls | grep -x 'python3\.[0-9]*')" "$work/python/bin/python3"
	install_directory "$work/python" "$name"
	rm -rf "$work"
}

while read -r version suite; do install_debian "$version" "$suite"; done <<<"$debian"
for version in "${go_versions[@]}"; do install_standalone "$version"; done
