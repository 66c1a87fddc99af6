"""Reads the samples of a pprof file: gzip and as much of protobuf as the format needs."""

import gzip
from dataclasses import dataclass
from typing import NamedTuple


class Frame(NamedTuple):
    """A frame; `mapping` is the base name of its file, or `[python]`."""

    mapping: str
    name: str
    file: str
    first_line: int
    line: int

    @property
    def is_python(self):
        return self.mapping == "[python]"


@dataclass
class Sample:
    """Equal samples: their frames, innermost first, their labels and their number."""

    frames: list
    labels: dict
    count: int


def varint(data, at):
    """Returns a number and where it ends."""
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(data):
    """Yields the number and the value of each field of a message."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 2:
            length, at = varint(data, at)
            yield key >> 3, data[at : at + length]
            at += length
        else:  # the format has no fields of fixed size
            value, at = varint(data, at)
            yield key >> 3, value


def numbers(value):
    """Returns the numbers of a repeated field, which may be packed."""
    if isinstance(value, int):
        return [value]
    values, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        values.append(number)
    return values


def message(data):
    """Returns the last value of each field."""
    return dict(fields(data))


def tables(data):
    """Returns the messages of each field of a profile."""
    found = {}
    for number, value in fields(data):
        found.setdefault(number, []).append(value)
    return found


def read(path):
    """Returns the samples of a file."""
    with gzip.open(path) as file:
        profile = tables(file.read())
    texts = [text.decode("utf-8", "replace") for text in profile[6]]
    mappings = {}
    for each in map(message, profile.get(3, [])):
        mappings[each.get(1, 0)] = texts[each.get(5, 0)].rsplit("/", 1)[-1]
    functions = {each.get(1, 0): each for each in map(message, profile.get(5, []))}
    locations = {}
    for data in profile.get(4, []):
        each = message(data)  # the last line is the function itself, not one inlined into it
        line = message(each.get(4, b""))
        function = functions.get(line.get(1, 0), {})
        locations[each.get(1, 0)] = Frame(
            mappings.get(each.get(2, 0), ""),
            texts[function.get(2, 0)],
            texts[function.get(4, 0)],
            function.get(5, 0),
            line.get(2, 0),
        )
    return [sample(data, texts, locations) for data in profile.get(2, [])]


def sample(data, texts, locations):
    """Returns a sample of a profile with these texts and locations."""
    ids, values, labels = [], [], {}
    for number, value in fields(data):
        if number == 1:
            ids += numbers(value)
        elif number == 2:
            values += numbers(value)
        elif number == 3:
            label = message(value)
            text = texts[label[2]] if label.get(2) else label.get(3, 0)
            labels[texts[label.get(1, 0)]] = text
    return Sample([locations[id] for id in ids], labels, values[0])
