#!/usr/bin/env python3
"""Overhead of many sleeping processes, for docs/cost.md.

    ./dev bench-scale [--seconds S] [--hz HZ] [--processes N]...

N processes of 50 distinct programs sleep beside two busy ones, and the whole machine is recorded.
Prints:

  start-up      from exec to the moment from which ticks are sampled
  RSS           peak memory of the agent
  kernel        memory of BPF maps
  CPU           of the agent, and of its BPF programs in their ticks, from two seconds after the
                start, in per cent of one core
  per process   growth of the agent's memory per process, between the first and the last N

Needs root.
"""

import argparse
import contextlib
import os
import re
import subprocess
import tempfile
import time

import chain
import cost
import storm

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EVERYTICK = f"{REPOSITORY}/target/release/everytick"
PROGRAMS = 50
WARM = 2

SLEEPER = "#include <unistd.h>\nint number = N;\nint main(void) { for (;;) pause(); }\n"

# Starts a number of processes, of the given programs in turn, prints "ready", and waits to be killed.
SPAWNER = """
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
extern char **environ;
int main(int argc, char **argv)
{
	for (long i = 0; i < atol(argv[1]); i++) {
		char *arguments[] = {argv[2 + i % (argc - 2)], NULL};
		pid_t child;
		if (posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ))
			return 1;
	}
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
"""


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bpf_seconds():
    """Returns the run time of BPF programs with our names so far, in seconds."""
    shown = subprocess.run(["bpftool", "prog", "show"], capture_output=True, text=True).stdout
    lines = [line for line in shown.splitlines() if re.search(r"perf_event +name sample", line)]
    return (
        sum(int(match[1]) for line in lines if (match := re.search(r"run_time_ns (\d+)", line)))
        / 1e9
    )


def peak_rss(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"VmHWM:\s+(\d+) kB", file.read())[1]) << 10


def measure(seconds, hz, work):
    begin = time.monotonic()
    record = subprocess.Popen(
        [EVERYTICK, "record", "-F", str(hz), "-d", str(seconds + WARM), "-o", f"{work}/out.folded"],
        stderr=subprocess.PIPE,
        text=True,
    )
    record.stderr.readline()
    start_up = time.monotonic() - begin
    time.sleep(WARM)
    before = (cpu_seconds(record.pid), bpf_seconds(), time.monotonic())
    time.sleep(seconds - 1)
    after = (cpu_seconds(record.pid), bpf_seconds(), time.monotonic())
    rss = peak_rss(record.pid)
    summary = record.communicate()[1]
    took = after[2] - before[2]
    maps = float(re.search(r"([0-9.]+) MiB kernel maps", summary)[1])
    return (
        start_up,
        rss,
        maps,
        100 * (after[0] - before[0]) / took,
        100 * (after[1] - before[1]) / took,
        summary,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--hz", type=int, default=99)
    parser.add_argument("--processes", type=int, action="append")
    parser.add_argument("--verbose", action="store_true", help="print the summary of record")
    arguments = parser.parse_args()
    counts = arguments.processes or [100, 10000]
    results = []
    with cost.bpf_stats():
        compare(counts, arguments, results)
    if len(results) > 1:
        (few, small), (many, large) = results[0], results[-1]
        print(f"{(large - small) / (many - few) / 1024:.2f} KiB for each process")


@contextlib.contextmanager
def load(work, processes, busy):
    """Runs sleeping processes of 50 programs, and busy commands."""
    sleepers = [storm.compile_c(SLEEPER, f"{work}/sleeper{n}", f"-DN={n}") for n in range(PROGRAMS)]
    spawner = storm.compile_c(SPAWNER, f"{work}/spawner")
    first = subprocess.Popen(
        [spawner, str(processes), *sleepers],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    running = [first]
    try:
        assert first.stdout.readline() == "ready\n", "cannot start the processes"
        running += [
            subprocess.Popen(command, start_new_session=True, **cost.QUIET) for command in busy
        ]
        yield
    finally:
        cost.stop_load(running)


def compare(counts, arguments, results):
    """Measures each number of processes. Adds the number and the agent's memory to `results`."""
    with tempfile.TemporaryDirectory() as work:
        busy = chain.compile(f"{work}/chain30", 30, frame_pointers=False)
        print(
            "| processes | start-up ms | agent RSS MiB | kernel maps MiB | agent CPU % of a core | sampler CPU % of a core |"
        )
        print("|---:|---:|---:|---:|---:|---:|")
        for count in counts:
            with load(work, count, [[busy]] * 2):
                start_up, rss, maps, agent, sampler, summary = measure(
                    arguments.seconds, arguments.hz, work
                )
            results.append((count, rss))
            print(
                f"| {count:,} | {start_up * 1e3:.0f} | {rss / 2**20:.1f} | {maps:.1f} | {agent:.2f} | {sampler:.2f} |",
                flush=True,
            )
            if arguments.verbose:
                print(summary)


if __name__ == "__main__":
    main()
