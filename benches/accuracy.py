#!/usr/bin/env python3
"""Accuracy of stacks on real programs under load: the tables of docs/accuracy.md.

    ./dev accuracy [--seconds N] [--only NAME]... [--list] [-o FILE]

Each program runs four times under load, with its descendants. First `everytick record` counts how
its stacks end, without a cache of unwind tables and then with one. Then `everytick verify` compares
the same ticks with framehop and, where the two differ, with DWARF evaluated by gimli. Then
`everytick verify --derived-only` does so with the rows that are derived from machine code alone.
Needs root, and the programs: ./dev setup accuracy installs them.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from accuracy_programs import REPOSITORY, programs, write

EVERYTICK = os.environ.get("EVERYTICK", f"{REPOSITORY}/target/release/everytick")
HZ = 499
# Seconds in which the rows of large programs are derived, and then compared.
LARGE_SECONDS = 90

STACKS = [
    "| program | samples | complete % | guessed % | the rest, % | complete, cached % | compared "
    "| both complete | of them equal % | different | DWARF with us | DWARF with framehop |",
    "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|",
]
DERIVED = [
    "| program | compared | equal | shorter | longer | different | both complete "
    "| of them equal % | equal, or DWARF with us % |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
]


def watch(arguments, output, script, seconds):
    """Runs `everytick record` or `verify` on a script for some seconds, then kills the script."""
    options = ["-F", str(HZ), "-d", str(seconds), "-o", output]
    if os.path.exists(output):
        os.remove(output)
    with open(f"{output}.log", "w+") as log:
        process = subprocess.Popen(
            [EVERYTICK, *arguments, *options, "--", "sh", "-c", f"({script}) >/dev/null 2>&1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
        while not os.path.exists(output) and process.poll() is None:
            time.sleep(0.1)
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        if not os.path.exists(output):
            log.seek(0)
            sys.exit(f"accuracy.py: everytick {arguments[0]} failed:\n{log.read()}")
    time.sleep(0.5)


def record(work, cache, script, seconds):
    """Returns the number of user stacks of a recording, and their shares by end."""
    profile = f"{work}/out.pb.gz"
    watch(["record", "--cache-dir", cache], profile, script, seconds)
    comments = subprocess.run(
        ["go", "tool", "pprof", "-comments", profile], check=True, capture_output=True, text=True
    ).stdout
    line = re.search(r"user stacks +([0-9,]+) \((.*)\)", comments)
    ends = {}
    for part in line[2].split(", "):
        reason, share, _ = part.rsplit(" ", 2)
        ends[reason] = float(share)
    return int(line[1].replace(",", "")), ends


def verify(work, script, seconds, *arguments):
    """Returns the report of `everytick verify`."""
    report = f"{work}/verify.json"
    watch(["verify", *arguments], report, script, seconds)
    with open(report) as file:
        return json.load(file)


def stacks_row(name, first, cached, total):
    """Returns the row of a program in the table of stacks. `first`, `cached`: see `record`."""
    samples, ends = first
    rest = "; ".join(
        f"{reason.removeprefix('cut: ')} {share}"
        for reason, share in ends.items()
        if reason not in ("complete", "guessed")
    )
    both, equal = total["sure_complete"], total["sure_complete_equal"]
    return (
        f"| {name} | {samples:,} | {ends.get('complete', 0):.1f} | {ends.get('guessed', 0):.1f} "
        f"| {rest} | {cached[1].get('complete', 0):.1f} | {total['judged']:,} | {both:,} "
        f"| {percent(equal, both)} | {total['different']} | {total['dwarf_agrees_with_ours']} "
        f"| {total['dwarf_agrees_with_framehop']} |"
    )


def derived_row(name, report):
    """Returns the row of a program in the table of derived rows alone."""
    total = report["total"]
    both, equal = total["sure_complete"], total["sure_complete_equal"]
    with_us = sum(
        difference["ticks"]
        for difference in report["differences"]
        if difference["both_complete"] and difference["dwarf"] == "agrees with ours"
    )
    kinds = " | ".join(str(total[kind]) for kind in ("equal", "shorter", "longer", "different"))
    return (
        f"| {name} | {total['judged']:,} | {kinds} | {both:,} | {percent(equal, both)} "
        f"| {percent(min(equal + with_us, both), both)} |"
    )


def percent(part, all):
    return f"{100 * part / all:.3f}" if all else "-"


def measure(program, work, seconds):
    """Returns the two rows of a program, and the reports of `verify` by name."""
    cache = tempfile.mkdtemp(dir=work)
    first = record(work, cache, program.load, seconds)
    cached = record(work, cache, program.load, seconds)
    report = verify(work, program.load, seconds)
    longer = LARGE_SECONDS if program.is_large else seconds
    derived = verify(work, program.load, longer, "--derived-only")
    stacks = stacks_row(program.name, first, cached, report["total"])
    rows = (stacks, derived_row(program.name, derived))
    return rows, {program.name: report, f"{program.name}, derived rows alone": derived}


def tables(rows):
    """Returns the four tables: stacks, and derived rows alone, of each kind of program."""
    kinds = (("compiled ahead of time", False), ("compiled while they run", True))
    text = ""
    for title, header, column in (("stacks", STACKS, 0), ("derived rows alone", DERIVED, 1)):
        for kind, is_jit in kinds:
            of_kind = [both[column] for program, both in rows if program.is_jit == is_jit]
            text += f"\n{title}, programs {kind}\n\n" + "\n".join(header + of_kind) + "\n"
    return text


def summary(reports, derived):
    """Returns how many of all stacks that both unwinders completed are equal."""
    totals = [
        report["total"] for name, report in reports.items() if name.endswith("alone") == derived
    ]
    both = sum(total["sure_complete"] for total in totals)
    equal = sum(total["sure_complete_equal"] for total in totals)
    return f"{equal:,} of {both:,} equal, {percent(equal, both)} %"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--only", action="append", help="a program; may be repeated")
    parser.add_argument("--list", action="store_true", help="list the programs")
    parser.add_argument("-o", "--output", help="write tables and differences to this file too")
    arguments = parser.parse_args()
    rows, reports = [], {}
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        everything = programs(work)
        names = [program.name for program in everything]
        if arguments.list:
            return print("\n".join(names))
        for name in arguments.only or []:
            if name not in names:
                sys.exit(f"accuracy.py: unknown program '{name}': --list lists them")
        for program in everything:
            if arguments.only and program.name not in arguments.only:
                continue
            subprocess.run(["sh", "-c", program.prepare], check=True)
            both, found = measure(program, work, arguments.seconds)
            print("\n".join(both), flush=True)
            rows.append((program, both))
            reports |= found
    text = tables(rows)
    text += f"\nall: {summary(reports, False)}; derived rows alone: {summary(reports, True)}\n"
    for name, report in reports.items():
        text += "".join(f"\n- {name}: {json.dumps(each)}" for each in report["differences"])
    print(text)
    if arguments.output:
        write(arguments.output, text + "\n")


if __name__ == "__main__":
    for tool in ("go", "setpriv"):
        if not shutil.which(tool):
            sys.exit(f"accuracy.py: {tool} is missing: run ./dev setup accuracy")
    main()
