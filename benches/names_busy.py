#!/usr/bin/env python3
"""How many frames of a busy machine have a name, of those that have one anywhere.

    ./dev names-busy [--seconds N] [--hz HZ] [-o FILE]

Compilers, tools, servers, and code of JIT compilers with and without a perf map run at once. Each
frame of the recording that has no name is looked up elsewhere: by llvm-symbolizer in the file and
its debug file, in the same program before it was stripped, and in the perf map of its process. One
that is found there should have been named. Prints a row for each program. Needs root, and the
programs: ./dev setup names installs them.
"""

import argparse
import bisect
import collections
import json
import os
import re
import subprocess
import tempfile

from accuracy_programs import JAVA, LOADS, REPOSITORY, Program, loop, programs, twice, write
from raw_profile import RawProfile

EVERYTICK = f"{REPOSITORY}/target/release/everytick"
LLVM = ["llvm-symbolizer-19", "--no-demangle", "--output-style=JSON"]
USUAL = ["python3", "gcc", "git gc", "postgres", "node"]
SPIN = "static volatile long sum;\n" + "\n".join(
    f"__attribute__((noinline)) static void work{i}(void)\n{{\n\tfor (long n = 0; n < 99999; n++)\n"
    f"\t\tsum += n * {i};\n}}"
    for i in range(1, 40)
)
MAIN = "\nint main(void)\n{\n\tfor (;;) {\n%s\t}\n}\n" % "".join(
    f"\t\twork{i}();\n" for i in range(1, 40)
)


class Machine:
    """The programs, and for each file what it was before it was stripped."""

    def __init__(self, work):
        self.work, self.before = work, {}
        usual = [program for program in programs(work) if program.name in USUAL]
        self.programs = usual + self.jit() + self.stripped()

    def jit(self):
        """Returns compilers that write perf maps."""
        step = "m.set(Math.random(),JSON.stringify({a:1})),m.size>9999&&m.clear()"
        load = f"let m=new Map();for(;;){step}"
        java = f"{JAVA}/java -cp {self.work}/java Load"
        dump = f"while sleep 1; do {JAVA}/jcmd Load Compiler.perfmap; done"
        return [
            Program("node --perf-basic-prof", f"node --perf-basic-prof -e '{load}'"),
            Program(
                "Java with a perf map",
                f"({java}) & ({dump}) & wait",
                f"{JAVA}/javac -d {self.work}/java {LOADS}/Load.java",
            ),
        ]

    def stripped(self):
        """Returns programs whose names are in another file, or in Go's table."""
        work = self.work
        write(f"{work}/spin.c", SPIN + MAIN)
        root, go = f"{work}/root", f"cd {work}/go; cp {LOADS}/server.go main.go"
        static = f"gcc -g -O1 -static -Wl,--build-id {work}/spin.c -o {work}/spin"
        install = (
            f"mkdir -p {root}/bin; cp {work}/spin {root}/bin/app; strip {root}/bin/app; "
            f"id=$(readelf -n {work}/spin | sed -n 's/.*Build ID: //p'); "
            f"directory={root}/usr/lib/debug/.build-id/$(echo $id | cut -c1-2); "
            f"mkdir -p $directory; objcopy --only-keep-debug {work}/spin "
            f"$directory/$(echo $id | cut -c3-).debug"
        )
        rust = f"rustc --edition 2021 -O -g {LOADS}/abort.rs -o {work}/rust"
        self.before |= {"/bin/app": f"{work}/spin", f"{work}/go/stripped": f"{work}/go/server"}
        return [
            Program("in a container", f"chroot {root} /bin/app", f"{static}; {install}"),
            Program("Rust", f"{work}/rust", rust),
            Program(
                "Go", f"{work}/go/server",
                f"mkdir {work}/go; {go}; echo module server > go.mod; go build -o server .",
            ),
            Program(
                "Go, stripped",
                f"{work}/go/stripped",
                f"cd {work}/go; go build -ldflags='-s -w' -o stripped .",
            ),
        ]

    def record(self, seconds, hz):
        """Records all programs at once. Returns the profile, and the perf maps by pid."""
        for program in self.programs:
            subprocess.run(["sh", "-c", program.prepare], check=True)
        lines = [f"({program.load}) >/dev/null 2>&1 &" for program in self.programs]
        write(f"{self.work}/busy.sh", "\n".join([*lines, "wait"]))
        profile = f"{self.work}/out.pb.gz"
        options = ["-q", "-a", "-F", str(hz), "-d", str(seconds), "-o", profile]
        load = subprocess.Popen(["setsid", "sh", f"{self.work}/busy.sh"])
        subprocess.run(["sleep", "3"], check=True)
        subprocess.run([EVERYTICK, "record", *options], check=True)
        maps = {pid: PerfMap(f"/tmp/perf-{pid}.map") for pid in pids_with_maps()}
        subprocess.run(["pkill", "-KILL", "-s", str(load.pid)])
        load.wait()
        return RawProfile(profile), maps


def pids_with_maps():
    names = (re.fullmatch(r"perf-(\d+)\.map", name) for name in os.listdir("/tmp"))
    return [name[1] for name in names if name]


class PerfMap:
    """The ranges of a perf map."""

    def __init__(self, path):
        with open(path, errors="replace") as file:
            lines = (re.match(r"(\w+) (\w+) ", line) for line in file)
            ranges = sorted((int(line[1], 16), int(line[2], 16)) for line in lines if line)
        self.starts = [start for start, _ in ranges]
        self.ranges = ranges

    def has(self, address):
        near = bisect.bisect_right(self.starts, address)
        return any(s <= address < s + size for s, size in self.ranges[max(0, near - 8) : near])


def named_elsewhere(path, addresses):
    """Returns the addresses for which llvm-symbolizer has a name in a file."""
    if not os.path.isfile(path):
        return {}
    lines = "".join(f"{address:#x}\n" for address in addresses)
    done = subprocess.run([*LLVM, f"--obj={path}"], input=lines, capture_output=True, text=True)
    found = {}
    for address, line in zip(addresses, done.stdout.splitlines()):
        for symbol in json.loads(line).get("Symbol", []):
            if symbol["FunctionName"]:
                found[address] = symbol["FunctionName"]
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--hz", type=int, default=199)
    parser.add_argument("-o", "--output", help="write the table to this file too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        machine = Machine(work)
        profile, maps = machine.record(arguments.seconds, arguments.hz)
        text = table(count(machine, profile, maps))
    print(text)
    if arguments.output:
        write(arguments.output, text + "\n")


def count(machine, profile, maps):
    """Returns for each file the frames with a name, those with one elsewhere, and those without."""
    named, unnamed = collections.Counter(), collections.Counter()
    for sample in profile.samples:
        for number in sample.locations:
            location = profile.locations[number]
            path = profile.mappings.get(location.mapping, "?")
            if location.is_named:
                named[path] += sample.count
            else:
                unnamed[path, location.address, sample.labels.get("pid")] += sample.count
    by_path = collections.defaultdict(set)
    for path, address, _ in unnamed:
        by_path[path].add(address)
    found = {
        path: named_elsewhere(machine.before.get(path, path), sorted(addresses))
        for path, addresses in by_path.items()
    }
    rows = {path: [frames, 0, 0, ""] for path, frames in named.items()}
    for (path, address, pid), frames in unnamed.items():
        row = rows.setdefault(path, [0, 0, 0, ""])
        name = found[path].get(address)
        is_mapped = pid in maps and maps[pid].has(address)
        row[1 if name or is_mapped else 2] += frames
        row[3] = row[3] or name or ""
    return rows


def table(rows):
    """Returns the table in Markdown, the files with most frames first."""
    lines = [
        "| file | named | named elsewhere | no name anywhere | for example |",
        "|---|---:|---:|---:|---|",
    ]
    totals = [sum(column) for column in list(zip(*rows.values()))[:3]]
    ordered = sorted(rows.items(), key=lambda row: -sum(row[1][:3]))
    for path, (named, elsewhere, nowhere, example) in ordered:
        if elsewhere or named + nowhere > totals[0] / 1000:
            numbers = " | ".join(f"{number:,}" for number in (named, elsewhere, nowhere))
            lines.append(f"| {os.path.basename(path)} | {numbers} | {example} |")
    lines.append("| **all** | " + " | ".join(f"**{total:,}**" for total in totals) + " | |")
    nameable = totals[0] + totals[1]
    share = 100 * totals[0] / max(1, nameable)
    return "\n".join(lines) + f"\n\nOf {nameable:,} frames with a name, {share:.3f} % are named."


if __name__ == "__main__":
    main()
