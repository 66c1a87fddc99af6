#!/usr/bin/env bash
# Builds a container image of the everytick binary and the libraries that it needs, in one layer.
# Needs no registry, no Docker and no base image. The same binary gives the same image.
#
#   deploy/image.sh [-o FILE] [-t TAG] [BINARY]
#
#   -o FILE   output; default: target/everytick-image.tar. The format is that of `docker save`
#   -t TAG    name of the image; default: localhost/everytick:VERSION
#   BINARY    default: target/release/everytick; with a TAG, any other program
#
# To load the image on a node: `ctr -n k8s.io images import FILE`, `podman load -i FILE` or `docker load -i FILE`.
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
[ -x "$binary" ] || fail "there is no $binary; build it with \`cargo build --release\`, or give another path"
program=$(basename "$binary")
if [ -z "$tag" ]; then
	version=$("$binary" --version) || fail "$binary does not run here"
	tag=localhost/$program:${version##* }
fi
case $(uname -m) in
x86_64) architecture=amd64 ;;
aarch64) architecture=arm64 ;;
*) fail "cannot build an image for $(uname -m)" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

# Content: the binary, the loader, the libraries at the paths that the loader uses, and the
# certificate authorities.
install -D -m 755 "$binary" "$root/$program"
libraries() { ldd "$binary" | awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }'; }
if missing=$(ldd "$binary" | grep 'not found'); then fail "a library is missing: $missing"; fi
for library in $(libraries); do install -D -m 755 "$library" "$root$library"; done
authorities=/etc/ssl/certs/ca-certificates.crt
[ ! -e "$authorities" ] || install -D -m 644 "$authorities" "$root$authorities"
install -d -m 755 "$root/etc/everytick" "$root/var/lib/everytick" "$root/proc" "$root/sys"

# Reproducible: order, times and owners are fixed.
pack() {
	tar --format=gnu --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=go-w \
		-C "$1" -cf "$2" "${@:3}"
}
sum() { sha256sum "$1" | cut -d' ' -f1; }

mkdir "$work/image"
pack "$root" "$work/layer.tar" .
layer=$(sum "$work/layer.tar")
mkdir "$work/image/$layer"
mv "$work/layer.tar" "$work/image/$layer/layer.tar"
cat >"$work/config.json" <<JSON
{"architecture":"$architecture","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Entrypoint":["/$program"],"Cmd":["agent"],"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"deploy/image.sh"}]}
JSON
config=$(sum "$work/config.json")
mv "$work/config.json" "$work/image/$config.json"
printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["%s/layer.tar"]}]\n' \
	"$config" "$tag" "$layer" >"$work/image/manifest.json"
mkdir -p "$(dirname "$out")"
pack "$work/image" "$out.part" manifest.json "$config.json" "$layer"
mv "$out.part" "$out"
printf '%s: %s, sha256:%s, %s KiB\n' \
	"$out" "$tag" "$config" "$(($(stat -c %s "$out") / 1024))"
