#!/usr/bin/env bash
# Builds the real servers that tests/stores.rs sends to, a Parca and an OpenTelemetry Collector, and prints the
# directory they are in. They are built once: the directory is named after what they are built from, and kept in
# $XDG_CACHE_HOME/everytick-stores (or ~/.cache/everytick-stores). That takes about six minutes on two CPUs.
set -euo pipefail
cd "$(dirname "$0")"

store=${XDG_CACHE_HOME:-$HOME/.cache}/everytick-stores
out=$store/$(cat parca/* collector/* | sha256sum | cut -c 1-16)
export CGO_ENABLED=0 GOFLAGS='-mod=readonly -trimpath -buildvcs=false' GOTOOLCHAIN=auto

# Builds one program under another name, so that what is there is whole.
build() { # NAME PACKAGE
	[ -x "$out/$1" ] && return
	printf 'tests/stores/build.sh: building %s, once\n' "$1" >&2
	(cd "$1" && nice -n 10 "$go" build -ldflags '-s -w' -o "$out/$1.part" "$2") >&2
	mv "$out/$1.part" "$out/$1"
}

mkdir -p "$out"
exec 9>"$store/lock"
flock 9
if [ ! -x "$out/parca" ] || [ ! -x "$out/collector" ]; then
	go=$(./go.sh)
	build parca github.com/parca-dev/parca/cmd/parca
	build collector .
fi
printf '%s\n' "$out"
