"""Executes other interpreters in the same process: `executes.py [PYTHON...]`.

The pid stays, and code objects of the next interpreter may lie where those of the last one were.
Without arguments the program executes its own interpreter once more.
"""

import os
import sys

from known import INTERPRETER, between, run, spin


def first():
    executes("first program")


def executes(name):
    spin(name)
    rest = sys.argv[1:]
    if not rest:
        rest = [INTERPRETER]
    if rest[0] != "last":
        next_arguments = [rest[0], os.path.abspath(__file__)] + (rest[1:] or ["last"])
        between(os.execv, rest[0], next_arguments)


def last():
    again("last program")


def again(name):
    spin(name)


if __name__ == "__main__":
    run(last if sys.argv[1:] == ["last"] else first)
