"""Functions of C that take CPU time: some hold the lock of the interpreter, others release it."""

import hashlib
import re
import sys
import zlib

from known import run, window

DATA = bytes(range(256)) * 4096
NUMBERS = list(range(20000))
PATTERN = re.compile("(a+)+b")


def holds():
    adds()
    matches()
    sorts()
    multiplies()
    joins()


def adds():
    for _ in window("sum", sys._getframe()): sum(NUMBERS)  # fmt: skip


def matches():
    for _ in window("regular expression", sys._getframe()): PATTERN.match("a" * 16)  # fmt: skip


def sorts():
    for _ in window("sort", sys._getframe()): NUMBERS.sort()  # fmt: skip


def multiplies():
    for _ in window("integers", sys._getframe()): 3**20000  # fmt: skip


def joins():
    for _ in window("text", sys._getframe()): " ".join(map(str, NUMBERS)).split()  # fmt: skip


def releases():
    compresses()
    sums_up()
    hashes()


def compresses():
    for _ in window("zlib.compress", sys._getframe(), "0:libz"): zlib.compress(DATA)  # fmt: skip


def sums_up():
    for _ in window("zlib.crc32", sys._getframe(), "0:libz"): zlib.crc32(DATA)  # fmt: skip


def hashes():
    for _ in window("hashlib", sys._getframe()): hashlib.sha256(DATA)  # fmt: skip


if __name__ == "__main__":
    run(holds, releases)
