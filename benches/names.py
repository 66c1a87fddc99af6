#!/usr/bin/env python3
"""Names, inlined functions and lines of real binaries against llvm-symbolizer: docs/names.md.

    ./dev names [--count N] [--only TEXT] [--show N] [-o FILE]

Takes random addresses of the code of each binary, asks this project's symbolizer and
llvm-symbolizer 19 for them, and counts by which rule the name of the function is the same, or what
kind of difference it is. Where both have lines, the inlined functions, files and lines are
compared, too. `--show` prints so many of the differences that no rule explains.
"""

import argparse
import bisect
import collections
import functools
import json
import os
import random
import re
import subprocess
import sys
import tempfile

import names_binaries

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SYMBOLIZE = f"{REPOSITORY}/target/release/examples/symbolize"
LLVM = ["llvm-symbolizer-19", "--no-demangle", "--output-style=JSON"]

# Kinds of names that count as the same, or as a difference that is accepted, with their reason.
EQUAL = "equal"
ACCEPTED = {
    "alias": "another symbol at the same address",
    "stub": "a linkage stub, for which llvm-symbolizer has no name or that of another function",
    "beyond": "llvm-symbolizer has the symbol before, which ends before the address",
    "table": "llvm-symbolizer has the shorter name of debug info; we have the symbol",
    "symbol": "llvm-symbolizer has nothing; we have the symbol that contains the address",
}
OTHER = "other"


class Symbols:
    """The symbols of a file and its debug file: ranges and names."""

    def __init__(self, paths):
        self.by_start = collections.defaultdict(dict)
        for path in filter(None, paths):
            for flags in ([], ["-D"]):
                command = ["nm", "-S", "--defined-only", "--no-demangle", *flags, path]
                listed = subprocess.run(command, capture_output=True, text=True, errors="replace")
                self.add(listed.stdout)
        self.starts = sorted(self.by_start)

    def add(self, text):
        for line in text.splitlines():
            fields = line.split()
            if len(fields) == 4 and fields[2] in "tTwWiuVvdDrRbB":
                start, size, _, name = fields
                self.by_start[int(start, 16)][plain(name)] = int(size, 16)
            elif len(fields) == 3 and fields[1] in "tTwWiu":
                self.by_start[int(fields[0], 16)].setdefault(plain(fields[2]), 0)

    def containing(self, address):
        """Returns the names of symbols whose size reaches to an address."""
        found = set()
        at = bisect.bisect_right(self.starts, address)
        # Symbols may lie within others; a few before are enough.
        for start in self.starts[max(0, at - 64) : at]:
            for name, size in self.by_start[start].items():
                if start <= address < start + size:
                    found.add(name)
        return found

    def aliases(self, name):
        return {
            other for names in self.by_start.values() if name in names for other in names
        }


def plain(name):
    """Returns the name of a symbol without its version."""
    return re.sub(r"@.*", "", name) if not name.endswith("@plt") else name


def code_sections(path):
    """Returns the ranges of the sections with code."""
    listed = subprocess.run(["readelf", "-SW", path], capture_output=True, text=True, check=True)
    ranges = []
    for line in listed.stdout.splitlines():
        found = re.match(
            r"\s*\[\s*\d+\]\s+\S+\s+\S+\s+([0-9a-f]{16})\s+[0-9a-f]+\s+([0-9a-f]+)"
            r"\s+\S+\s+\S*X\S*\s",
            line,
        )
        if found and int(found[2], 16):
            ranges.append((int(found[1], 16), int(found[2], 16)))
    return ranges


def sample(path, count):
    """Returns random addresses of code, ascending; the same in each run."""
    generator = random.Random(7)
    ranges = code_sections(path)
    weights = [size for _, size in ranges]
    chosen = generator.choices(ranges, weights, k=count)
    return sorted(start + generator.randrange(size) for start, size in chosen)


def by_llvm(path, addresses):
    """Returns for each address the functions: name for the linker, file, line."""
    lines = "".join(f"{address:#x}\n" for address in addresses)
    done = subprocess.run(
        [*LLVM, f"--obj={path}"], input=lines, capture_output=True, text=True, check=True
    )
    found = []
    for line in done.stdout.splitlines():
        symbols = json.loads(line).get("Symbol", [])
        found.append([(s["FunctionName"], s["FileName"], s["Line"]) for s in symbols])
    return found


def by_us(binary, addresses):
    """Returns for each address the functions: name for the linker, file, line."""
    lines = "".join(f"{address:x}\n" for address in addresses)
    files = [f"{role}={path}" for role, path in binary.others().items()]
    done = subprocess.run(
        [SYMBOLIZE, binary.path, *files], input=lines, capture_output=True, text=True, check=True
    )
    found = []
    for line in done.stdout.split("\n")[: len(addresses)]:
        functions = [function.split("\x1f") for function in line.split("\t") if function]
        found.append([(name, file, int(number)) for name, _, file, number in functions])
    return found


def classify(symbols, address, ours, llvms):
    """Returns the kind of a pair of names of the function at an address."""
    our, its = plain(ours[-1][0]) if ours else "", plain(llvms[-1][0]) if llvms else ""
    if our == its or its == f"{our}.abi0" or our and its and demangled(our) == demangled(its):
        return EQUAL
    containing = symbols.containing(address)
    if our.endswith("@plt") or our == ".plt":
        return "stub"
    if our and its and our in symbols.aliases(its):
        return "alias"
    if our in containing and its in containing:
        return OTHER
    if its and (not our or our in containing):
        is_symbol = any(its in names for names in symbols.by_start.values())
        if is_symbol and its not in containing:
            return "beyond"
    if our in containing and its and is_poorer(its, our):
        return "table"
    return "symbol" if our in containing and not its else OTHER


@functools.cache
def demangled(name):
    """Returns the name for people; the variants of a constructor (C1, C2) have the same."""
    return subprocess.run(["c++filt", name], capture_output=True, text=True).stdout


def is_poorer(its, our):
    """Returns whether a name of debug info is a part of the name in the symbol table."""
    short = demangled(its).strip()
    return short.split("<")[0] in demangled(our) or our.startswith(its)


def compare(binary, count, show):
    """Returns counts of kinds of names, and of chains: equal, and compared."""
    addresses = sample(binary.path, count)
    reference = binary.reference or binary.path
    symbols = Symbols([reference, *binary.others().values()])
    kinds, chains, shown = collections.Counter(), collections.Counter(), 0
    pairs = zip(addresses, by_us(binary, addresses), by_llvm(reference, addresses), strict=True)
    for address, ours, llvms in pairs:
        llvms = [function for function in llvms if function[0] or function[2]]
        kind = classify(symbols, address, ours, llvms)
        kinds[kind] += 1
        is_compared = any(line for _, _, line in llvms) and any(line for _, _, line in ours)
        is_equal = is_compared and same_chain(ours, llvms)
        chains.update(compared=is_compared, equal=is_equal, named=bool(ours))
        if (kind == OTHER or is_compared and not is_equal) and shown < show:
            shown += 1
            text = f"{binary.name} {address:#x} {kind}\n  ours {ours}\n  llvm {llvms}"
            print(text, file=sys.stderr)
    return kinds, chains


def same_chain(ours, llvms):
    """Returns whether inlined functions, files and lines are equal. Names of the function itself
    are compared elsewhere; those of inlined ones by what follows their scope."""
    last = lambda name: re.sub(r"\W.*", "", re.split(r"::", name)[-1]) if name else ""
    place = lambda functions: [(os.path.normpath(file or "?"), line) for _, file, line in functions]
    inlined = lambda functions: [last(name) for name, _, _ in functions[:-1]]
    fix = lambda places: [("" if file in ("??", "?", ".") else file, line) for file, line in places]
    return fix(place(ours)) == fix(place(llvms)) and inlined(ours) == inlined(llvms)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--only", default="")
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("-o", "--output")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for binary in names_binaries.binaries(work):
            if arguments.only not in binary.name:
                continue
            kinds, chains = compare(binary, arguments.count, arguments.show)
            rows.append((binary.name, kinds, chains))
            print(binary.name, dict(kinds), dict(chains), file=sys.stderr, flush=True)
    text = table(rows)
    print(text)
    if arguments.output:
        with open(arguments.output, "w") as file:
            file.write(text + "\n")


def share(part, all):
    return f"{100 * part / all:.2f}" if all else ""


def table(rows):
    """Returns the table in Markdown."""
    kinds = [EQUAL, *ACCEPTED, OTHER]
    lines = [
        "| binary | named | " + " | ".join(kinds) + " | with lines | same, % |",
        "|---" * (len(kinds) + 4) + "|",
    ]
    for name, counts, chains in rows:
        numbers = " | ".join(str(counts[kind] or "") for kind in kinds)
        lines.append(
            f"| {name} | {chains['named']} | {numbers} | {chains['compared'] or ''} | "
            f"{share(chains['equal'], chains['compared'])} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
