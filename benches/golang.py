#!/usr/bin/env python3
"""Stacks of Go programs by toolchain and by how they are linked: a table of docs/accuracy.md.

    ./dev accuracy-go [--seconds N] [--versions 1.19.13,...] [--kinds internal,...] [-o FILE]

Builds tests/programs/truth/golang.go, whose stacks are known, in every way, records each program,
and counts stacks that are complete, and that are right from the first frame to the last. Needs
root, gcc, and a Go of 1.21 or newer, which downloads the other toolchains.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EVERYTICK = os.environ.get("EVERYTICK", f"{REPOSITORY}/target/release/everytick")
SOURCE = f"{REPOSITORY}/tests/programs/truth/golang.go"
VERSIONS = "1.19.13,1.20.14,1.21.13,1.22.12,1.23.12,1.24.13,1.25.7,1.26.8,1.27.0"
STRIP = "-s -w"

# How each kind is built: flags of `go build`, flags of the linker, program that loads it.
KINDS = {
    "external": ([], "-linkmode=external", None),
    "internal": ([], "-linkmode=internal", None),
    "internal, stripped": ([], f"-linkmode=internal {STRIP}", None),
    "static": ([], "-linkmode=external -extldflags=-static", None),
    "PIE, external": (["-buildmode=pie"], "-linkmode=external", None),
    "PIE, external, stripped": (["-buildmode=pie"], f"-linkmode=external {STRIP}", None),
    "PIE, internal": (["-buildmode=pie"], "-linkmode=internal", None),
    "c-shared": (["-buildmode=c-shared"], "", "c"),
    "plugin": (["-buildmode=plugin"], "", "go"),
}
LOADER_C = """#include <dlfcn.h>
int main(int count, char **arguments)
{
	void *library = dlopen(arguments[1], RTLD_NOW);
	void (*start)(void) = library ? (void (*)(void))dlsym(library, "Start") : 0;
	if (start) start();
	return 1;
}
"""
LOADER_GO = """package main
import ("os"; "plugin")
func main() {
	p, err := plugin.Open(os.Args[1])
	if err != nil { panic(err) }
	start, err := p.Lookup("Start")
	if err != nil { panic(err) }
	start.(func())()
}
"""

# Functions that a chain may call at its end, by the starts of their names.
OTHERS = "runtime.|internal/|_cgo_|gosave_|libc.|ld-linux|[vdso]|clock_|__|memeqbody|indexbytebody"
END = f"(;({'|'.join(map(re.escape, OTHERS.split('|')))})[^;]*)*"
LEAF = "(;main.middle(;main.leaf)?)?"
RUNTIME = r"(;runtime\.[^;]*)*"
C_CODE = r"[^;]*"  # Go's linker has a symbol `main(.text)` where C code begins
# Frames of right stacks, outermost first.
CHAINS = [
    f"main.inGo{LEAF}",
    f"main.inC(;main._Cfunc_outer{RUNTIME}(;_cgo_[^;]*)?(;outer(;{C_CODE})?)?)?",
    f"main.callsBack(;main._Cfunc_c_calls_back{RUNTIME}(;_cgo_[^;]*)?(;c_calls_back(;{C_CODE}"
    f"(;crosscall2{RUNTIME}(;_cgoexp_[^;]*)?(;main.goCallback)?{LEAF})?)?)?)?",
    f"main.panics(;main.recovers(;main.faults)?{RUNTIME}(;main.recovers.func1(;main.leaf)?)?)?",
    f"main.switches{RUNTIME}(;main.leaf)?",
    "main.startsGrowing(.func1)?(;main.grows)*(;main.leaf)?",
]
RIGHT = [re.compile(f"runtime.goexit;{chain}{END}$") for chain in CHAINS] + [
    re.compile(
        f"(clone3?|libc[^;]*);(start_thread|libc[^;]*);c_thread(;{C_CODE}(;crosscall2{RUNTIME}"
        f"(;_cgoexp_[^;]*)?(;main.goFromThread)?{LEAF})?)?{END}$"
    ),
    re.compile(f"runtime.(goexit|mcall|mstart|morestack|rt0_go|main)(;main.main)?{END}$"),
    re.compile(f"(_start|main|clone|libc|_rt0|runtime.rt0_go)[^;]*{END}$"),
]


def build(work, version, kind):
    """Builds a kind of program. Returns the command that runs it, or None if it cannot be built."""
    flags, linker, loader = KINDS[kind]
    path = f"{work}/{version}-{re.sub('[^a-zA-Z]+', '-', kind)}"
    environment = {**os.environ, "GOTOOLCHAIN": f"go{version}", "CGO_ENABLED": "1"}
    environment["CGO_CFLAGS"] = "-O2 -fomit-frame-pointer"

    def go(source, to, *more):
        command = ["go", "build", *more, "-o", to, source]
        return subprocess.run(command, env=environment, capture_output=True, cwd=work)

    made = go(SOURCE, path, *flags, f"-ldflags={linker}")
    if made.returncode != 0:
        print(f"{version} {kind}: {made.stderr.decode().strip()[:200]}", file=sys.stderr)
        return None
    if loader == "c":
        subprocess.run(["gcc", "-o", f"{work}/load", f"{work}/load.c"], check=True)
        return [f"{work}/load", path]
    if loader == "go":
        made = go(f"{work}/load.go", f"{path}-load")
        return [f"{path}-load", path] if made.returncode == 0 else None
    return [path]


def measure(command, seconds, output):
    """Records a program. Returns its samples, and the shares that are complete and right."""
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    arguments = ["record", "-q", "-F", "997", "-d", str(seconds), "--no-kernel", "-o", output]
    subprocess.run([EVERYTICK, *arguments, "-p", str(program.pid)], check=True)
    program.kill()
    program.wait()
    samples, complete, right, wrong = 0, 0, 0, []
    for line in open(output):
        stack, count = line.rstrip().rsplit(" ", 1)
        stack = re.sub(r"_\[[a-z]+\]", "", stack.split(";", 1)[1])
        stack = re.sub(r"plugin/unnamed-[0-9a-f]+\.", "main.", stack)
        samples += int(count)
        if "[cut" in stack:
            wrong.append((int(count), stack))
            continue
        complete += int(count)
        if any(chain.match(stack) for chain in RIGHT):
            right += int(count)
        else:
            wrong.append((int(count), stack))
    return samples, complete, right, sorted(wrong, reverse=True)


def cell(version, kind, command, seconds, work):
    """Measures a program. Returns the shares of complete and of right stacks as text."""
    if command is None:
        return "not built"
    samples, complete, right, wrong = measure(command, seconds, f"{work}/out.folded")
    share = f"{100 * complete / max(samples, 1):.1f}"
    if STRIP not in KINDS[kind][1]:
        share += f" / {100 * right / max(samples, 1):.1f}"
        for count, stack in wrong[:5]:
            print(f"    {count} {stack[:300]}", file=sys.stderr)
    print(f"{version} {kind}: {share} of {samples}", file=sys.stderr)
    return share


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=3)
    arguments.add_argument("--versions", default=VERSIONS)
    arguments.add_argument("--kinds", default=";".join(KINDS), help="separated by semicolons")
    arguments.add_argument("-o", dest="output")
    options = arguments.parse_args()
    versions, kinds = options.versions.split(","), options.kinds.split(";")
    table = ["| kind | " + " | ".join(versions) + " |", "|---" * (len(versions) + 1) + "|"]
    with tempfile.TemporaryDirectory() as work:
        open(f"{work}/load.c", "w").write(LOADER_C)
        open(f"{work}/load.go", "w").write(LOADER_GO)
        ways = [(version, kind) for kind in kinds for version in versions]
        commands = {way: build(work, *way) for way in ways}
        for kind in kinds:
            cells = []
            for version in versions:
                command = commands[version, kind]
                cells.append(cell(version, kind, command, options.seconds, work))
            table.append(f"| {kind} | " + " | ".join(cells) + " |")
    text = "\n".join(table) + "\n"
    print(text)
    if options.output:
        open(options.output, "w").write(text)


if __name__ == "__main__":
    main()
