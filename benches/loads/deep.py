"""Works below a number of functions of Python: deep.py DEPTH."""

import sys


def work():
    number = 1
    for _ in range(2_000_000):
        number = number * 31 % 1009


def deeper(depth):
    if depth > 0:
        deeper(depth - 1)
    else:
        while True:
            work()


sys.setrecursionlimit(10_000)
deeper(int(sys.argv[1]) - 3)  # <module>, the last `deeper`, work
