#!/usr/bin/env python3
"""Whether the agent keeps to its budget when that is too small for the load.

    ./dev bench-budget [--minutes M]

On each CPU something compiles in a loop, by g++, clang++ and rustc in turn, and node runs beside:
large executables, and many of them. Two agents profile that at the same time:

  cpu      max_cpu = 0.05 at 99 Hz; measured from outside, as in bench-agent, from the second minute on
  memory   max_memory = "64MiB", in a memory cgroup of 64 MiB that kills what exceeds it

Prints their shares of each minute, then the CPU time in the first agent's windows, which is that of
the machine while they were filled, whatever the sampling rate. Needs root.
"""

import argparse
import os
import shutil
import tempfile
import time

import agent
import cost
import scale

LIMIT = 64 << 20
# Directory of memory cgroups and name of the limit: a hierarchy of its own (v1), or the only one (v2).
CGROUPS = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]

RUST = "use std::collections::HashMap; fn main() { let m: HashMap<String, Vec<u8>> = HashMap::new(); println!(\"{m:?}\"); }"
NODE = "const m = new Map(); for (let i = 0; ; i++) { m.set(i % 1000, JSON.stringify({ i })); }"


def cgroup():
    """Creates a memory cgroup with the limit."""
    root, limit = next(
        (root, limit) for root, limit in CGROUPS if os.path.exists(f"{root}/cgroup.procs")
    )
    path = f"{root}/everytick-bench-{os.getpid()}"
    os.mkdir(path)
    with open(f"{path}/{limit}", "w") as file:
        file.write(str(LIMIT))
    return path


def builds(work):
    """Returns commands that compile in a loop, and a busy node."""
    with open(f"{work}/all.cc", "w") as file:
        file.write(cost.CPP)
    with open(f"{work}/all.rs", "w") as file:
        file.write(RUST)
    compilers = [
        f"g++ -std=c++17 -O1 -c {work}/all.cc -o {work}/$$.o",
        f"rustc -O {work}/all.rs --out-dir {work}/$$.out",
    ]
    if shutil.which("clang++"):
        compilers.append(f"clang++ -std=c++17 -O1 -c {work}/all.cc -o {work}/$$.o")
    loop = f"while :; do {'; '.join(compilers)}; done"
    return [["sh", "-c", loop]] * os.cpu_count() + [["node", "-e", NODE]] * bool(
        shutil.which("node")
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=6)
    minutes = parser.parse_args().minutes
    group = cgroup()
    try:
        with cost.bpf_stats(), tempfile.TemporaryDirectory() as work, scale.load(
            work, 500, builds(work)
        ):
            watch(minutes, group, work)
    finally:
        time.sleep(1)
        os.rmdir(group)


def watch(minutes, group, work):
    inside = ["sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh"]
    agents = {
        "cpu": agent.agent(work, "cpu", "frequency = 99\nmax_cpu = 0.05"),
        "memory": agent.agent(work, "memory", 'max_memory = "64MiB"', inside),
    }
    print(
        "| minute | agent | CPU % of capacity | Hz | RSS and maps MiB, own metric | RSS MiB | maps MiB |\n|---:|---|---:|---:|---:|---:|---:|"
    )
    try:
        for minute in range(minutes):
            agent.watch(agents.values(), 60)
            for name, watched in agents.items():
                row(minute + 1, name, watched, agent.metrics(work, name))
        (later, _), (_, peak) = agents["cpu"].share(begin=60), agents["memory"].rss_mib()
        print(
            f"\nfrom the second minute on {later:.4f} % of total CPU capacity; memory: RSS of {peak:.1f} MiB at most, maps of {agents['memory'].maps_mib():.1f}"
        )
    finally:
        for watched in agents.values():
            watched.stop()
    agent.export(work, "cpu")


def row(minute, name, watched, values):
    share, _ = watched.share(begin=watched.measurements[-1][0] - 61)
    own = values["everytick_budget_memory_bytes"] / 2**20
    hz = values["everytick_sampling_frequency_hertz"]
    print(
        f"| {minute} | {name} | {share:.4f} | {hz:.1f} | {own:.1f} | {watched.measurements[-1][4] / 2**20:.1f} | {watched.maps_mib():.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
