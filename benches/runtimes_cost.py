#!/usr/bin/env python3
"""Cost of frames of Python, beside frames by call frame information and other profilers.

    ./dev bench-runtimes [--rounds N] [--seconds S] [--hz HZ] [--python PATH]

A program runs on every CPU and the whole machine is recorded. The programs are Python with 10, 50
and 200 functions on the stack, and C with as many functions and no frame pointers. Prints medians
over the rounds:

  us per tick    time of the BPF program in one tick, from the kernel's bpf_stats, without the first
                 seconds, in which tables and names are published
  ns a frame     the difference between 200 and 10 functions, by function

Everytick and, where $OTEL_PROFILER is its path and a server of gRPC listens on port 4317, the
profiler of OpenTelemetry run in turn, at the same frequency. py-spy reads from outside: its cost is
the CPU time that it takes between two moments, by sample. Figures compare within one run only. Needs
root.
"""

import argparse
import os
import signal
import statistics
import subprocess
import tempfile
import time

import chain
import cost
import runtimes_pyspy

LOADS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "loads")
DEPTHS = [10, 50, 200]
WARM_UP = 4
RECEIVER = "127.0.0.1:4317"


def profilers(hz, work):
    """Returns the command of each profiler that samples the machine in the kernel."""
    options = ["-q", "-F", str(hz), "--tick-limit", "10000", "-o", f"{work}/out.pb.gz"]
    found = {"everytick": [cost.REPOSITORY + "/target/release/everytick", "record", *options]}
    other = os.environ.get("OTEL_PROFILER")
    if other:
        quiet = ["-collection-agent", RECEIVER, "-disable-tls", "-no-kernel-version-check"]
        found["OpenTelemetry"] = [other, "-samples-per-second", str(hz), *quiet]
    return found


def ticks_and_ns(known):
    """Returns runs and time of the perf_event programs that did not exist before."""
    programs = [p for p in cost.bpftool("prog") if p["id"] not in known]
    programs = [p for p in programs if p["type"] == "perf_event" and p.get("run_cnt")]
    return sum(p["run_cnt"] for p in programs), sum(p["run_time_ns"] for p in programs)


def tick_us(command, seconds):
    """Returns the microseconds of a tick of a profiler while a program runs."""
    known = {p["id"] for p in cost.bpftool("prog")}
    profiler = subprocess.Popen(command, start_new_session=True, **cost.QUIET)
    try:
        time.sleep(WARM_UP)
        ticks, ns = ticks_and_ns(known)
        time.sleep(seconds)
        more_ticks, more_ns = ticks_and_ns(known)
    finally:
        profiler.send_signal(signal.SIGINT)
        profiler.wait()
    return (more_ns - ns) / (more_ticks - ticks) / 1000


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pyspy_us(pid, hz, seconds, work):
    """Returns the microseconds of CPU time that py-spy takes for a sample of a process."""
    if not os.path.exists(runtimes_pyspy.PYSPY):
        return None
    options = ["-r", str(hz), "-d", "3600", "--nonblocking", "-f", "raw", "-o", f"{work}/spy.txt"]
    command = [runtimes_pyspy.PYSPY, "record", "-p", str(pid), *options]
    spy = subprocess.Popen(command, **cost.QUIET)
    try:
        time.sleep(WARM_UP)
        before = cpu_seconds(spy.pid)
        time.sleep(seconds)
        used = cpu_seconds(spy.pid) - before
    finally:
        spy.send_signal(signal.SIGINT)
        spy.wait()
    return used / (hz * seconds) * 1e6


def programs(python, work):
    """Returns the command of each kind and depth."""
    found = {}
    for depth in DEPTHS:
        found["Python", depth] = [python, "-I", f"{LOADS}/deep.py", str(depth)]
        found["C, call frames", depth] = [chain.compile(f"{work}/c{depth}", depth - 1, False)]
    return found


def measure(arguments, work):
    """Returns all times in us by kind, depth and profiler."""
    times, commands = {}, programs(arguments.python, work)
    for _ in range(arguments.rounds):
        for (kind, depth), command in commands.items():
            running = [subprocess.Popen(command, **cost.QUIET) for _ in range(os.cpu_count())]
            try:
                time.sleep(1)
                for name, profiler in profilers(arguments.hz, work).items():
                    us = tick_us(profiler, arguments.seconds)
                    times.setdefault((kind, name), {}).setdefault(depth, []).append(us)
                if kind == "Python":
                    us = pyspy_us(running[0].pid, arguments.hz, arguments.seconds, work)
                    spy = times.setdefault((kind, "py-spy, CPU time of a sample"), {})
                    spy.setdefault(depth, []).append(us)
            finally:
                for process in running:
                    process.kill()
                    process.wait()
    return times


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--hz", type=int, default=497)
    parser.add_argument("--python", default="/usr/bin/python3")
    arguments = parser.parse_args()
    with cost.bpf_stats(), tempfile.TemporaryDirectory() as work:
        times = measure(arguments, work)
    about = f"{arguments.rounds} rounds of {arguments.seconds} s, {os.cpu_count()} CPUs, medians"
    depths = " | ".join(map(str, DEPTHS))
    print(f"\n{arguments.hz} Hz, {about}\n\n| stack | profiler | {depths} | ns a frame |")
    print("|---|---|" + "---:|" * (len(DEPTHS) + 1))
    for (kind, name), by_depth in times.items():
        if any(each is None for values in by_depth.values() for each in values):
            continue
        us = [statistics.median(by_depth[depth]) for depth in DEPTHS]
        slope = (us[-1] - us[0]) / (DEPTHS[-1] - DEPTHS[0]) * 1000
        cells = " | ".join(f"{each:.1f}" for each in us)
        print(f"| {kind} | {name} | {cells} | {slope:.0f} |")


if __name__ == "__main__":
    main()
