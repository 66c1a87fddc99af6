#!/usr/bin/env python3
"""Whether anything grows, repeats or is lost in an agent to which everything happens for an hour.

    ./dev bench-agent-soak [--minutes M]

The churn of bench-soak, behind all else that wants a CPU, and beside it, at random moments: a
worker is killed; the receiver of OTLP goes away and comes back; the disk of the store and the spool
is full and has space again; a guest takes CPUs away from its own agent and gives them back. After
minute 5 and at the end all of this stops, and once everything accepted is delivered, memory and
open files are measured at rest: what a busy machine needs does not count as growth. Prints these,
the processes of the storm, the delivery ledger and each log line that came more than once within a
minute. Needs root.
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
# From the end of the churn until everything accepted must be delivered, symbols that were not used
# for 24 windows are dropped, and figures are at rest.
DRAIN_SECONDS = 270
REST_SECONDS = 60
HZ = 19
# Levels of the log at which a line may not repeat; others tell of single events.
LOG_LINE = re.compile(r"^(\S+)\s+(WARN|ERROR|INFO)\s+(.*)$")
# Runs a command behind all else. Where the kernel groups processes by session, the priority of a
# process counts inside its session alone, and that of the session must be set.
BEHIND_ALL_ELSE = [
    *["setsid", "nice", "-n", "19", "sh", "-c"],
    'if [ -e /proc/$$/autogroup ]; then echo 10 > /proc/$$/autogroup; fi; exec "$@"',
    "sh",
]
GUEST_TESTS = ["cargo", "test", "--quiet", "--workspace", "--test", "kernels"]


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
    command = [*BEHIND_ALL_ELSE, *GUEST_TESTS]
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


def prepare_churn(work):
    """Compiles the churn of bench-soak. Returns programs of its storm, and other commands."""
    programs = [f"{work}/storm{number}" for number in range(storm.PROGRAMS)]
    for number, path in enumerate(programs):
        storm.worker(number, path)
    storm.compile_c(storm.LAUNCHER, f"{work}/launcher")
    return programs, [[*BEHIND_ALL_ELSE, *command] for command in soak.compile_churn(work)]


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
    receiver = Receiver()
    lines = (
        f'frequency = {HZ}\n[sinks.otlp]\ntype = "otlp"\nprotocol = "http"\n'
        f'url = "http://127.0.0.1:{receiver.port}"'
    )
    # Before the agent starts: what fails here leaves none behind.
    subprocess.run([*GUEST_TESTS, "--no-run"], cwd=storm.REPOSITORY, check=True)
    churn = prepare_churn(work)
    profiler = agent.agent(work, "soak", lines, disk=disk)
    pid = profiler.process.pid

    def disturb(seconds):
        """Has everything happen for so long. Returns the processes of the storm."""
        stop = threading.Event()
        events = [
            (20, 60, lambda: kill_worker(pid)),
            (60, 180, lambda: interrupt(receiver, stop)),
            (120, 300, lambda: fill_disk(disk, stop)),
        ]
        return everything(work, churn, events, seconds, stop, profiler.process)

    try:
        processes = disturb(early * 60)
        before = at_rest(pid)
        processes += disturb(seconds - early * 60)
        after = at_rest(pid)
        values = agent.metrics(work, "soak", by_label=True)
    finally:
        profiler.stop()
    names = [f"after minute {early:g}", f"after minute {seconds / 60:g}"]
    soak.table(before + after, before[-1][0], after[-1][0], names)
    print(f"\n{processes:,} processes in the storm")
    for name, value in sorted(values.items()):
        is_shown = name.startswith(("everytick_batches", "everytick_windows_lost", "everytick_log"))
        if value and is_shown or "_bytes" in name and "_total" not in name:
            print(f"{name} {value:,.0f}")
    repeated = repeats(f"{work}/soak/log")
    print("\nlines that came more than once within a minute:", repeated or "none")


def everything(work, churn, events, seconds, stop, process):
    """Runs the churn and the events. Returns the number of processes of the storm."""
    programs, commands = churn
    targets = [(soak.repeat, (command, stop)) for command in commands]
    targets += [(at_random, (stop, *event)) for event in events]
    targets += [(storm.recompile, (programs, stop)), (plug_in_guest, (stop,))]
    threads = [threading.Thread(target=target, args=args) for target, args in targets]
    launcher = [*BEHIND_ALL_ELSE, f"{work}/launcher", "40", str(int(seconds)), "20", *programs]
    launched = subprocess.Popen(launcher, stdout=subprocess.PIPE, text=True)
    try:
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(5)
            assert process.poll() is None, "the agent has ended"
        stop.set()
        processes = launched.communicate()[0].split()[0]
        for thread in threads:
            thread.join()
    finally:
        stop.set()
        launched.kill()
    return int(processes)


def at_rest(pid):
    """Returns times and figures of an agent to which nothing happens any more."""
    time.sleep(DRAIN_SECONDS)
    begin, seen = time.monotonic(), []
    while time.monotonic() < begin + REST_SECONDS:
        time.sleep(5)
        seen.append((time.monotonic(), soak.look(pid) | parts_of_memory(pid)))
    return seen


def parts_of_memory(pid):
    """Returns the resident memory of a process that is its own, and that of files and BPF maps."""
    with open(f"/proc/{pid}/status") as file:
        sizes = dict(re.findall(r"^(Rss\w+):\s+(\d+) kB", file.read(), re.MULTILINE))
    mapped = int(sizes["RssFile"]) + int(sizes["RssShmem"])
    return {"of it heap KiB": int(sizes["RssAnon"]), "of it mapped KiB": mapped}


if __name__ == "__main__":
    main()
