#!/usr/bin/env python3
"""What the agent costs over minutes, beside perf record and lightswitch at the same time.

    ./dev bench-agent [--minutes M] [--hz HZ]... [--processes N]

Two busy programs, 30 and 150 functions deep and without frame pointers, and so many sleeping processes of 50 programs. At each
frequency `everytick agent` with its defaults, a local store and a sink `otlp`, whose receiver counts bytes; `perf record -a -g` into a
file; and lightswitch, where it is installed, into a profile that it writes at its end. All of them run at the same time on the same
load, each watches the others too, and each is looked at from outside:

  CPU, all    user and system time of its processes and the time of its BPF programs, from exec to the end, in per cent of the machine
  CPU, later  the same without the first minute
  BPF         the part of BPF in the latter, and its time for a tick
  RSS         of its processes, added up: the median of the last half, and the peak
  maps        memory of its BPF maps at the end
  bytes       what it sent or wrote, for each CPU and hour

Then the last five minutes of its store are exported, and the same windows added up by Go. Needs root.
"""
import argparse
import contextlib
import datetime
import http.server
import os
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

import chain
import cost
import scale

EVERYTICK = scale.EVERYTICK
# Seconds after which a profiler has loaded what it loads.
SETTLED = 10
LOOK_EACH = 10


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes every OTLP request, and counts the bytes of their bodies."""

    protocol_version = "HTTP/1.1"
    taken = {}  # by the first part of the path, which tells agents apart

    def do_POST(self):
        sender = "/" + self.path.split("/")[1]
        size = len(self.rfile.read(int(self.headers["Content-Length"])))
        Receiver.taken[sender] = Receiver.taken.get(sender, 0) + size
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Watched:
    """A profiler that was started, and what it takes. What BPF appears in its first seconds is its own."""

    def __init__(self, command, log):
        programs, maps = ids("prog"), ids("map")
        self.begun = time.monotonic()
        with open(log, "w") as out:
            self.process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        time.sleep(SETTLED)
        assert self.process.poll() is None, f"it ended at once: {command}\n{open(log).read()}"
        self.programs, self.maps = ids("prog") - programs, ids("map") - maps
        self.looks = []

    def look(self):
        """Takes a look: time, CPU of processes and of BPF in seconds, ticks, and resident memory."""
        ours = [p for p in cost.bpftool("prog") if p["id"] in self.programs]
        ticks = sum(p.get("run_cnt", 0) for p in ours if p["type"] == "perf_event")
        bpf = sum(p.get("run_time_ns", 0) for p in ours) / 1e9
        processes = [process_tree_part(pid) for pid in cost.process_tree(self.process.pid)]
        cpu, rss = sum(part[0] for part in processes), sum(part[1] for part in processes)
        self.looks.append((time.monotonic() - self.begun, cpu, bpf, ticks, rss))

    def share(self, begin=0.0, end=1e9):
        """CPU between two moments, in per cent of the machine: all, and of it BPF."""
        inside = [(0, 0, 0, 0, 0)] * (begin == 0) + [look for look in self.looks if begin <= look[0] <= end]
        wall, cpu, bpf = (inside[-1][part] - inside[0][part] for part in range(3))
        machine = wall * os.cpu_count() / 100
        return (cpu + bpf) / machine, bpf / machine

    def tick_us(self):
        ticks = self.looks[-1][3]
        return self.looks[-1][2] / ticks * 1e6 if ticks else None

    def rss_mib(self):
        """Median of the last half, and the peak of what was seen."""
        seen = [look[4] for look in self.looks]
        return statistics.median(seen[len(seen) // 2 :]) / 2**20, max(seen) / 2**20

    def maps_mib(self):
        return sum(m.get("bytes_memlock", 0) for m in cost.bpftool("map") if m["id"] in self.maps) / 2**20

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
            return
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def ids(kind):
    return {one["id"] for one in cost.bpftool(kind)}


def process_tree_part(pid):
    """CPU time of a process and its children that have ended, in seconds; and resident memory in bytes."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0, 0  # it has just ended


def agent(work, name, lines, before=()):
    """Starts an agent whose directories are its own, with these lines in its configuration."""
    place = f"{work}/{name}"
    os.mkdir(place)
    with open(f"{place}/everytick.toml", "w") as file:
        file.write(f'[agent]\nlisten = "127.0.0.1:0"\ncache_dir = "{place}/cache"\n{lines}\n')
        file.write(f'[store]\nenabled = true\ndirectory = "{place}/store"\n[spool]\ndirectory = "{place}/spool"\n')
    return Watched([*before, EVERYTICK, "agent", "--config", f"{place}/everytick.toml"], f"{place}/log")


def metrics(work, name):
    """What an agent tells of itself: values by name, over all labels."""
    with open(f"{work}/{name}/log") as file:
        address = re.search(r"serving.*address=(\S+)", re.sub(r"\x1b\[[0-9;]*m", "", file.read()))[1]
    values = {}
    for line in urllib.request.urlopen(f"http://{address}/metrics").read().decode().splitlines():
        if not line.startswith("#"):
            metric, value = line.rsplit(" ", 1)
            metric = metric.split("{")[0]
            values[metric] = values.get(metric, 0) + float(value)
    return values


def export(work, name, seconds=3600):
    """Exports the last so many seconds of an agent's store, without its last window, and adds up the same windows by another tool."""
    store, out = f"{work}/{name}/store", f"{work}/{name}.pb.gz"
    windows = sorted(file for file in os.listdir(store) if file.endswith(".pb.gz"))
    begun = [datetime.datetime.strptime(file, "%Y%m%dT%H%M%S.%fZ.pb.gz").replace(tzinfo=datetime.UTC) for file in windows]
    first = next(at for at in begun if at > begun[-1] - datetime.timedelta(seconds=seconds))
    between = f"{first.isoformat()}..{begun[-1].isoformat()}".replace("+00:00", "Z")
    subprocess.run([EVERYTICK, "agent", "--config", f"{work}/{name}/everytick.toml", "--export", between, "-o", out], check=True, capture_output=True)
    inside = [f"{store}/{file}" for file, at in zip(windows, begun) if first <= at < begun[-1]]
    ours, gos = added_up([out]), added_up(inside)
    assert ours == gos, f"the export says {ours}, and Go of its windows {gos}"
    print(f"\nThe export of {name} says, as Go does of its {len(inside)} windows together: {ours}", flush=True)


def added_up(profiles):
    """What `go tool pprof` says of profiles together."""
    top = ["go", "tool", "pprof", "-top", "-nodecount=1", "-sample_index=cpu", *profiles]
    told = subprocess.run(top, capture_output=True, text=True, check=True).stdout
    return next(line for line in told.splitlines() if line.startswith("Duration"))


def watch(watched, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(LOOK_EACH)
        for one in watched:
            one.look()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--hz", type=int, action="append")
    parser.add_argument("--processes", type=int, default=500)
    arguments = parser.parse_args()
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    print("| Hz | profiler | CPU, all % | CPU, later % | of it BPF % | us/tick | RSS MiB | peak MiB | maps MiB | MB per CPU and hour |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    with scale.statistics_of_bpf(), tempfile.TemporaryDirectory() as work:
        busy = [[chain.compile(f"{work}/chain{depth}", depth, frame_pointers=False)] for depth in (30, 150)]
        with scale.load(work, arguments.processes, busy):
            compare(arguments.hz or [19, 99], arguments.minutes, receiver.server_port, work)


def compare(rates, minutes, port, work):
    """Runs all profilers at all rates together."""
    running, seconds = {}, int(minutes * 60)
    try:
        for hz in rates:
            sink = f'[sinks.peer]\ntype = "otlp"\nprotocol = "http"\nurl = "http://127.0.0.1:{port}/{hz}"'
            running[hz, "everytick agent"] = agent(work, f"everytick{hz}", f"frequency = {hz}\n{sink}")
            perf = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(hz), "-a", "-g", "-o", f"{work}/perf{hz}.data"]
            running[hz, "perf record -g"] = Watched(perf, f"{work}/perf{hz}.log")
            if shutil.which("lightswitch"):
                cost.prepare_lightswitch()
                until = str(seconds + 120)
                command = ["lightswitch", "-D", until, "--sample-freq", str(cost.prime(hz)), "--profile-format", "pprof"]
                command += ["--profile-path", work, "--profile-name", f"l{hz}.pb"]
                running[hz, "lightswitch"] = Watched(command, f"{work}/lightswitch{hz}.log")
        watch(running.values(), seconds)
        for (hz, profiler), watched in running.items():
            sent = {"everytick agent": Receiver.taken.get(f"/{hz}", 0), "perf record -g": os.path.getsize(f"{work}/perf{hz}.data")}
            report(hz, profiler, watched, sent.get(profiler))
        for hz in rates:
            of_itself(hz, running[hz, "everytick agent"], work)
        for hz in rates:
            export(work, f"everytick{hz}", 300)
    finally:
        for watched in running.values():
            watched.stop()


def of_itself(hz, watched, work):
    """What an agent says of itself, and the size of its store."""
    told = metrics(work, f"everytick{hz}")
    kept = sum(file.stat().st_size for file in os.scandir(f"{work}/everytick{hz}/store"))
    hours = watched.looks[-1][0] / 3600 * os.cpu_count()
    print(
        f"\nThe agent at {hz} Hz of itself: {100 * told['everytick_budget_cpu_ratio']:.3f} % of the machine in its last window, step "
        f"{told['everytick_budget_step']:.0f}, {told['everytick_samples_total']:,.0f} samples, {told['everytick_samples_lost_total']:.0f} lost, "
        f"{told['everytick_budget_memory_bytes'] / 2**20:.1f} MiB in all; its store grows by {kept / hours / 1e6:.2f} MB per CPU and hour.",
        flush=True,
    )


def report(hz, profiler, watched, sent):
    (whole, _), (later, bpf) = watched.share(), watched.share(begin=60)
    rss, peak = watched.rss_mib()
    hours = watched.looks[-1][0] / 3600 * os.cpu_count()
    tick = watched.tick_us()
    cells = [f"{whole:.3f}", f"{later:.3f}", f"{bpf:.3f}" if tick else "-", f"{tick:.1f}" if tick else "-", f"{rss:.1f}", f"{peak:.1f}"]
    cells += [f"{watched.maps_mib():.1f}" if tick else "-", f"{sent / hours / 1e6:.2f}" if sent else "-"]
    print(f"| {hz} | {profiler} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
