#!/usr/bin/env python3
"""Overhead of a tick by the depth of the stack, for docs/cost.md.

    ./dev bench-depth [--rounds N] [--seconds S] [--hz HZ]...

A program of each depth runs on every CPU and is recorded alone. Prints the median over the rounds
of the sampler's own mean per tick (minus the few ticks that hit another process), once unwound by
call frame information and once by frame pointers, and the slope: nanoseconds per additional frame.
Needs root.
"""

import argparse
import os
import re
import statistics
import subprocess
import tempfile
import time

import chain

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EVERYTICK = f"{REPOSITORY}/target/release/everytick"
DEPTHS = [10, 40, 150, 900]


def tick(program, hz, seconds):
    """Returns mean, 99.9 % and maximum of a tick in microseconds, and the share of complete stacks."""
    running = [subprocess.Popen([program]) for _ in range(os.cpu_count())]
    time.sleep(0.3)
    try:
        command = [
            EVERYTICK,
            "record",
            "-v",
            "-F",
            str(hz),
            "-d",
            str(seconds),
            "--no-kernel",
            "--tick-limit",
            "10000",
            "-o",
            f"{program}.folded",
        ]
        for process in running:
            command += ["-p", str(process.pid)]
        summary = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    finally:
        for process in running:
            process.kill()
            process.wait()
    mean, most, worst = map(
        float,
        re.search(
            r"sampler +([0-9.]+) us per tick, 99.9 % up to ([0-9]+) us, at most ([0-9]+) us",
            summary,
        ).groups(),
    )
    complete = re.search(r"complete ([0-9.]+) %", summary)
    return mean, most, worst, float(complete[1]) if complete else 0.0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--hz", type=int, action="append")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        programs = {
            (way, depth): chain.compile(f"{work}/{way}{depth}", depth, way == "fp")
            for way in ("dwarf", "fp")
            for depth in DEPTHS
        }
        for hz in arguments.hz or [99, 997]:
            print(
                f"\n{hz} Hz, {arguments.rounds} rounds of {arguments.seconds} s, {os.cpu_count()} CPUs, medians"
            )
            print(
                "| frames | by call frames us | 99.9 % us | max us | by frame pointers us | 99.9 % us | max us |"
            )
            print("|---:|---:|---:|---:|---:|---:|---:|")
            means = {key: [] for key in programs}
            rest = {key: [] for key in programs}
            for _ in range(arguments.rounds):
                for key, program in programs.items():
                    mean, most, worst, _ = tick(program, hz, arguments.seconds)
                    means[key].append(mean)
                    rest[key].append((most, worst))
            middle = {key: statistics.median(values) for key, values in means.items()}
            for depth in DEPTHS:
                cells = []
                for way in ("dwarf", "fp"):
                    key = (way, depth)
                    most = statistics.median(most for most, _ in rest[key])
                    cells.append(
                        f"{middle[key]:.1f} | {most:.0f} | {max(worst for _, worst in rest[key]):.0f}"
                    )
                print(f"| {depth} | " + " | ".join(cells) + " |")
            for way, name in (("dwarf", "call frames"), ("fp", "frame pointers")):
                slope = (middle[way, 900] - middle[way, 40]) / (900 - 40) * 1000
                fixed = middle[way, 40] - slope * 40 / 1000
                print(f"by {name}: {slope:.0f} ns a frame above {fixed:.1f} us")


if __name__ == "__main__":
    main()
