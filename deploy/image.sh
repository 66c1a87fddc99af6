#!/usr/bin/env bash
# Makes a container image of the everytick that was built here: its binary and the libraries that it needs, in one layer.
# No registry, no Docker and no base image take part, and the same binary gives the same image.
#
#   deploy/image.sh [-o FILE] [-t TAG] [BINARY]
#
#   -o FILE   where to; by default target/everytick-image.tar, in the format of `docker save`
#   -t TAG    its name; by default localhost/everytick:VERSION
#   BINARY    by default target/release/everytick; with a TAG any other program
#
# To load it on a node: `ctr -n k8s.io images import FILE`, `podman load -i FILE` or `docker load -i FILE`.
set -euo pipefail
HERE=$(cd "$(dirname "$0")/.." && pwd)
fail() { printf 'image.sh: %s\n' "$*" >&2; exit 1; }

out=$HERE/target/everytick-image.tar tag=
while getopts o:t: option; do
	case $option in
	o) out=$OPTARG ;;
	t) tag=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
binary=${1:-$HERE/target/release/everytick}
[ -x "$binary" ] || fail "there is no $binary; build it with \`cargo build --release\`, or name another"
program=$(basename "$binary")
if [ -z "$tag" ]; then
	version=$("$binary" --version) || fail "$binary does not run here"
	tag=localhost/$program:${version##* }
fi
case $(uname -m) in
x86_64) architecture=amd64 ;;
aarch64) architecture=arm64 ;;
*) fail "no name for images of $(uname -m) is known" ;;
esac

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
root=$place/root

# What is in it: the binary, the loader and the libraries where the loader looks for them, and whom to trust by TLS.
install -D -m 755 "$binary" "$root/$program"
libraries() { ldd "$binary" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }'; }
if missing=$(ldd "$binary" | grep 'not found'); then fail "a library is missing: $missing"; fi
for library in $(libraries); do install -D -m 755 "$library" "$root$library"; done
authorities=/etc/ssl/certs/ca-certificates.crt
[ ! -e "$authorities" ] || install -D -m 644 "$authorities" "$root$authorities"
install -d -m 755 "$root/etc/everytick" "$root/var/lib/everytick" "$root/proc" "$root/sys"

# Everything that could differ from run to run is fixed: order, times, owners.
pack() { tar --format=gnu --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=go-w -C "$1" -cf "$2" "${@:3}"; }
sum() { sha256sum "$1" | cut -d' ' -f1; }

mkdir "$place/image"
pack "$root" "$place/layer.tar" .
layer=$(sum "$place/layer.tar")
mkdir "$place/image/$layer"
mv "$place/layer.tar" "$place/image/$layer/layer.tar"
cat >"$place/config.json" <<JSON
{"architecture":"$architecture","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Entrypoint":["/$program"],"Cmd":["agent"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"deploy/image.sh"}]}
JSON
config=$(sum "$place/config.json")
mv "$place/config.json" "$place/image/$config.json"
printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["%s/layer.tar"]}]\n' "$config" "$tag" "$layer" >"$place/image/manifest.json"
mkdir -p "$(dirname "$out")"
pack "$place/image" "$out.part" manifest.json "$config.json" "$layer"
mv "$out.part" "$out"
printf '%s: %s, sha256:%s, %s KiB\n' "$out" "$tag" "$config" "$(($(stat -c %s "$out") / 1024))"
