#!/usr/bin/env python3
"""Whether the agent keeps to its budget when that is too small for the load.

    ./dev bench-budget [--minutes M]

On each CPU something compiles in a loop, by g++, clang++ and rustc in turn, and node runs beside: large executables, and many of them.
Two agents watch that at the same time:

  cpu      max_cpu = 0.05 at 99 Hz; looked at from outside, as in bench-agent, from the second minute on
  memory   max_memory = "64MiB", in a memory cgroup of 64 MiB that kills what goes beyond

Printed are their shares of each minute. Then the CPU time that the first one's windows tell of, which is what the machine has had of it
while they were filled, whatever the pace. Needs root.
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
# Where memory cgroups are: in a hierarchy of their own (v1), or in the one of all (v2); and the name of the limit there.
CGROUPS = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]

RUST = "use std::collections::HashMap; fn main() { let m: HashMap<String, Vec<u8>> = HashMap::new(); println!(\"{m:?}\"); }"
NODE = "const m = new Map(); for (let i = 0; ; i++) { m.set(i % 1000, JSON.stringify({ i })); }"


def cgroup():
    """Makes a memory cgroup of that size."""
    place, limit = next((place, limit) for place, limit in CGROUPS if os.path.exists(f"{place}/cgroup.procs"))
    path = f"{place}/everytick-bench-{os.getpid()}"
    os.mkdir(path)
    with open(f"{path}/{limit}", "w") as file:
        file.write(str(LIMIT))
    return path


def builds(work):
    """Commands that compile for ever, and a busy node."""
    with open(f"{work}/all.cc", "w") as file:
        file.write(cost.CPP)
    with open(f"{work}/all.rs", "w") as file:
        file.write(RUST)
    compilers = [f"g++ -std=c++17 -O1 -c {work}/all.cc -o {work}/$$.o", f"rustc -O {work}/all.rs --out-dir {work}/$$.out"]
    if shutil.which("clang++"):
        compilers.append(f"clang++ -std=c++17 -O1 -c {work}/all.cc -o {work}/$$.o")
    loop = f"while :; do {'; '.join(compilers)}; done"
    return [["sh", "-c", loop]] * os.cpu_count() + [["node", "-e", NODE]] * bool(shutil.which("node"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=6)
    minutes = parser.parse_args().minutes
    place = cgroup()
    try:
        with scale.statistics_of_bpf(), tempfile.TemporaryDirectory() as work, scale.load(work, 500, builds(work)):
            watch(minutes, place, work)
    finally:
        time.sleep(1)
        os.rmdir(place)


def watch(minutes, place, work):
    inside = ["sh", "-c", f'echo $$ > {place}/cgroup.procs; exec "$@"', "sh"]
    agents = {
        "cpu": agent.agent(work, "cpu", "frequency = 99\nmax_cpu = 0.05"),
        "memory": agent.agent(work, "memory", 'max_memory = "64MiB"', inside),
    }
    print("| minute | agent | CPU % of the machine | step | Hz | RSS and maps MiB, as it says | RSS MiB | maps MiB |\n|---:|---|---:|---:|---:|---:|---:|---:|")
    try:
        for minute in range(minutes):
            agent.watch(agents.values(), 60)
            for name, watched in agents.items():
                row(minute + 1, name, watched, agent.metrics(work, name))
        (later, _), (_, peak) = agents["cpu"].share(begin=60), agents["memory"].rss_mib()
        print(f"\nfrom the second minute on {later:.4f} % of the machine; with memory, RSS of {peak:.1f} MiB at most, maps of {agents['memory'].maps_mib():.1f}")
    finally:
        for watched in agents.values():
            watched.stop()
    agent.export(work, "cpu")


def row(minute, name, watched, told):
    share, _ = watched.share(begin=watched.looks[-1][0] - 61)
    says = told["everytick_budget_memory_bytes"] / 2**20
    step, hz = told["everytick_budget_step"], told["everytick_sampling_frequency_hertz"]
    print(f"| {minute} | {name} | {share:.4f} | {step:.0f} | {hz:.1f} | {says:.1f} | {watched.looks[-1][4] / 2**20:.1f} | {watched.maps_mib():.1f} |", flush=True)


if __name__ == "__main__":
    main()
