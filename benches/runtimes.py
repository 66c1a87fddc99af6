#!/usr/bin/env python3
"""How exact frames of Python are, by version of CPython, for docs/runtimes.md.

    ./dev runtimes [--only 3.11]... [--program NAME]... [--window SECONDS] [--storm] [--pyspy]
                   [--list] [-o FILE]

Each interpreter of this machine runs the programs of tests/programs/python, which write their own
stacks and hold them. A sample is exact if its Python frames are the written ones, from the first to
the last, with function, file, first line and line, and its native frames are where the program
expects them. The whole machine is recorded, once for each interpreter.

--storm measures processes of 20 ms instead, and --pyspy compares shares of functions with those of
py-spy. Needs root. Interpreters are those of pyenv, of the system and in $EVERYTICK_TOOLS/pythons.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import known_stacks
import pprof_reader
import pythons
import runtimes_pyspy
from known_stacks import PROGRAMS, Score
from storm import LAUNCHER, compile_c

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EVERYTICK = os.environ.get("EVERYTICK", f"{REPOSITORY}/target/release/everytick")
HZ = 997
# Seconds for which a process works before its first window, so that it is known by then.
WARM_UP = 0.3
# Seconds after which a program that hangs is killed.
PROGRAM_MAX = 240


@dataclass
class Program:
    """A program, and how its samples are judged: see `known_stacks.score`."""

    name: str
    command: str
    starts_interpreters: bool = False
    functions: tuple = ()


ALL = [
    Program("functions", "plain.py"),
    Program("generators", "generators.py"),
    Program("exceptions", "exceptions.py"),
    Program("callbacks", "callbacks.py"),
    Program("C code", "c_code.py"),
    Program("threads", "threads.py"),
    Program("names", "names.py"),
    Program("reused addresses", "marks.py", functions=("mark_", "twin_")),
    Program("reload", "reload.py", functions=("mark_",)),
    Program("fork", "forks.py fork"),
    Program("pool", "forks.py pool", starts_interpreters=True),
    Program("spawn", "forks.py spawn", starts_interpreters=True),
    Program("exec", "executes.py", starts_interpreters=True),
    Program("sub-interpreters", "subinterpreters.py", starts_interpreters=True),
]
EMBEDDED = ["main", "string", "call", "thread", "again"]


def compile_embedding(interpreter, work):
    """Compiles the program that embeds an interpreter. Returns its path, or None."""
    if not interpreter.config:
        return None
    flags = []
    for more in (["--embed"], []):  # 3.7 has no --embed
        command = [interpreter.config, *more, "--includes", "--ldflags"]
        asked = subprocess.run(command, capture_output=True, text=True)
        if asked.returncode == 0:
            flags = asked.stdout.split()
            break
    library = os.path.join(os.path.dirname(os.path.dirname(interpreter.config)), "lib")
    path = f"{work}/embed"
    build = ["gcc", "-g", "-O1", "-pthread", f"{PROGRAMS}/embed.c", "-o", path, *flags]
    build += ["-Wl,--no-as-needed", f"-Wl,-rpath,{library}"]
    made = subprocess.run(build, capture_output=True, text=True)
    if made.returncode != 0:
        print(f"{interpreter.title}: embedding: {made.stderr.strip()[-300:]}", file=sys.stderr)
    return path if made.returncode == 0 else None


class Running:
    """A program that waits until its windows may begin."""

    def __init__(self, command, work, number, window, **variables):
        self.stacks = f"{work}/stacks{number}"
        environment = {**os.environ, "STACKS": self.stacks, "WINDOW_SECONDS": str(window)}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        environment["WARM_UP_SECONDS"] = environment["CHILD_START_SECONDS"] = str(WARM_UP)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=work,
            env={**environment, **variables},
        )

    def written(self):
        """Returns what it has written so far."""
        try:
            with open(self.stacks, encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def is_ready(self):
        """Waits until the program waits. Returns whether it does."""
        while self.process.poll() is None:
            if "\tready\t" in self.written():
                return True
            time.sleep(0.02)
        return False

    def run_windows(self):
        """Lets it run its windows. Returns why it failed, if it did."""
        try:
            self.process.stdin.write(b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        end = time.monotonic() + PROGRAM_MAX
        while self.process.poll() is None:
            if "\tdone\t" in self.written():
                return None
            if time.monotonic() > end:
                self.process.kill()
                return "hangs"
            time.sleep(0.02)
        lines = self.process.stderr.read().decode(errors="replace").strip().splitlines() or [""]
        return f"failed: {lines[-1][:80]}" if self.process.returncode else None

    def finish(self):
        """Lets it end."""
        self.process.stdin.close()
        self.process.wait()


class Recording:
    """A recording of the whole machine."""

    def __init__(self, path, *arguments):
        self.path, self.log = path, open(f"{path}.log", "w+")
        options = ["-F", str(HZ), "--no-kernel", "--tick-limit", "50000", "-o", path]
        command = [EVERYTICK, "record", *options, *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=self.log)
        while not self.is_sampling():
            if self.process.poll() is not None:
                self.fail()
            time.sleep(0.05)

    def is_sampling(self):
        """Returns whether the clocks run: then there is a thread of this name."""
        tasks = f"/proc/{self.process.pid}/task"
        try:
            names = [open(f"{tasks}/{tid}/comm").read().strip() for tid in os.listdir(tasks)]
        except OSError:
            return False
        return "processor" in names

    def stop(self):
        """Ends the recording. Returns its samples."""
        self.process.send_signal(signal.SIGINT)
        if self.process.wait() not in (0, 3):
            self.fail()
        return pprof_reader.read(self.path)

    def fail(self):
        self.log.seek(0)
        sys.exit(f"runtimes.py: everytick record failed:\n{self.log.read()}")


def measure(interpreter, programs, work, window):
    """Records all programs with an interpreter. Returns a score, or a text, for each name."""
    running = {}
    for number, program in enumerate(programs):
        file, *arguments = program.command.split()
        command = [interpreter.path, f"{PROGRAMS}/{file}", *arguments]
        again = {"INTERPRETER": interpreter.path}
        running[program.name] = (program, Running(command, work, number, window, **again))
    embedding = compile_embedding(interpreter, work)
    for how in EMBEDDED if embedding else []:
        program = Program("embedded", how, starts_interpreters=True)
        command = [embedding, how, f"{PROGRAMS}/embedded.py"]
        paths = {"PYTHONPATH": PROGRAMS, "PYTHONHOME": prefix(interpreter)}
        running[f"embedded {how}"] = (program, Running(command, work, how, window, **paths))
    if interpreter.origin == "Debian" and shutil.which("gdb"):
        command = ["gdb", "-batch", "-nx", "-x", f"{PROGRAMS}/embedded.py"]
        variables = {"PYTHONPATH": PROGRAMS, "NATIVES": ""}
        program = Program("gdb", "gdb", starts_interpreters=True)
        running["gdb"] = (program, Running(command, work, "gdb", window, **variables))
    ready = {name: each.is_ready() for name, (_, each) in running.items()}
    recording = Recording(f"{work}/out.pb.gz")
    failures = {name: each.run_windows() for name, (_, each) in running.items()}
    samples = recording.stop()
    for _, each in running.values():
        each.finish()
    scores = {}
    for name, (program, each) in running.items():
        if failures[name] or not ready[name]:
            scores[name] = failures[name] or "ended early"
            continue
        stacks = known_stacks.read_stacks(each.stacks)
        how = (program.starts_interpreters, program.functions)
        scores[name] = known_stacks.score(samples, stacks, *how)
        missing = {known.window for all in stacks.values() for known in all}
        missing -= set(scores[name].windows)
        if missing and not program.functions:
            scores[name].wrong[f"windows without a sample: {len(missing)}"] = 0
    return joined(scores)


def prefix(interpreter):
    """Returns the directory of the library of an interpreter."""
    command = [interpreter.path, "-I", "-c", "import sys; print(sys.base_prefix)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def joined(scores):
    """Adds up the scores of the ways to embed an interpreter."""
    all_scores = {name: each for name, each in scores.items() if not name.startswith("embedded ")}
    for name, each in scores.items():
        if name.startswith("embedded ") and isinstance(each, Score):
            all_scores.setdefault("embedded", Score()).add(each)
        elif name.startswith("embedded "):
            print(f"{name}: {each}", file=sys.stderr)
    return all_scores


def table(measured):
    """Returns the table of shares, and the lists of what is not exact."""
    names = list(dict.fromkeys(name for scores in measured.values() for name in scores))
    lines = ["| CPython | built | ticks | exact % | " + " | ".join(names) + " |"]
    lines.append("|---|---|---:|---:" + "|---:" * len(names) + "|")
    reasons = []
    for title, scores in measured.items():
        whole, cells = Score(), []
        for name in names:
            score = scores.get(name, "-")
            if isinstance(score, str):
                cells.append("-" if "no module" in score or score == "-" else "failed")
                reasons += [f"- {title}, {name}: {score}"] if score != "-" else []
                continue
            whole.add(score)
            cells.append(score.share())
            for reason, count in score.wrong.most_common():
                example = score.examples.get(reason)
                text = f", such as {known_stacks.describe(example)[:600]}" if example else ""
                reasons.append(f"- {title}, {name}: {count} of {score.all}: {reason}{text}")
        cells = " | ".join(cells)
        lines.append(f"| {title.built_title} | {whole.all:,} | {whole.share()} | {cells} |")
    return "\n".join(lines) + "\n\nwhat is not exact:\n" + "\n".join(reasons) + "\n"


class Title(str):
    """The title of an interpreter, which sorts and prints as text."""

    built_title = ""


def titled(interpreter):
    title = Title(interpreter.title)
    title.built_title = f"{interpreter.title} | {interpreter.built}"
    return title


def storm(interpreter, work, rate, seconds=5):
    """Returns a row for processes of 20 ms: how many of their frames have names and lines."""
    launcher = compile_c(LAUNCHER, f"{work}/launcher", "-w")
    script = f"{work}/short"
    with open(script, "w") as file:
        command = shlex.join([interpreter.path, "-I", "-S", f"{PROGRAMS}/short.py"])
        file.write(f'#!/bin/sh\nexec {command} "$1"\n')
    os.chmod(script, 0o755)
    recording = Recording(f"{work}/storm.pb.gz")
    command = [launcher, str(rate), str(seconds), "20", script]
    started, took = subprocess.run(command, capture_output=True, text=True).stdout.split()
    all, named, whole, working = 0, 0, 0, 0
    for sample in recording.stop():
        frames = [frame for frame in sample.frames if frame.is_python]
        if not frames or not any(frame.file.endswith("short.py") for frame in frames):
            if not frames or not frames[-1].file.startswith("<frozen"):
                continue
        is_named = all_named(frames)
        all, named = all + sample.count, named + sample.count * is_named
        if any(frame.name == "works_inner" for frame in frames):
            names = [frame.name for frame in frames]
            is_whole = is_named and names == ["works_inner", "works", "main", "<module>"]
            working, whole = working + sample.count, whole + sample.count * is_whole
    share = [f"{100 * part / max(of, 1):.2f}" for part, of in ((named, all), (whole, working))]
    return (
        f"| {interpreter.title} | {int(started) / float(took):.0f} | {all:,} | {share[0]} "
        f"| {working:,} | {share[1]} |"
    )


def all_named(frames):
    return all(frame.name and not frame.name.startswith("[") and frame.line > 0 for frame in frames)


STORM = (
    "| CPython | processes a second | samples with frames | named, with lines % "
    "| samples in `works_inner` | whole % |\n|---|---:|---:|---:|---:|---:|\n"
)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", help="the beginning of a version")
    parser.add_argument("--program", action="append", help="a program; may be repeated")
    parser.add_argument("--window", type=float, default=0.3, help="seconds of each stack")
    parser.add_argument("--storm", action="store_true", help="processes of 20 ms")
    parser.add_argument("--rate", type=float, default=200, help="of --storm: processes a second")
    parser.add_argument("--pyspy", action="store_true", help="shares of functions beside py-spy")
    parser.add_argument("--list", action="store_true", help="list interpreters and programs")
    parser.add_argument("-o", "--output", help="write the tables to this file too")
    arguments = parser.parse_args()
    found = pythons.interpreters(arguments.only)
    if arguments.list:
        print("\n".join(f"{each.title}: {each.built}: {each.path}" for each in found))
        return print("\n".join(program.name for program in ALL))
    programs = [each for each in ALL if each.name in (arguments.program or [p.name for p in ALL])]
    text = ""
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        if arguments.storm:
            rows = [storm(each, tempfile.mkdtemp(dir=work), arguments.rate) for each in found]
            text = STORM + "\n".join(rows) + "\n"
        elif arguments.pyspy:
            text = runtimes_pyspy.tables(found, work, Recording)
        else:
            measured = {}
            for each in found:
                place = tempfile.mkdtemp(dir=work)
                measured[titled(each)] = measure(each, programs, place, arguments.window)
                print(f"{each.title}: done", file=sys.stderr)
            text = table(measured)
    print(text)
    if arguments.output:
        with open(arguments.output, "w") as file:
            file.write(text)


if __name__ == "__main__":
    main()
