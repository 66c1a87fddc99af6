#!/usr/bin/env python3
"""Storms of short processes: how many of their samples have complete, named stacks.

    ./dev bench-storm [--seconds S] [--hz HZ]

Three storms one after the other, each of a dozen distinct programs in turn: 300 processes a second that work for 5 ms, 80 for
20 ms and 15 for 100 ms. While a storm blows, a program is compiled anew every second and takes the place of one of them. The whole
machine is recorded; counted are the samples of the storm's processes from their exec on. A stack is complete and named when
it is not cut and each of its frames has a name. Needs root.
"""
import argparse
import os
import re
import subprocess
import tempfile
import threading
import time

HOUSE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EVERYTICK = f"{HOUSE}/target/release/everytick"
PROGRAMS = 12
STORMS = [(300, 5), (80, 20), (15, 100)]

# Works for so many milliseconds of CPU time in a chain of calls without frame pointers.
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

# Starts so many processes a second, of the programs named, each with one argument, and waits for them.
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
    """Compiles a program, which is there as a whole or not at all; gives its path."""
    with open(f"{path}.c", "w") as file:
        file.write(text)
    subprocess.run(["gcc", "-O2", "-fomit-frame-pointer", *flags, f"{path}.c", "-o", f"{path}.new"], check=True)
    os.rename(f"{path}.new", path)
    return path


def worker(number, path):
    compile_c(WORKER, path, f"-DN={number}", "-fno-optimize-sibling-calls", f"-Da_N=a_{number}", f"-Db_N=b_{number}", f"-Dspin_N=spin_{number}")


def compile_anew(programs, stop):
    """Puts a new program in the place of one after the other."""
    number = PROGRAMS
    while not stop.wait(1):
        worker(number, programs[number % PROGRAMS])
        number += 1


def judge(folded):
    """Gives samples of the storm: all, complete and named, and what is wrong with the others."""
    all_samples, good, faults = 0, 0, {}
    with open(folded) as file:
        for line in file:
            stack, count = line.rsplit(" ", 1)
            frames, count = stack.split(";"), int(count)
            if not re.match(r"storm\d+$", frames[0]):
                continue
            all_samples += count
            cut = next((frame for frame in frames if frame.startswith("[cut")), None)
            nameless = next((frame for frame in frames if re.search(r"\+0x[0-9a-f]+$", frame)), None)
            if not cut and not nameless:
                good += count
            else:
                faults[cut or nameless] = faults.get(cut or nameless, 0) + count
    return all_samples, good, faults


def storm(rate, work_ms, seconds, hz, work, programs, launcher):
    out = f"{work}/{work_ms}"
    record = subprocess.Popen(
        [EVERYTICK, "record", "-F", str(hz), "-d", str(seconds + 3), "-o", f"{out}.folded", "-o", f"{out}.pb.gz"],
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1)
    stop = threading.Event()
    compiler = threading.Thread(target=compile_anew, args=(programs, stop))
    compiler.start()
    told = subprocess.run([launcher, str(rate), str(seconds), str(work_ms), *programs], check=True, capture_output=True, text=True)
    stop.set()
    compiler.join()
    started, took = told.stdout.split()
    summary = record.communicate()[1]
    return float(started) / float(took), judge(f"{out}.folded"), summary


def figure(pattern, text):
    found = re.search(pattern, text)
    return found[1] if found else "?"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--hz", type=int, default=99)
    parser.add_argument("--verbose", action="store_true", help="what is wrong with the other stacks, and record's own words")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        programs = [f"{work}/storm{number}" for number in range(PROGRAMS)]
        for number, path in enumerate(programs):
            worker(number, path)
        compile_c(LAUNCHER, f"{work}/launcher")
        print("| storm | started/s | samples | complete and named % | finished by the agent | agent CPU % of the machine | agent RSS MiB |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        for rate, work_ms in STORMS:
            reached, (samples, good, faults), told = storm(rate, work_ms, arguments.seconds, arguments.hz, work, programs, f"{work}/launcher")
            share = 100 * good / max(samples, 1)
            finished = figure(r"([0-9,]+) stacks? finished in user space", told)
            cpu, rss = figure(r"own CPU +[0-9.]+ ms, ([0-9.]+) %", told), figure(r"own memory +([0-9.]+) MiB agent", told)
            print(f"| {rate}/s of {work_ms} ms | {reached:.0f} | {samples} | {share:.1f} | {finished} | {cpu} | {rss} |", flush=True)
            if arguments.verbose:
                print(sorted(faults.items(), key=lambda fault: -fault[1])[:12], told)


if __name__ == "__main__":
    main()
