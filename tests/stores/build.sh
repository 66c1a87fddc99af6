#!/usr/bin/env bash
# Builds a real server that tests/stores.rs needs, and prints the directory of its programs.
#
#   tests/stores/build.sh parca|collector|kubernetes
#
# It is built once: the directory is named after what it is built from, and kept in $XDG_CACHE_HOME/everytick-stores (or
# ~/.cache/everytick-stores). On two CPUs a Parca takes about four minutes, a Collector two, and Kubernetes ten.
set -euo pipefail
cd "$(dirname "$0")"
. ../private_apt.sh

fail() { printf 'tests/stores/build.sh: %s\n' "$*" >&2; exit 1; }
name=${1:-}
[ -n "$name" ] && [ -e "$name/go.mod" ] || fail "say what to build: parca, collector or kubernetes"
store=${XDG_CACHE_HOME:-$HOME/.cache}/everytick-stores
out=$store/$name-$(cat "$name"/* build.sh | sha256sum | cut -c 1-16)
export CGO_ENABLED=0 GOFLAGS='-mod=readonly -trimpath -buildvcs=false' GOTOOLCHAIN=auto

# Builds one program under another name, so that what is there is whole.
build() { # PROGRAM PACKAGE [FLAGS OF THE LINKER]
	[ -x "$out/$1" ] && return
	printf 'tests/stores/build.sh: building %s, once\n' "$1" >&2
	go=${go:-$(./go.sh)}
	(cd "$name" && nice -n 10 "$go" build -ldflags "-s -w ${3:-}" -o "$out/$1.part" "$2") >&2
	mv "$out/$1.part" "$out/$1"
}

# Unpacks what a node needs beside Kubernetes from Debian packages, so that the machine's own stay as they are.
containers() {
	local usr
	[ -x "$out/etcd" ] && return
	printf 'tests/stores/build.sh: fetching etcd and containerd, once\n' >&2
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	private_apt bookworm update || fail "suite bookworm cannot be read"
	private_apt bookworm download etcd-server containerd runc containernetworking-plugins || fail "they cannot be had"
	for package in "$work"/*.deb; do dpkg-deb -x "$package" "$work/unpacked"; done
	usr=$work/unpacked/usr
	mv "$usr"/bin/{containerd,containerd-shim-runc-v2,ctr} "$usr/sbin/runc" "$usr"/lib/cni/{bridge,host-local,loopback} "$out"
	mv "$usr/bin/etcd" "$out" # the last: all of them are there
}

mkdir -p "$out"
exec 9>"$store/lock"
flock 9
case $name in
parca) build parca github.com/parca-dev/parca/cmd/parca ;;
collector) build collector . ;;
kubernetes)
	version=k8s.io/component-base/version # the API server refuses a kubelet without one
	for program in kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl; do
		build $program k8s.io/kubernetes/cmd/$program "-X $version.gitVersion=v1.34.0 -X $version.gitMajor=1 -X $version.gitMinor=34"
	done
	containers
	;;
esac
printf '%s\n' "$out"
