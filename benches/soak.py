#!/usr/bin/env python3
"""Whether anything grows: a session of many windows under churn, measured from outside.

    ./dev bench-soak [--minutes M] [--hz HZ]

The churn: 40 processes a second that work for 20 ms, of a dozen programs of which one is recompiled
each second; a program that opens and closes 200 distinct libraries in turn; children in their
parent's memory and children that exec. Windows of 10 s are symbolized and dropped. Prints memory and
open files, as medians of the minute before minute 5 and of the last minute, and entries of BPF maps
whose process has exited, the minimum of that minute: processes are retained for a second after
their exit. Needs root.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import tempfile
import threading
import time

import storm

REPOSITORY = storm.REPOSITORY
CHURN = f"{REPOSITORY}/tests/programs/churn"
LIBRARIES = 200
WINDOW = 10
MAPS = ["processes", "generations"]


def compile_churn(work):
    """Compiles the programs of the churn. Returns the command lines to run in a loop."""
    bare = ["-O2", "-fomit-frame-pointer", "-fno-pie", "-no-pie"]

    def program(source, name, number):
        subprocess.run(
            ["gcc", *bare, f"-DNUMBER={number}", f"{CHURN}/{source}", "-o", f"{work}/{name}"],
            check=True,
        )
        return f"{work}/{name}"

    os.mkdir(f"{work}/libraries")
    for number in range(LIBRARIES):
        flags = [
            "-O2",
            "-fPIC",
            "-shared",
            "-fvisibility=hidden",
            "-Wl,--build-id",
            f"-DNUMBER={1000 + number}",
        ]
        subprocess.run(
            ["gcc", *flags, f"{CHURN}/library.c", "-o", f"{work}/libraries/{number}.so"], check=True
        )
    one, two = program("turns.c", "turns3", 3), program("turns.c", "turns4", 4)
    return [
        [program("libraries.c", "opens", 7), "3", f"{work}/libraries", str(LIBRARIES)],
        [program("children.c", "children", 5), "300", one, two],
    ]


def repeat(command, stop):
    while not stop.is_set():
        subprocess.run(command, check=True)
        stop.wait(2)


def memory_kib(pid):
    """Returns the resident memory of a process, and that of its workers together."""
    children = subprocess.run(
        ["pgrep", "-P", str(pid)], capture_output=True, text=True
    ).stdout.split()
    total = []
    for process in [str(pid), *children]:
        try:
            with open(f"/proc/{process}/status") as file:
                total.append(int(re.search(r"VmRSS:\s+(\d+) kB", file.read())[1]))
        except (OSError, TypeError):
            pass  # it has just exited
    return total[0], sum(total[1:])


def maps_of(pid):
    """Returns the IDs of the BPF maps that a process holds open, by their names."""
    ids = set()
    for entry in os.scandir(f"/proc/{pid}/fdinfo"):
        try:
            with open(entry.path) as file:
                ids.update(re.findall(r"^map_id:\s+(\d+)", file.read(), re.MULTILINE))
        except OSError:
            pass  # it has just been closed
    shown = subprocess.run(["bpftool", "-j", "map", "show"], capture_output=True, text=True).stdout
    return {one["name"]: one["id"] for one in json.loads(shown) if str(one["id"]) in ids}


def entries_of_exited(id):
    """Returns the number of entries in a map whose process has exited."""
    dump = subprocess.run(
        ["bpftool", "-j", "map", "dump", "id", str(id)], capture_output=True, text=True
    ).stdout
    elements = json.loads(dump or "[]")
    # An element that is deleted meanwhile has an error instead.
    pids = [element["formatted"]["key"] for element in elements if "formatted" in element]
    return sum(not os.path.exists(f"/proc/{pid}") for pid in pids)


def look(pid):
    agent, workers = memory_kib(pid)
    figures = {
        "agent RSS KiB": agent,
        "workers' RSS KiB": workers,
        "open files": len(os.listdir(f"/proc/{pid}/fd")),
    }
    maps = maps_of(pid)
    exited = {f"{name} of exited processes": entries_of_exited(maps[name]) for name in MAPS}
    return figures | exited


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--hz", type=int, default=99)
    arguments = parser.parse_args()
    early = min(5, arguments.minutes / 2)
    built = subprocess.run(
        ["cargo", "bench", "--no-run", "--bench", "soak"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    )
    driver = f"{REPOSITORY}/{re.search(r'Executable .*[(](.*)[)]', built.stderr)[1]}"
    with tempfile.TemporaryDirectory() as work:
        programs = [f"{work}/storm{number}" for number in range(storm.PROGRAMS)]
        for number, path in enumerate(programs):
            storm.worker(number, path)
        storm.compile_c(storm.LAUNCHER, f"{work}/launcher")
        seconds = int(arguments.minutes * 60)
        stop = threading.Event()
        churn = [
            threading.Thread(target=repeat, args=(command, stop)) for command in compile_churn(work)
        ]
        churn.append(threading.Thread(target=storm.recompile, args=(programs, stop)))
        launcher = [f"{work}/launcher", "40", str(seconds + 5), "20", *programs]
        churn.append(
            threading.Thread(
                target=subprocess.run, args=(launcher,), kwargs={"capture_output": True}
            )
        )
        for thread in churn:
            thread.start()
        with open(f"{work}/windows", "w") as windows:
            session = subprocess.Popen(
                [driver, str(seconds), str(WINDOW), str(arguments.hz)], stdout=windows
            )
            begin, seen = time.monotonic(), []
            while session.poll() is None:
                time.sleep(5)
                try:
                    seen.append((time.monotonic() - begin, look(session.pid)))
                except (OSError, IndexError):
                    break  # it has just exited
        stop.set()
        for thread in churn:
            thread.join()
        report(seen, early * 60, seconds, work)


def table(seen, early, late, names):
    """Prints the figures of the minute before the time `early` beside those before `late`."""

    def of_minute(what, until):
        values = [figures[what] for at, figures in seen if until - 60 <= at <= until]
        return min(values) if what.endswith("exited processes") else statistics.median(values)

    print(f"| | {names[0]} | {names[1]} | difference % |\n|---|---:|---:|---:|")
    for what in seen[0][1]:
        before, after = of_minute(what, early), of_minute(what, late)
        print(
            f"| {what} | {before:,.0f} | {after:,.0f} | {100 * (after - before) / max(before, 1):+.1f} |"
        )


def report(seen, early, seconds, work):
    table(seen, early, seconds, [f"minute {early / 60:g}", f"minute {seconds / 60:g}"])
    with open(f"{work}/windows") as file:
        lines = file.readlines()
    counts = [[int(number) for number in re.findall(r"\d+", line)] for line in lines]
    samples, lost, complete = (sum(line[at] for line in counts) for at in range(3))
    print(
        f"\n{len(lines)} windows, {samples:,} samples, {lost} lost, {100 * complete / max(samples, 1):.2f} % complete to the root of user code"
    )


if __name__ == "__main__":
    main()
