#!/usr/bin/env bash
# Adds a runtime to a copy of the tree, as docs/adding-a-runtime.md says, and tests it there: fails
# if that takes more than the files listed there, or if the runtime's frames are not exact.
#
# toy.patch is what a contributor would commit below bpf/, profile/, src/ and upload/. If it does
# not apply any more: apply it with `git apply --3way`, resolve, and write `git diff HEAD` of these
# directories to toy.patch again.
set -euo pipefail
cd "$(dirname "$0")/../.."
patch=$PWD/tests/toy_runtime/toy.patch
out=$PWD/target/toy-runtime
copy=$out/tree

fail() { printf 'tests/toy_runtime/run.sh: %s\n' "$*" >&2; exit 1; }

paths=$(git apply --numstat "$patch" | cut -f 3)
for path in $paths; do
	case "$path" in
	bpf/runtimes/toy.h | bpf/runtimes/abi.h | bpf/runtimes/runtime.h) ;;
	src/runtimes/toy/* | src/runtimes/mod.rs) ;;
	src/kernel/abi/runtimes.rs | src/kernel/abi/layouts.rs) ;;
	profile/src/interpreted_language.rs | upload/src/output/flamegraph/kind.rs) ;;
	*) fail "toy.patch changes $path, which a new runtime must not have to change" ;;
	esac
done
[ -n "$paths" ] || fail "toy.patch is empty"

rm -rf "$copy"
mkdir -p "$copy"
# Files get the time of now: cargo must not take those of the last run for unchanged ones.
git ls-files -z | tar --create --null --files-from - | tar --extract --touch --directory "$copy"
# Without a repository around it, git takes the paths for those below the directory.
GIT_CEILING_DIRECTORIES=$out git -C "$copy" apply "$patch" ||
	fail "toy.patch does not apply: see the beginning of this file"
cd "$copy"
CARGO_TARGET_DIR=$out/target cargo test --test architecture --test toy_runtime -- --nocapture
