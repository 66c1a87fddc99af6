#!/usr/bin/env python3
"""Whether anything grows, repeats or is lost in an agent to which everything happens for an hour.

    ./dev bench-agent-soak [--minutes M]

The churn of bench-soak, at the lowest priority, and beside it, at random moments: a worker is
killed; the receiver of OTLP goes away and comes back; the disk of the store and the spool is full
and has space again; a guest takes CPUs away from its own agent and gives them back. Prints memory
and open files as medians of the minute before minute 5 and of the last minute, then the processes
of the storm, the delivery ledger and each log line that came more than once within a minute. Needs
root.
"""

import argparse
import collections
import http.server
import os
import random
import re
import signal
import subprocess
import tempfile
import threading
import time

import agent
import soak
import storm

DISK_MIB = 64
# From the end of the churn until everything accepted must be delivered.
DRAIN_SECONDS = 90
HZ = 19
# Levels of the log at which a line may not repeat; others tell of single events.
LOG_LINE = re.compile(r"^(\S+)\s+(WARN|ERROR|INFO)\s+(.*)$")


class Receiver:
    """An OTLP receiver that can go away and come back on the same port."""

    def __init__(self):
        self.server = None
        self.port = 0
        self.begin()

    def begin(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), agent.Receiver)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self):
        self.server.shutdown()
        self.server.server_close()


def kill_worker(pid):
    """Kills one of the agent's worker processes."""
    workers = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    if pids := workers.stdout.split():
        os.kill(int(random.choice(pids)), signal.SIGKILL)


def fill_disk(disk, stop):
    """Takes all space of the disk for a while."""
    with open(f"{disk}/filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        stop.wait(random.uniform(20, 40))
    os.remove(f"{disk}/filler")


def interrupt(receiver, stop):
    receiver.end()
    stop.wait(random.uniform(20, 60))
    receiver.begin()


def at_random(stop, shortest, longest, event):
    """Calls `event` at random moments until stopped."""
    while not stop.wait(random.uniform(shortest, longest)):
        event()


def plug_in_guest(stop):
    """Runs the tests of guests, whose CPUs come and go, every ten minutes."""
    command = ["cargo", "test", "--quiet", "--workspace", "--test", "kernels"]
    while not stop.is_set():
        done = subprocess.run(command, cwd=storm.REPOSITORY, capture_output=True, text=True)
        print(f"guest: {'passed' if done.returncode == 0 else done.stdout[-2000:]}", flush=True)
        stop.wait(600)


def repeats(log):
    """Returns log lines that came more than once within a minute, without their numbers."""
    seen = collections.defaultdict(list)
    with open(log) as file:
        for line in file:
            line = re.sub(r"\x1b\[[0-9;]*m", "", line)
            if found := LOG_LINE.match(line):
                stamp = re.search(r"T(\d+):(\d+):([\d.]+)", found[1])
                hours, minutes, seconds = (float(part) for part in stamp.groups())
                text = re.sub(r"\d+", "N", found[3])
                seen[text].append(3600 * hours + 60 * minutes + seconds)
    close = lambda times: any(0 <= b - a < 59 for a, b in zip(times, times[1:]))
    return {text: len(times) for text, times in seen.items() if close(times)}


def prepare_churn(work, seconds, stop):
    """Compiles the churn of bench-soak. Returns its functions, and the command of its storm."""
    programs = [f"{work}/storm{number}" for number in range(storm.PROGRAMS)]
    for number, path in enumerate(programs):
        storm.worker(number, path)
    storm.compile_c(storm.LAUNCHER, f"{work}/launcher")
    launcher = [f"{work}/launcher", "40", str(seconds), "20", *programs]
    targets = [(soak.repeat, (command, stop)) for command in soak.compile_churn(work)]
    targets.append((storm.recompile, (programs, stop)))
    return targets, launcher


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    arguments = parser.parse_args()
    seconds = int(arguments.minutes * 60)
    early = min(5, arguments.minutes / 2)
    with tempfile.TemporaryDirectory() as work:
        disk = f"{work}/disk"
        os.mkdir(disk)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "everytick-soak", disk], check=True
        )
        try:
            run(work, disk, seconds, early)
        finally:
            subprocess.run(["umount", "--lazy", disk], check=True)


def run(work, disk, seconds, early):
    receiver, stop = Receiver(), threading.Event()
    lines = (
        f'frequency = {HZ}\n[sinks.otlp]\ntype = "otlp"\nprotocol = "http"\n'
        f'url = "http://127.0.0.1:{receiver.port}"'
    )
    # Before the agent starts: what fails here leaves none behind.
    targets, launcher = prepare_churn(work, seconds, stop)
    profiler = agent.agent(work, "soak", lines, disk=disk)
    pid = profiler.process.pid
    os.nice(19)  # everything that is started from here on
    targets += [
        (at_random, (stop, 20, 60, lambda: kill_worker(pid))),
        (at_random, (stop, 60, 180, lambda: interrupt(receiver, stop))),
        (at_random, (stop, 120, 300, lambda: fill_disk(disk, stop))),
        (plug_in_guest, (stop,)),
    ]
    threads = [threading.Thread(target=target, args=args) for target, args in targets]
    storm_process = subprocess.Popen(launcher, stdout=subprocess.PIPE, text=True)
    try:
        for thread in threads:
            thread.start()
        seen = watch(profiler.process, seconds)
        stop.set()
        processes = storm_process.communicate()[0].split()[0]
        for thread in threads:
            thread.join()
        time.sleep(DRAIN_SECONDS)
        values = agent.metrics(work, "soak", by_label=True)
    finally:
        stop.set()
        storm_process.kill()
        profiler.stop()
    soak.table(seen, early * 60, seconds)
    print(f"\n{int(processes):,} processes in the storm")
    for name, value in sorted(values.items()):
        if name.startswith(("everytick_batches", "everytick_windows_lost", "everytick_log")):
            print(f"{name} {value:,.0f}")
    print("\nlines that came more than once within a minute:", repeats(f"{work}/soak/log") or "none")


def watch(process, seconds):
    """Returns the times and figures of an agent while everything happens to it."""
    begin, seen = time.monotonic(), []
    while time.monotonic() < begin + seconds:
        time.sleep(5)
        assert process.poll() is None, "the agent has ended"
        seen.append((time.monotonic() - begin, soak.look(process.pid)))
    return seen


if __name__ == "__main__":
    main()
