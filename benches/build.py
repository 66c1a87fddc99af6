#!/usr/bin/env python3
"""Overhead of profiling a build: wall time with and without, in pairs, until the result is precise.

    ./dev bench-build [--hz HZ] [--half-width PERCENT] [--pairs N] [--project rust|cpp]...

rust is `cargo build` of this workspace's own crates, their dependencies built before; cpp is
LevelDB, by `make -j2`. A pair is a build with `everytick record` of the whole machine beside it and
one without, in random order. Pairs are added, from 8 on, until the 95 % confidence interval of the
mean ratio is narrower than the half width on either side, or there are as many as allowed. Prints
for each project:

  wall        time with over time without, mean of the pairs' ratios less one, and its 95 %
              confidence interval
  CPU         the same for user and system time of the build itself: the effect of interrupts and
              cold caches
  agent       CPU of everytick with its workers, and of its BPF programs, in % of total CPU capacity
              while the build ran
  complete    user stacks of the profile that reach the root of the stack

Needs root, and an otherwise idle machine.
"""

import argparse
import math
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EVERYTICK = f"{REPOSITORY}/target/release/everytick"
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
CRATES = ["profile", "unwind", "symbolizer", "upload", "everytick"]
PAIRS_MIN = 8
# A crate that contains LevelDB's sources: the same bytes on every machine.
VENDOR = '[package]\nname = "vendor"\nversion = "0.0.0"\nedition = "2024"\n[lib]\npath = "lib.rs"\n[dependencies]\nleveldb-sys = "=2.0.9"\n'


class Rust:
    """This workspace, without its dependencies."""

    def __init__(self, work):
        self.build = ["cargo", "build", "--offline", "--target-dir", f"{work}/rust"]
        self.clean = ["cargo", "clean", "--offline", "--target-dir", f"{work}/rust"]
        self.clean += [argument for crate in CRATES for argument in ("-p", crate)]
        run(self.build)

    def prepare(self):
        run(self.clean)


class Cpp:
    """LevelDB, compiled by its own build files."""

    def __init__(self, work):
        os.mkdir(f"{work}/vendor")
        for name, text in [("Cargo.toml", VENDOR), ("lib.rs", "")]:
            with open(f"{work}/vendor/{name}", "w") as file:
                file.write(text)
        run(
            [
                "cargo",
                "vendor",
                "--quiet",
                "--manifest-path",
                f"{work}/vendor/Cargo.toml",
                f"{work}/sources",
            ]
        )
        deps = f"{work}/sources/leveldb-sys/deps"
        source = next(f"{deps}/{name}" for name in os.listdir(deps) if name.startswith("leveldb"))
        self.tree = f"{work}/cpp"
        options = [
            "-DLEVELDB_BUILD_TESTS=OFF",
            "-DLEVELDB_BUILD_BENCHMARKS=OFF",
            "-DCMAKE_BUILD_TYPE=Release",
        ]
        run(["cmake", "-S", source, "-B", self.tree, *options])
        self.build = ["make", "-C", self.tree, "-j2", "leveldb"]
        run(self.build)

    def prepare(self):
        run(["make", "-C", self.tree, "clean"])


PROJECTS = {"rust": Rust, "cpp": Cpp}


def run(command):
    subprocess.run(command, cwd=REPOSITORY, check=True, **QUIET)


def timed(command):
    """Runs a build. Returns its wall time and its CPU time, in seconds."""
    begin = time.monotonic()
    process = subprocess.Popen(command, cwd=REPOSITORY, **QUIET)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    assert status == 0, f"{command} failed"
    return time.monotonic() - begin, used.ru_utime + used.ru_stime


def profiled(command, hz, work):
    """Runs a build beside `everytick record`. Returns its times, and the summary of `record`."""
    record = [EVERYTICK, "record", "-v", "-F", str(hz), "-o", f"{work}/build.folded"]
    profiler = subprocess.Popen(record, stderr=subprocess.PIPE, text=True)
    profiler.stderr.readline()  # printed once it samples
    times = timed(command)
    profiler.send_signal(signal.SIGINT)
    summary = profiler.communicate()[1]
    assert profiler.returncode == 0, summary
    return times, summary


def pair(project, hz, work):
    """Builds once with and once without. Returns both ratios, the time without, and the summary."""
    results = {}
    for which in random.sample(["with", "without"], 2):
        project.prepare()
        results[which] = (
            profiled(project.build, hz, work) if which == "with" else timed(project.build)
        )
    times, summary = results["with"]
    wall, cpu = (on / off for on, off in zip(times, results["without"]))
    return wall, cpu, results["without"][0], summary


def interval(ratios):
    """Returns the mean of the ratios less one, and the half width of its 95 % interval by
    Student's t, in per cent."""
    logs, freedom = [math.log(ratio) for ratio in ratios], len(ratios) - 1
    z = statistics.NormalDist().inv_cdf(0.975)
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return 100 * math.expm1(statistics.mean(logs)), 100 * t * statistics.stdev(logs) / math.sqrt(
        len(logs)
    )


def figure(pattern, text):
    return float(re.search(pattern, text)[1].replace(",", ""))


def measure(name, chosen, work):
    project, pairs = PROJECTS[name](work), []
    while len(pairs) < PAIRS_MIN or (
        len(pairs) < chosen.pairs and interval([p[0] for p in pairs])[1] > chosen.half_width
    ):
        pairs.append(pair(project, chosen.hz, work))
        if chosen.verbose:
            print(
                f"  {name}: wall {pairs[-1][0]:.4f}, CPU {pairs[-1][1]:.4f}, {pairs[-1][2]:.1f} s",
                flush=True,
            )
    walls, cpus, alone, summaries = zip(*pairs)
    agent = statistics.median(
        figure(r"own CPU +[0-9,]+ ms, ([0-9.]+) %", text) for text in summaries
    )
    complete = statistics.median(
        figure(r"user stacks .*complete ([0-9.]+) %", text) for text in summaries
    )
    of_wall, of_cpu = (f"{mean:+.2f} ± {half:.2f}" for mean, half in map(interval, (walls, cpus)))
    print(
        f"| {name} | {len(pairs)} | {statistics.median(alone):.1f} | {of_wall} | {of_cpu} | {agent:.2f} | {complete:.1f} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hz", type=int, default=99)
    parser.add_argument("--half-width", type=float, default=0.75, help="per cent")
    parser.add_argument("--pairs", type=int, default=40, help="at most")
    parser.add_argument("--project", action="append", choices=PROJECTS)
    parser.add_argument("--verbose", action="store_true", help="each pair")
    chosen = parser.parse_args()
    work = tempfile.mkdtemp(prefix="everytick-build-")
    try:
        print(
            f"| project at {chosen.hz} Hz | pairs | s alone | wall % | CPU of the build % | agent % of capacity | complete % |"
        )
        print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
        for name in chosen.project or PROJECTS:
            measure(name, chosen, work)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
