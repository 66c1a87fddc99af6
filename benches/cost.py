#!/usr/bin/env python3
"""Overhead of profilers on the same work, side by side.

    ./dev bench [--rounds N] [--seconds S] [--hz HZ] [--load chain|build|idle]...

Each round runs every profiler once on every load, in turn, so that a noisy machine is noisy for all
of them. Each profiler records the whole machine and symbolizes its samples: everytick into a
flamegraph and pprof, perf through `perf script`, bpftrace into its own text, lightswitch (where it
is installed) into pprof. Prints medians over the rounds:

  ns/sample  time of the BPF program in one tick, from the kernel's bpf_stats
  cpu ms     CPU time of the profiler's processes and its BPF program, start and symbolization
             included
  per 1000   the same for 1,000 samples of running code
  rss MiB    peak memory of its processes together
  maps MiB   memory of its BPF maps
  start ms   from exec to the first tick

Loads: chain is C programs without frame pointers, 30 and 150 functions deep in turn, one on each
CPU; build compiles C++ in a loop on each CPU; idle is nothing. Figures compare within one run only.
Needs root.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import chain

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
CPP = """#include <map>
#include <regex>
#include <string>
#include <vector>
std::map<std::string, std::vector<std::regex>> all;
int main() { all["a"].emplace_back("b+"); }
"""


def profilers(hz, seconds, out):
    """Returns the shell command of each profiler. All end by themselves."""
    one = f"{REPOSITORY}/target/release/everytick record -q -F {hz} -d {seconds} -o {out}/e.svg -o {out}/e.pb.gz"
    perf = f"perf record -q -e cpu-clock -F {hz} -a -g -o {out}/perf.data -- sleep {seconds} && perf script -i {out}/perf.data > {out}/perf.txt"
    trace = f"timeout -s INT {seconds} bpftrace -e 'profile:hz:{hz} {{ @[comm, kstack, ustack] = count(); }}' > {out}/trace.txt; true"
    found = {"everytick": one, "perf record+script": perf, "bpftrace": trace}
    if shutil.which("lightswitch"):
        found["lightswitch"] = (
            f"lightswitch -D {seconds} --sample-freq {prime(hz)} --profile-format pprof --profile-path {out} --profile-name l.pb"
        )
    return found


def prime(hz):
    """Returns a frequency that lightswitch accepts: primes only."""
    return {99: 101}.get(hz, hz)


def prepare_lightswitch():
    """Mounts debugfs, where lightswitch looks for tracepoints."""
    if not os.path.exists("/sys/kernel/debug/tracing"):
        subprocess.run(["mount", "-t", "debugfs", "debugfs", "/sys/kernel/debug"])


def start_load(kind, work):
    cpus = os.cpu_count()
    if kind == "chain":
        depths = [30, 150] * cpus
        commands = [
            [chain.compile(f"{work}/chain{depth}", depth, frame_pointers=False)]
            for depth in depths[:cpus]
        ]
    elif kind == "build":
        with open(f"{work}/all.cc", "w") as file:
            file.write(CPP)
        loop = f"while :; do g++ -std=c++17 -O1 -c {work}/all.cc -o {work}/$$.o; done"
        commands = [["sh", "-c", loop]] * cpus
    else:
        commands = []
    return [subprocess.Popen(c, start_new_session=True, **QUIET) for c in commands]


def stop_load(running):
    for process in running:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def bpftool(kind):
    shown = subprocess.run(["bpftool", "-j", kind, "show"], capture_output=True, text=True)
    return json.loads(shown.stdout or "[]")


@contextlib.contextmanager
def bpf_stats():
    """Has the kernel measure the time of BPF programs meanwhile."""
    path = "/proc/sys/kernel/bpf_stats_enabled"
    with open(path, "r+") as file:
        before = file.read()
        file.seek(0)
        file.write("1")
    try:
        yield
    finally:
        with open(path, "w") as file:
            file.write(before)


def process_tree(pid):
    """Returns a process and its descendants."""
    todo, found = [pid], []
    while todo:
        one = todo.pop()
        found.append(one)
        try:
            for thread in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{thread}/children") as file:
                    todo += [int(child) for child in file.read().split()]
        except OSError:
            pass
    return found


def peak_rss_kib(pid):
    total = 0
    for one in process_tree(pid):
        try:
            with open(f"/proc/{one}/status") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith("VmHWM:"))
        except OSError:
            pass
    return total


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def measure(command):
    """Runs a profiler to its end. Returns its figures."""
    old_programs = {p["id"] for p in bpftool("prog")}
    old_maps = {m["id"] for m in bpftool("map")}
    begin = time.monotonic()
    process = subprocess.Popen(["sh", "-c", command], start_new_session=True, **QUIET)
    start, rss, maps, run_ns, runs = None, 0, 0, 0, 0
    while is_running(process.pid):
        ours = [
            p for p in bpftool("prog") if p["id"] not in old_programs and p["type"] == "perf_event"
        ]
        ticks = sum(p.get("run_cnt", 0) for p in ours)
        if ticks:
            start = start or time.monotonic() - begin
            run_ns, runs = sum(p.get("run_time_ns", 0) for p in ours), ticks
        if ours:
            maps = max(
                maps,
                sum(m.get("bytes_memlock", 0) for m in bpftool("map") if m["id"] not in old_maps),
            )
        rss = max(rss, peak_rss_kib(process.pid))
        time.sleep(0.02 if start is None and time.monotonic() - begin < 3 else 0.2)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = status
    return {
        "ns": run_ns / runs if runs else None,
        "cpu": (used.ru_utime + used.ru_stime) * 1e3 + run_ns / 1e6,
        "rss": max(rss, used.ru_maxrss) / 1024,
        "maps": maps / 2**20,
        "start": start * 1e3 if start else None,
        "status": status,
    }


def main():
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=10)
    arguments.add_argument("--hz", type=int, default=99)
    arguments.add_argument("--load", action="append", choices=["chain", "build", "idle"])
    chosen = arguments.parse_args()
    if shutil.which("lightswitch"):
        prepare_lightswitch()
    with bpf_stats(), tempfile.TemporaryDirectory(prefix="everytick-bench-") as work:
        for load in chosen.load or ["chain", "build", "idle"]:
            bench(load, chosen, work)
        size = os.path.getsize(f"{REPOSITORY}/target/release/everytick") / 2**20
        print(f"\neverytick binary: {size:.1f} MiB")


def bench(load, chosen, work):
    rows = {}
    for _ in range(chosen.rounds):
        for name, command in profilers(chosen.hz, chosen.seconds, work).items():
            running = start_load(load, work)
            time.sleep(1)
            try:
                rows.setdefault(name, []).append(measure(command))
            finally:
                stop_load(running)
    print(
        f"\nload {load}, {chosen.hz} Hz, {chosen.rounds} rounds of {chosen.seconds} s, {os.cpu_count()} CPUs, medians"
    )
    print(
        f"{'profiler':20}{'ns/sample':>10}{'cpu ms':>9}{'per 1000':>10}{'rss MiB':>9}{'maps MiB':>10}{'start ms':>10}"
    )
    samples = chosen.hz * chosen.seconds * os.cpu_count() / 1000
    for name, results in rows.items():

        def middle(key):
            values = [r[key] for r in results if r[key] is not None]
            return statistics.median(values) if values else None

        def cell(value, width, digits):
            return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"

        cpu = middle("cpu")
        print(
            f"{name:20}{cell(middle('ns'), 10, 0)}{cell(cpu, 9, 0)}{cell(cpu / samples, 10, 1)}"
            f"{cell(middle('rss'), 9, 1)}{cell(middle('maps'), 10, 1)}{cell(middle('start'), 10, 0)}"
        )
        if any(r["status"] for r in results):
            print(f"{'':20}^ did not end well: {[r['status'] for r in results]}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
