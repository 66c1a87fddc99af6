"""Reads profiles as `go tool pprof -raw` prints them."""

import re
import subprocess
from dataclasses import dataclass, field


# Number, path, and perhaps build ID and flags.
MAPPING = re.compile(r"(\d+): 0x\w+/0x\w+/0x\w+ (.*?)(?: [0-9a-f]{8,})?(?: ?\[[A-Z]{2}\])*\s*$")


@dataclass
class Location:
    """An address of an ELF file, the number of its mapping, and the functions there."""

    address: int
    mapping: str
    functions: list = field(default_factory=list)

    @property
    def is_named(self):
        """Returns whether there is more than the file and the address, or the kind of memory."""
        first = self.functions[0] if self.functions else "+0x0"
        return not re.match(r"\S*\+0x[0-9a-f]+ |\[\S+\] |\S*\+0x0$", first)


@dataclass
class Sample:
    """A stack, innermost location first."""

    count: int
    locations: list
    labels: dict = field(default_factory=dict)


class RawProfile:
    """A profile of ours: samples, locations by number, and paths of mappings by number."""

    def __init__(self, path):
        shown = subprocess.run(
            ["go", "tool", "pprof", "-raw", path], check=True, capture_output=True, text=True
        ).stdout
        samples, rest = shown.split("\nLocations\n", 1)
        locations, mappings = rest.split("\nMappings\n", 1)
        self.samples = list(self.read_samples(samples))
        self.locations = dict(self.read_locations(locations))
        self.mappings = dict(self.read_mappings(mappings))

    @staticmethod
    def read_samples(text):
        last = None
        for line in text[text.index("\nSamples:") :].splitlines():
            if found := re.match(r" +(\d+) +\d+: ([\d ]+)$", line):
                if last:
                    yield last
                last = Sample(int(found[1]), found[2].split())
            elif last:
                last.labels |= dict(re.findall(r"(\S+?):\[(.*?)\](?= |$)", line))
        if last:
            yield last

    @staticmethod
    def read_locations(text):
        last = None
        for line in text.splitlines():
            if found := re.match(r" +(\d+): 0x(\w+) M=(\d+) ?(.*)", line):
                last = Location(int(found[2], 16), found[3])
                yield found[1], last
                line = found[4]
            if last and line.strip():
                last.functions.append(line.strip())

    @staticmethod
    def read_mappings(text):
        for line in text.splitlines():
            if found := MAPPING.match(line):
                yield found[1], found[2].strip()
