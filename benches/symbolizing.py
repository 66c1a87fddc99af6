#!/usr/bin/env python3
"""Time and memory of names, beside perf script and llvm-symbolizer: a table of docs/cost.md.

    ./dev bench-names [--rounds N] [--seconds S] [--hz HZ] [--part busy|large]...

busy    compilers, interpreters and tools run at once for some seconds, and end. `everytick record`
        of the whole machine takes what it saw then, and looks up names: all of them (full), without
        debug info (names), or none. `perf record -g` of the same is read by `perf script` without
        inlined functions, and llvm-symbolizer 19 is asked for the addresses that everytick found.
        Seconds are those from the end of the load to the end of the profiler.
large   a program with a gigabyte of plain DWARF, asked for 2,000 addresses.

Prints medians over the rounds. Needs root, and the programs: ./dev setup names installs them.
"""

import argparse
import os
import random
import re
import shlex
import statistics
import subprocess
import tempfile
import time

from accuracy_programs import REPOSITORY, programs
from raw_profile import RawProfile

EVERYTICK = f"{REPOSITORY}/target/release/everytick"
SYMBOLIZE = f"{REPOSITORY}/target/release/examples/symbolize"
LLVM = ["llvm-symbolizer-19", "--output-style=JSON"]
BUSY = ["python3", "perl", "node", "gcc", "clang", "rustc", "go build", "gdb", "git gc", "sqlite3"]
ADDRESSES = 2000
COPIES = 52
# Functions of templates that are not shared between the files of a program.
LARGE = """#include <map>
#include <regex>
#include <string>
#include <vector>
static __attribute__((used)) std::map<std::string, std::vector<std::regex>> all;
static __attribute__((used)) bool entry(const std::string &text)
{
	all[text].emplace_back(text);
	std::wregex wide(L"a+");
	return std::regex_search(text, all[text][0]) && std::regex_match(L"aa", wide);
}
"""


def timed(command, **how):
    """Runs a command. Returns seconds, and the peak memory of its largest process in MiB."""
    begin = time.monotonic()
    process = subprocess.Popen(command, **how)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    assert status == 0, f"{command} failed with status {status}"
    return time.monotonic() - begin, used.ru_maxrss / 1024


class Busy:
    """A machine on which many programs run at once for some seconds."""

    def __init__(self, work, seconds, hz):
        self.work, self.hz = work, hz
        loads = [program for program in programs(work) if program.name in BUSY]
        for program in loads:
            subprocess.run(["sh", "-c", program.prepare], check=True)
        lines = [f"({program.load}) >/dev/null 2>&1 &" for program in loads]
        script = "\n".join([*lines, f"sleep {seconds}", f"date +%s.%N >{work}/end"])
        with open(f"{work}/busy.sh", "w") as file:
            file.write(script)
        # The loads are a session of their own, and end before the command does.
        end = "wait $!; pkill -KILL -s $!; true"
        self.command = ["sh", "-c", f"setsid -w sh {work}/busy.sh & {end}"]

    def since_end(self):
        """Returns the seconds since the load ended."""
        with open(f"{self.work}/end") as file:
            return time.time() - float(file.read())

    def everytick(self, mode):
        """Records, and returns seconds and memory after the load ended."""
        output = f"{self.work}/{mode}.pb.gz"
        options = ["-q", "-a", "-F", str(self.hz), "--symbolize", mode, "-o", output]
        _, memory = timed([EVERYTICK, "record", *options, "--", *self.command])
        return self.since_end(), memory

    def perf_record(self):
        """Records with perf, for `perf_script`."""
        options = ["-q", "-a", "-g", "-e", "cpu-clock", "-F", str(self.hz)]
        subprocess.run(
            ["perf", "record", *options, "-o", f"{self.work}/perf.data", "--", *self.command],
            check=True,
        )

    def perf_script(self, *options):
        """Returns what `perf script` takes for the recording."""
        with open(f"{self.work}/perf.txt", "w") as out:
            command = ["perf", "script", "-f", *options, "-i", f"{self.work}/perf.data"]
            return timed(command, stdout=out, stderr=subprocess.DEVNULL)

    def llvm_symbolizer(self):
        """Returns what llvm-symbolizer takes for the addresses of the last recording."""
        lines = locations(f"{self.work}/none.pb.gz")
        with open(f"{self.work}/addresses", "w") as file:
            file.writelines(f"CODE {shlex.quote(path)} {address:#x}\n" for path, address in lines)
        with open(f"{self.work}/addresses") as file, open(os.devnull, "w") as out:
            return len(lines), *timed(LLVM, stdin=file, stdout=out)


def locations(profile):
    """Returns the distinct addresses of a profile in files: path and address of the file."""
    profile, found = RawProfile(profile), set()
    for location in profile.locations.values():
        path = profile.mappings.get(location.mapping, "")
        if os.path.isfile(path):
            found.add((path, location.address))
    return sorted(found)


def busy(work, arguments):
    """Prints the table of a busy machine."""
    machine = Busy(work, arguments.seconds, arguments.hz)
    machine.everytick("full")  # reads all files once
    rows = {}
    for _ in range(arguments.rounds):
        for mode in ("full", "names", "none"):
            rows.setdefault(f"everytick, {mode}", []).append(machine.everytick(mode))
        machine.perf_record()
        # With inlined functions it starts addr2line for each file, and takes many minutes.
        used = machine.perf_script("--no-inline")
        rows.setdefault("perf script --no-inline", []).append(used)
        count, *used = machine.llvm_symbolizer()
        rows.setdefault(f"llvm-symbolizer, {count:,} addresses", []).append(used)
    print_rows(f"{len(BUSY)} programs at once", rows)


def large(work, arguments):
    """Prints the table of a program with much debug info."""
    path = make_large(work)
    sections = subprocess.run(["readelf", "-SW", path], capture_output=True, text=True).stdout
    sizes = re.findall(r" \.debug_\w+ +PROGBITS +\w+ \w+ (\w+)", sections)
    mib = sum(int(size, 16) for size in sizes) / 2**20
    text = re.search(r" \.text +PROGBITS +(\w+) \w+ (\w+)", sections)
    start, size = int(text[1], 16), int(text[2], 16)
    generator = random.Random(7)
    addresses = [start + generator.randrange(size) for _ in range(ADDRESSES)]
    rows = {}
    for _ in range(arguments.rounds):
        for name, prefix in (("everytick", ""), ("llvm-symbolizer", "0x")):
            with open(f"{work}/addresses", "w") as file:
                file.writelines(f"{prefix}{address:x}\n" for address in addresses)
            command = [SYMBOLIZE, path] if not prefix else [*LLVM, f"--obj={path}"]
            with open(f"{work}/addresses") as file:
                used = timed(command, stdin=file, stdout=subprocess.DEVNULL)
            rows.setdefault(name, []).append(used)
    print_rows(f"{mib:,.0f} MiB of DWARF, {ADDRESSES:,} addresses", rows)


def make_large(work):
    """Links copies of one object, each with code and debug info of its own."""
    path = f"{work}/large"
    with open(f"{path}.cc", "w") as file:
        file.write(LARGE)
    equality = ["-D__GXX_MERGED_TYPEINFO_NAMES=0", "-D__GXX_TYPEINFO_EQUALITY_INLINE=1"]
    options = ["-g3", "-O1", "-fno-weak", *equality, "-c"]
    subprocess.run(["g++", *options, f"{path}.cc", "-o", f"{path}.o"], check=True)
    copies = [f"{path}{number}.o" for number in range(COPIES)]
    for copy in copies:
        os.link(f"{path}.o", copy)
    with open(f"{work}/main.cc", "w") as file:
        file.write("int main() {}\n")
    subprocess.run(["g++", f"{work}/main.cc", *copies, "-o", path], check=True)
    return path


def print_rows(title, rows):
    print(f"\n| {title} | s | peak MiB |\n|---|---:|---:|")
    for name, used in rows.items():
        seconds, mib = (statistics.median(column) for column in zip(*used))
        print(f"| {name} | {seconds:.2f} | {mib:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--hz", type=int, default=99)
    parser.add_argument("--part", action="append", choices=["busy", "large"])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        for part in arguments.part or ["busy", "large"]:
            {"busy": busy, "large": large}[part](work, arguments)


if __name__ == "__main__":
    main()
