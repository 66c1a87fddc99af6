#!/usr/bin/env python3
"""Overhead of the agent over minutes, beside perf record and lightswitch at the same time.

    ./dev bench-agent [--minutes M] [--hz HZ]... [--processes N]

The load: two busy programs, 30 and 150 functions deep and without frame pointers, and N sleeping
processes of 50 programs. At each frequency run `everytick agent` with its defaults, a local store
and a sink `otlp`, whose receiver counts bytes; `perf record -a -g` into a file; and lightswitch,
where it is installed, into a profile that it writes at its end. All of them run at the same time on
the same load, each samples the others too, and each is measured from outside:

  CPU, all    user and system time of its processes and the time of its BPF programs, from exec to
              the end, in % of total CPU capacity
  CPU, later  the same without the first minute
  BPF         the part of BPF in the latter, and its time per tick
  RSS         of its processes, added up: the median of the last half, and the peak
  maps        memory of its BPF maps at the end
  bytes       what it sent or wrote, per CPU and hour

Then the last five minutes of its store are exported and compared with Go's sum of the same windows.
Needs root.
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
# Seconds after which a profiler has loaded its BPF programs.
SETTLE_SECONDS = 10
MEASURE_INTERVAL = 10


class Receiver(http.server.BaseHTTPRequestHandler):
    """Accepts every OTLP request and counts the bytes of their bodies."""

    protocol_version = "HTTP/1.1"
    received = {}  # by the first part of the path, which identifies the agent

    def do_POST(self):
        sender = "/" + self.path.split("/")[1]
        size = len(self.rfile.read(int(self.headers["Content-Length"])))
        Receiver.received[sender] = Receiver.received.get(sender, 0) + size
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Profiler:
    """A running profiler and its usage. BPF objects that appear in its first seconds are its own."""

    def __init__(self, command, log):
        programs, maps = ids("prog"), ids("map")
        self.begun = time.monotonic()
        with open(log, "w") as out:
            self.process = subprocess.Popen(
                command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        time.sleep(SETTLE_SECONDS)
        assert self.process.poll() is None, f"exited at once: {command}\n{open(log).read()}"
        self.programs, self.maps = ids("prog") - programs, ids("map") - maps
        self.measurements = []

    def measure(self):
        """Records time, CPU seconds of processes and of BPF, ticks, and resident memory."""
        ours = [p for p in cost.bpftool("prog") if p["id"] in self.programs]
        ticks = sum(p.get("run_cnt", 0) for p in ours if p["type"] == "perf_event")
        bpf = sum(p.get("run_time_ns", 0) for p in ours) / 1e9
        processes = [process_tree_part(pid) for pid in cost.process_tree(self.process.pid)]
        cpu, rss = sum(part[0] for part in processes), sum(part[1] for part in processes)
        self.measurements.append((time.monotonic() - self.begun, cpu, bpf, ticks, rss))

    def share(self, begin=0.0, end=1e9):
        """Returns CPU time between two moments in % of total CPU capacity: all, and its BPF part."""
        inside = [(0, 0, 0, 0, 0)] * (begin == 0) + [
            one for one in self.measurements if begin <= one[0] <= end
        ]
        wall, cpu, bpf = (inside[-1][part] - inside[0][part] for part in range(3))
        capacity = wall * os.cpu_count() / 100
        return (cpu + bpf) / capacity, bpf / capacity

    def tick_us(self):
        ticks = self.measurements[-1][3]
        return self.measurements[-1][2] / ticks * 1e6 if ticks else None

    def rss_mib(self):
        """Returns the median of the last half, and the peak."""
        rss = [one[4] for one in self.measurements]
        return statistics.median(rss[len(rss) // 2 :]) / 2**20, max(rss) / 2**20

    def maps_mib(self):
        return (
            sum(m.get("bytes_memlock", 0) for m in cost.bpftool("map") if m["id"] in self.maps)
            / 2**20
        )

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
    """Returns CPU seconds of a process and its exited children, and resident bytes."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK"), int(
            fields[21]
        ) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0, 0  # it has just exited


def agent(work, name, lines, before=(), disk=None):
    """Starts an agent with directories of its own and these lines in its configuration. `disk`: where
    its store and spool are, if not beside the rest."""
    place = f"{work}/{name}"
    disk = disk or place
    os.mkdir(place)
    with open(f"{place}/everytick.toml", "w") as file:
        file.write(f'[agent]\nlisten = "127.0.0.1:0"\ncache_dir = "{place}/cache"\n{lines}\n')
        file.write(
            f'[store]\nenabled = true\ndirectory = "{disk}/store"\n[spool]\ndirectory = "{disk}/spool"\n'
        )
    return Profiler(
        [*before, EVERYTICK, "agent", "--config", f"{place}/everytick.toml"], f"{place}/log"
    )


def metrics(work, name, by_label=False):
    """Returns the metrics of an agent: values by name, summed over all labels or one for each."""
    with open(f"{work}/{name}/log") as file:
        address = re.search(r"serving.*address=(\S+)", re.sub(r"\x1b\[[0-9;]*m", "", file.read()))[
            1
        ]
    values = {}
    for line in urllib.request.urlopen(f"http://{address}/metrics").read().decode().splitlines():
        if not line.startswith("#"):
            metric, value = line.rsplit(" ", 1)
            metric = metric if by_label else metric.split("{")[0]
            values[metric] = values.get(metric, 0) + float(value)
    return values


def export(work, name, seconds=3600):
    """Exports the last seconds of an agent's store, without its last window, and compares with Go's sum."""
    store, out = f"{work}/{name}/store", f"{work}/{name}.pb.gz"
    windows = sorted(file for file in os.listdir(store) if file.endswith(".pb.gz"))
    begun = [
        datetime.datetime.strptime(file, "%Y%m%dT%H%M%S.%fZ.pb.gz").replace(tzinfo=datetime.UTC)
        for file in windows
    ]
    first = next(at for at in begun if at > begun[-1] - datetime.timedelta(seconds=seconds))
    between = f"{first.isoformat()}..{begun[-1].isoformat()}".replace("+00:00", "Z")
    subprocess.run(
        [
            EVERYTICK,
            "agent",
            "--config",
            f"{work}/{name}/everytick.toml",
            "--export",
            between,
            "-o",
            out,
        ],
        check=True,
        capture_output=True,
    )
    inside = [f"{store}/{file}" for file, at in zip(windows, begun) if first <= at < begun[-1]]
    ours, gos = summed_by_go([out]), summed_by_go(inside)
    assert ours == gos, f"the export has {ours}, Go's sum of its windows {gos}"
    print(
        f"\nThe export of {name} equals Go's sum of its {len(inside)} windows: {ours}", flush=True
    )


def summed_by_go(profiles):
    """Returns the totals line of `go tool pprof` for profiles together."""
    top = ["go", "tool", "pprof", "-top", "-nodecount=1", "-sample_index=cpu", *profiles]
    output = subprocess.run(top, capture_output=True, text=True, check=True).stdout
    return next(line for line in output.splitlines() if line.startswith("Duration"))


def watch(watched, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(MEASURE_INTERVAL)
        for one in watched:
            one.measure()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--hz", type=int, action="append")
    parser.add_argument("--processes", type=int, default=500)
    arguments = parser.parse_args()
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    print(
        "| Hz | profiler | CPU, all % | CPU, later % | of it BPF % | us/tick | RSS MiB | peak MiB | maps MiB | MB per CPU and hour |"
    )
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    with cost.bpf_stats(), tempfile.TemporaryDirectory() as work:
        busy = [
            [chain.compile(f"{work}/chain{depth}", depth, frame_pointers=False)]
            for depth in (30, 150)
        ]
        with scale.load(work, arguments.processes, busy):
            compare(arguments.hz or [19, 99], arguments.minutes, receiver.server_port, work)


def compare(rates, minutes, port, work):
    """Runs all profilers at all frequencies at the same time."""
    running, seconds = {}, int(minutes * 60)
    try:
        for hz in rates:
            sink = f'[sinks.peer]\ntype = "otlp"\nprotocol = "http"\nurl = "http://127.0.0.1:{port}/{hz}"'
            running[hz, "everytick agent"] = agent(
                work, f"everytick{hz}", f"frequency = {hz}\n{sink}"
            )
            perf = [
                "perf",
                "record",
                "-q",
                "-e",
                "cpu-clock",
                "-F",
                str(hz),
                "-a",
                "-g",
                "-o",
                f"{work}/perf{hz}.data",
            ]
            running[hz, "perf record -g"] = Profiler(perf, f"{work}/perf{hz}.log")
            if shutil.which("lightswitch"):
                cost.prepare_lightswitch()
                until = str(seconds + 120)
                command = [
                    "lightswitch",
                    "-D",
                    until,
                    "--sample-freq",
                    str(cost.prime(hz)),
                    "--profile-format",
                    "pprof",
                ]
                command += ["--profile-path", work, "--profile-name", f"l{hz}.pb"]
                running[hz, "lightswitch"] = Profiler(command, f"{work}/lightswitch{hz}.log")
        watch(running.values(), seconds)
        for (hz, profiler), watched in running.items():
            sent = {
                "everytick agent": Receiver.received.get(f"/{hz}", 0),
                "perf record -g": os.path.getsize(f"{work}/perf{hz}.data"),
            }
            report(hz, profiler, watched, sent.get(profiler))
        for hz in rates:
            own_metrics(hz, running[hz, "everytick agent"], work)
        for hz in rates:
            export(work, f"everytick{hz}", 300)
    finally:
        for watched in running.values():
            watched.stop()


def own_metrics(hz, watched, work):
    """Prints an agent's own metrics, and the growth of its store."""
    values = metrics(work, f"everytick{hz}")
    stored = sum(file.stat().st_size for file in os.scandir(f"{work}/everytick{hz}/store"))
    hours = watched.measurements[-1][0] / 3600 * os.cpu_count()
    print(
        f"\nOwn metrics of the agent at {hz} Hz: {100 * values['everytick_budget_cpu_ratio']:.3f} % of total CPU capacity in its last window, "
        f"{values['everytick_sampling_frequency_hertz']:.0f} Hz, {values['everytick_samples_total']:,.0f} samples, {values['everytick_samples_lost_total']:.0f} lost, "
        f"{values['everytick_budget_memory_bytes'] / 2**20:.1f} MiB in total; its store grows by {stored / hours / 1e6:.2f} MB per CPU and hour.",
        flush=True,
    )


def report(hz, profiler, watched, sent):
    (whole, _), (later, bpf) = watched.share(), watched.share(begin=60)
    rss, peak = watched.rss_mib()
    hours = watched.measurements[-1][0] / 3600 * os.cpu_count()
    tick = watched.tick_us()
    cells = [
        f"{whole:.3f}",
        f"{later:.3f}",
        f"{bpf:.3f}" if tick else "-",
        f"{tick:.1f}" if tick else "-",
        f"{rss:.1f}",
        f"{peak:.1f}",
    ]
    cells += [
        f"{watched.maps_mib():.1f}" if tick else "-",
        f"{sent / hours / 1e6:.2f}" if sent else "-",
    ]
    print(f"| {hz} | {profiler} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
