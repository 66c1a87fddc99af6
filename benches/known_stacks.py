"""Compares samples with the stacks that programs of tests/programs/python have written.

The same comparison in Rust is in tests/common/python.rs, which explains it.
"""

import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from pprof_reader import Frame

PROGRAMS = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests/programs/python"
)
# Functions of known.py that run between windows.
HARNESS = {"<module>", "window", "write_stack", "between", "warm_up", "wait", "rest"}
# Bytes that are read of a text, in the width of its widest character.
TEXT_BYTES_MAX = 256


@dataclass
class KnownStack:
    """A stack that a program has written: innermost frame first."""

    window: str
    natives: list
    is_deep: bool
    frames: list


@dataclass
class Score:
    """The samples of a program."""

    all: int = 0
    exact: int = 0
    wrong: Counter = field(default_factory=Counter)
    examples: dict = field(default_factory=dict)
    windows: Counter = field(default_factory=Counter)

    def add(self, other):
        self.all, self.exact = self.all + other.all, self.exact + other.exact
        self.wrong += other.wrong
        self.windows += other.windows
        self.examples = {**other.examples, **self.examples}

    def share(self):
        return f"{100 * self.exact / self.all:.2f}" if self.all else "-"


def read_stacks(path):
    """Returns the stacks of a file by pid and tid."""
    stacks = defaultdict(list)
    with open(path, encoding="utf-8") as file:
        for text in file.read().splitlines():
            pid, tid, window, natives, *rest = text.split("\t")
            frames = [
                Frame("[python]", name, source, int(first), int(line))
                for name, source, first, line in zip(*[iter(rest)] * 4)
            ]
            words = [word.split(":", 1) for word in natives.split() if ":" in word]
            expected = [(int(at), word) for at, word in words]
            others = stacks[int(pid), int(tid)]
            # Windows with the same stack are one.
            if frames and all(other.frames != frames for other in others):
                others.append(KnownStack(window, expected, natives == "deep", frames))
    return stacks


def is_beyond_table(name):
    """Returns whether a function may be in a position that no line is known of."""
    return name.endswith("beyond_table")


def beginning(text):
    """Returns a name as it is shown: of a long one its beginning."""
    shown, size = shown_characters(text)
    return text if shown is None else f"{text[:shown]}...[{size} bytes]"


def end(text):
    """Returns a file name as it is shown: of a long one its end."""
    shown, size = shown_characters(text)
    return text if shown is None else f"[{size} bytes]...{text[-shown:]}"


def shown_characters(text):
    """Returns how many characters of a text are shown, or None for all, and the bytes that the
    interpreter has it in."""
    highest = max(map(ord, text), default=0)
    width = 1 if highest < 0x100 else 2 if highest < 0x10000 else 4
    size = len(text) * width
    return (TEXT_BYTES_MAX // width if size > TEXT_BYTES_MAX else None), size


def is_frame(frame, known):
    """Returns whether a frame is the one that a program has written."""
    is_line = frame.line == known.line or (frame.line == 0 and is_beyond_table(known.name))
    texts = (beginning(known.name), end(known.file))
    return is_line and frame.first_line == known.first_line and (frame.name, frame.file) == texts


def runs(frames):
    """Returns the native frames inside of the first Python frame, between it and the next, ..."""
    found = [[]]
    for frame in frames:
        if frame.is_python:
            found.append([])
        else:
            found[-1].append(frame)
    return found


def matches(frame, word):
    return frame.name == word or frame.mapping.startswith(word)


def native_fault(known, sample):
    """Returns what is wrong with the native frames of a sample, or None."""
    if known.is_deep:
        return None
    if "cut" in sample.labels:
        return f"cut: {sample.labels['cut']}"
    if sample.frames[-1].is_python:
        return "outermost frame is Python"
    for at, natives in enumerate(runs(sample.frames)):
        expected = [word for place, word in known.natives if place == at and at > 0]
        rest = iter(natives)
        if not all(any(matches(frame, word) for frame in rest) for word in expected):
            return "native frame missing between Python frames"
        is_between = 0 < at < len(known.frames)
        if is_between and not expected and any(matches(frame, "libc.so") for frame in natives):
            return "C library between Python frames"
    return None


def python_fault(frames, stacks):
    """Returns how Python frames differ from the most similar of the known stacks."""
    if not frames:
        return "no Python frame"
    if any(not frame.name or frame.name.startswith("[") for frame in frames):
        return "frame without a name"
    same_names = [
        known
        for known in stacks
        if [frame.name for frame in known.frames] == [frame.name for frame in frames]
    ]
    if same_names:
        return "wrong line"
    if any(len(known.frames) > len(frames) for known in stacks):
        return "frames missing or others"
    return "other frames"


def is_harness(frames):
    return any(frame.name in HARNESS and frame.file.endswith("/known.py") for frame in frames)


def is_in_program(frames):
    """Returns whether the innermost frame is in code of a program, not of the library."""
    file = frames[0].file if frames else "/"
    return file.startswith(PROGRAMS) or not ("/" in file or file.startswith("<frozen"))


def score(samples, stacks, starts_interpreters=False, functions=()):
    """Scores the samples of the threads that have written stacks. If there are beginnings of
    functions, only samples with one of them count."""
    result = Score()
    for sample in samples:
        all_known = stacks.get((sample.labels.get("pid"), sample.labels.get("tid")))
        frames = [frame for frame in sample.frames if frame.is_python]
        if not all_known or is_harness(frames):
            continue
        if starts_interpreters and not is_in_program(frames):
            continue
        if functions and not any(frame.name.startswith(functions) for frame in frames):
            continue

        def is_of(known):
            pairs = zip(frames, known.frames)
            return len(frames) == len(known.frames) and all(is_frame(*pair) for pair in pairs)

        known = next(filter(is_of, all_known), None)
        fault = native_fault(known, sample) if known else python_fault(frames, all_known)
        result.all += sample.count
        if known:
            result.windows[known.window] += sample.count
        if fault:
            result.wrong[fault] += sample.count
            result.examples.setdefault(fault, sample)
        else:
            result.exact += sample.count
    return result


def describe(sample):
    """Returns the frames of a sample as text, innermost first, equal ones once."""
    texts = []
    for frame in sample.frames:
        base = frame.file.rsplit("/", 1)[-1]
        text = f"{frame.name} ({base}:{frame.line})" if frame.is_python else f"[{frame.name}]"
        if not texts or texts[-1] != text:
            texts.append(text)
    return " < ".join(texts)
