#!/usr/bin/env python3
"""Storms of short processes: how many of their samples have complete, symbolized stacks.

    ./dev bench-storm [--seconds S] [--hz HZ]

Three storms one after the other, each of a dozen distinct programs in turn: 300 processes a second
that work for 5 ms, 80 for 20 ms and 15 for 100 ms. Meanwhile a program is compiled every second and
replaces one of them. The whole machine is recorded; the samples of the storm's processes count from
their exec on. A stack is complete and symbolized if it is not cut and each of its frames has a
symbol. Needs root.
"""

import argparse
import os
import re
import subprocess
import tempfile
import threading
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EVERYTICK = f"{REPOSITORY}/target/release/everytick"
PROGRAMS = 12
STORMS = [(300, 5), (80, 20), (15, 100)]

# Works for a number of milliseconds of CPU time, in a chain of calls without frame pointers.
WORKER = """
#include <stdlib.h>
#include <time.h>
volatile unsigned long sink;
static long spent(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}
__attribute__((noinline)) unsigned long spin_N(unsigned long x)
{
	volatile unsigned long frame[N % 7 + 1];
	for (int i = 0; i < 20000; i++)
		x = x * 6364136223846793005UL + N;
	frame[0] = x;
	return frame[0];
}
__attribute__((noinline)) unsigned long b_N(unsigned long x) { return spin_N(x + 1) + 1; }
__attribute__((noinline)) unsigned long a_N(unsigned long x) { return b_N(x + 1) + 1; }
int main(int argc, char **argv)
{
	long end = argc > 1 ? atol(argv[1]) * 1000000L : 0;
	while (spent() < end)
		sink = a_N(sink);
	return 0;
}
"""

# Starts a number of processes per second, of the given programs, each with one argument, and waits for them.
LAUNCHER = """
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
extern char **environ;
static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}
int main(int argc, char **argv)
{
	double rate = atof(argv[1]), seconds = atof(argv[2]), begin = now();
	long started = 0;
	while (now() - begin < seconds) {
		double due = begin + started / rate - now();
		if (due > 0) {
			struct timespec t = {0, due * 1e9};
			nanosleep(&t, NULL);
		}
		pid_t child;
		char *arguments[] = {argv[4 + started % (argc - 4)], argv[3], NULL};
		if (!posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ))
			started++;
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
	while (wait(NULL) > 0)
		;
	printf("%ld %.3f\\n", started, now() - begin);
}
"""


def compile_c(text, path, *flags):
    """Compiles a program. It appears complete or not at all. Returns its path."""
    with open(f"{path}.c", "w") as file:
        file.write(text)
    subprocess.run(
        ["gcc", "-O2", "-fomit-frame-pointer", *flags, f"{path}.c", "-o", f"{path}.new"], check=True
    )
    os.rename(f"{path}.new", path)
    return path


def worker(number, path):
    compile_c(
        WORKER,
        path,
        f"-DN={number}",
        "-fno-optimize-sibling-calls",
        f"-Da_N=a_{number}",
        f"-Db_N=b_{number}",
        f"-Dspin_N=spin_{number}",
    )


def recompile(programs, stop):
    """Replaces one program after the other by a new one."""
    number = PROGRAMS
    while not stop.wait(1):
        worker(number, programs[number % PROGRAMS])
        number += 1


def count(folded):
    """Returns the samples of the storm: all, the complete and symbolized ones, and the faults of the others."""
    all_samples, good, faults = 0, 0, {}
    with open(folded) as file:
        for line in file:
            stack, number = line.rsplit(" ", 1)
            frames, number = stack.split(";"), int(number)
            if not re.match(r"storm\d+$", frames[0]):
                continue
            all_samples += number
            cut = next((frame for frame in frames if frame.startswith("[cut")), None)
            unsymbolized = next(
                (frame for frame in frames if re.search(r"\+0x[0-9a-f]+$", frame)), None
            )
            if not cut and not unsymbolized:
                good += number
            else:
                faults[cut or unsymbolized] = faults.get(cut or unsymbolized, 0) + number
    return all_samples, good, faults


def storm(rate, work_ms, seconds, hz, work, programs, launcher):
    out = f"{work}/{work_ms}"
    record = subprocess.Popen(
        [
            EVERYTICK,
            "record",
            "-v",
            "-F",
            str(hz),
            "-d",
            str(seconds + 3),
            "-o",
            f"{out}.folded",
            "-o",
            f"{out}.pb.gz",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1)
    stop = threading.Event()
    compiler = threading.Thread(target=recompile, args=(programs, stop))
    compiler.start()
    launched = subprocess.run(
        [launcher, str(rate), str(seconds), str(work_ms), *programs],
        check=True,
        capture_output=True,
        text=True,
    )
    stop.set()
    compiler.join()
    started, took = launched.stdout.split()
    summary = record.communicate()[1]
    return float(started) / float(took), count(f"{out}.folded"), summary


def figure(pattern, text):
    found = re.search(pattern, text)
    return found[1] if found else "?"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--hz", type=int, default=99)
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="print the faults of the other stacks, and the summary of record",
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        programs = [f"{work}/storm{number}" for number in range(PROGRAMS)]
        for number, path in enumerate(programs):
            worker(number, path)
        compile_c(LAUNCHER, f"{work}/launcher")
        print(
            "| storm | started/s | samples | complete and symbolized % | finished in user space | agent CPU % of capacity | agent RSS MiB |"
        )
        print("|---|---:|---:|---:|---:|---:|---:|")
        for rate, work_ms in STORMS:
            reached, (samples, good, faults), summary = storm(
                rate, work_ms, arguments.seconds, arguments.hz, work, programs, f"{work}/launcher"
            )
            share = 100 * good / max(samples, 1)
            finished = figure(r"([0-9,]+) stacks? finished in user space", summary)
            cpu, rss = figure(r"own CPU +[0-9.]+ ms, ([0-9.]+) %", summary), figure(
                r"own memory +([0-9.]+) MiB agent", summary
            )
            print(
                f"| {rate}/s of {work_ms} ms | {reached:.0f} | {samples} | {share:.1f} | {finished} | {cpu} | {rss} |",
                flush=True,
            )
            if arguments.verbose:
                print(sorted(faults.items(), key=lambda fault: -fault[1])[:12], summary)


if __name__ == "__main__":
    main()
