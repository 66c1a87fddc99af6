"""Shares of functions in real programs of Python, beside those that py-spy finds.

Both profile the same process at the same time; py-spy does not stop it. A share is that of the
samples whose stack has the function, of all samples with Python frames. py-spy takes a sample of
each thread that it does not find idle, also when the thread waits for a CPU; samples of both whose
innermost function waits do not count.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter

from pythons import TOOLS

LOADS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "loads")
# Made by `./dev setup runtimes`.
ENVIRONMENT = f"{TOOLS}/runtimes"
PYSPY = f"{ENVIRONMENT}/bin/py-spy"
SECONDS, HZ = 15, 250
PORT = 18123
# Functions with a smaller share are not compared.
SHARE_MIN = 1
# Functions of the library that wait: py-spy finds some of their threads busy.
WAITING = {"select", "poll", "accept", "readinto", "wait"}
FRAME = re.compile(r"(.+) \((.+):\d+\)$")
HEADER = (
    "| CPython | program | samples | samples of py-spy | functions | largest difference, points "
    "| of | mean, points |\n|---|---|---:|---:|---:|---:|---|---:|\n"
)


def loads():
    """Returns the programs that every interpreter can run: name, arguments, whether it serves."""
    return [
        ("JSON", [f"{LOADS}/json_loop.py"], False),
        ("http.server", [f"{LOADS}/web_server.py", str(PORT)], True),
    ]


def packaged_loads():
    """Returns the programs that need packages of the environment."""
    gunicorn = ["-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{PORT}", "--chdir", LOADS]
    flask = ["-m", "flask", "--app", f"{LOADS}/web_server.py", "run", "-p", str(PORT)]
    tests = ["-p", "no:cacheprovider", f"{LOADS}/test_many.py"]
    again = f"import pytest; [pytest.main({tests}) for _ in iter(int, 1)]"
    return [
        ("numpy", [f"{LOADS}/numpy_loop.py"], False),
        ("pandas", [f"{LOADS}/numpy_loop.py", "pandas"], False),
        ("pytest", ["-c", again], False),
        ("Flask", flask, True),
        ("gunicorn", [*gunicorn, "web_server:app"], True),
    ]


def family(pid):
    """Returns a process and all its descendants."""
    found = {pid}
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()[1:]]
    for child, parent in sorted(pairs):
        if parent in found:
            found.add(child)
    return found


def add(stacks, frames, count):
    """Adds samples with these functions, innermost first, unless they wait."""
    if frames and frames[0][0].rsplit(".", 1)[-1] not in WAITING:
        stacks[frozenset(frames)] += count


def ours(samples, pids):
    """Returns the stacks of our recording: sets of functions with their samples."""
    stacks = Counter()
    for sample in samples:
        if sample.labels.get("pid") in pids:
            frames = [frame for frame in sample.frames if frame.is_python]
            functions = [(frame.name, os.path.basename(frame.file)) for frame in frames]
            add(stacks, functions, sample.count)
    return stacks


def theirs(pid, work):
    """Returns the stacks of py-spy in the same form."""
    path = f"{work}/pyspy.txt"
    options = ["-d", str(SECONDS), "-r", str(HZ), "-f", "raw", "--subprocesses", "--nonblocking"]
    command = [PYSPY, "record", "-p", str(pid), *options, "-o", path]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return None
    stacks = Counter()
    with open(path) as file:
        for line in file:
            stack, count = line.rstrip("\n").rsplit(" ", 1)
            found = [FRAME.match(text) for text in stack.split(";")]
            frames = [(each[1], os.path.basename(each[2])) for each in found if each]
            add(stacks, frames[::-1], int(count))
    return stacks


def shares(stacks):
    """Returns the share of each function in %."""
    total, counts = sum(stacks.values()), Counter()
    for functions, count in stacks.items():
        counts.update(dict.fromkeys(functions, count))
    return {function: 100 * count / total for function, count in counts.items()}


def row(title, name, command, serves, work, recording):
    """Runs a program and returns its row."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    program = subprocess.Popen(command, cwd=work, start_new_session=True, **quiet)
    client = [sys.executable, f"{LOADS}/web_client.py", str(PORT)]
    clients = [subprocess.Popen(client, **quiet)] if serves else []
    try:
        time.sleep(2)  # start-up is over
        running = recording(f"{work}/ours.pb.gz")
        their_stacks = theirs(program.pid, work)
        our_stacks = ours(running.stop(), family(program.pid))
    finally:
        for process in clients:
            process.kill()
            process.wait()
        for pid in family(program.pid):
            subprocess.run(["kill", "-9", str(pid)], **quiet)
        program.wait()
    if not their_stacks or not our_stacks:
        who = "py-spy" if our_stacks else "everytick"
        return f"| {title} | {name} | {sum(our_stacks.values()):,} | - | - | - | {who} failed | - |"
    mine, other = shares(our_stacks), shares(their_stacks)
    compared = [
        function
        for function in {*mine, *other}
        if max(mine.get(function, 0), other.get(function, 0)) >= SHARE_MIN
    ]
    differences = {each: abs(mine.get(each, 0) - other.get(each, 0)) for each in compared}
    worst = max(differences, key=differences.get)
    return (
        f"| {title} | {name} | {sum(our_stacks.values()):,} | {sum(their_stacks.values()):,} "
        f"| {len(compared)} | {differences[worst]:.2f} | `{worst[0]}` {mine.get(worst, 0):.1f}, "
        f"{other.get(worst, 0):.1f} | {sum(differences.values()) / len(differences):.2f} |"
    )


def dumped(pid):
    """Returns the functions of a stopped process as `py-spy dump` has them: name, file, line."""
    command = [PYSPY, "dump", "-p", str(pid), "--json", "--nonblocking"]
    done = subprocess.run(command, capture_output=True, text=True)
    threads = json.loads(done.stdout) if done.returncode == 0 else []
    frames = threads[0]["frames"] if threads else []
    return [(each["name"], os.path.basename(each["filename"]), each["line"]) for each in frames]


def dump_row(title, python, work, recording):
    """Returns a row: how many samples have the functions of `py-spy dump`. The innermost one goes
    through two lines, so its line does not count."""
    program = subprocess.Popen([python, "-I", f"{LOADS}/deep.py", "200"], cwd=work)
    try:
        time.sleep(1)
        running = recording(f"{work}/dump.pb.gz", "-p", str(program.pid))
        time.sleep(1)
        samples = running.stop()
        program.send_signal(signal.SIGSTOP)
        theirs = dumped(program.pid)
    finally:
        program.kill()
        program.wait()
    all, equal = 0, 0
    for sample in samples:
        frames = [frame for frame in sample.frames if frame.is_python]
        ours = [
            (frame.name.rsplit(".", 1)[-1], os.path.basename(frame.file), frame.line)
            for frame in frames
        ]
        is_equal = [each[:2] for each in ours] == [each[:2] for each in theirs]
        all, equal = all + sample.count, equal + sample.count * (
            is_equal and ours[1:] == theirs[1:]
        )
    share = f"{100 * equal / max(all, 1):.2f}" if theirs else "py-spy failed"
    return f"| {title} | {all:,} | {len(theirs)} | {share} |"


DUMPS = (
    "| CPython | samples of a stopped process | functions of `py-spy dump` | equal % |\n"
    "|---|---:|---:|---:|\n"
)


def tables(interpreters, work, recording):
    """Returns the tables: shares of functions for each interpreter, then for the programs that need
    packages, and the stacks of stopped processes."""
    if not os.path.exists(PYSPY):
        sys.exit("runtimes.py: py-spy is missing: run ./dev setup runtimes")
    jobs = [(each.title, each.path, load) for each in interpreters for load in loads()]
    jobs += [("environment", f"{ENVIRONMENT}/bin/python", load) for load in packaged_loads()]
    rows = []
    for title, path, (name, arguments, serves) in jobs:
        rows.append(row(title, name, [path, *arguments], serves, work, recording))
        print(rows[-1], file=sys.stderr)
    dumps = [dump_row(each.title, each.path, work, recording) for each in interpreters]
    return HEADER + "\n".join(rows) + "\n\n" + DUMPS + "\n".join(dumps) + "\n"
