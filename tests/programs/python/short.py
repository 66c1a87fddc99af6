"""A process that ends when it has taken 20 ms of CPU time, its start included, or the time given.

It writes no stack: a process that lives this long is judged by its names, `main`, `works` and
`works_inner`, each of which has a line.
"""

import sys
import time

END = float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.02


def main():
    while time.process_time() < END:
        works(1)


def works(number):
    return works_inner(number + 1) + 1


def works_inner(number):
    for step in range(2000):
        number = number * 31 % 1009
    return number


main()
