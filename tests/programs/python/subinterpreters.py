"""Interpreters in an interpreter: their stacks begin anew, and they come and go.

Before 3.12 a thread does not say which interpreter it runs: the stack that is known of it is that of
its first one, which is in a call of `run_string` meanwhile.
"""

import sys
import threading

from known import DIRECTORY, SECONDS, between, run, spin, write_stack

try:
    import _interpreters as interpreters  # 3.13
except ImportError:
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        interpreters = None

HAS_STACK = sys.version_info >= (3, 12)
PREAMBLE = """
import os, sys
sys.path.insert(0, {!r})
import known
if not {}:
    known.STACKS = os.open(os.devnull, os.O_WRONLY)
from known import spin
""".format(DIRECTORY, HAS_STACK)
OUTER = """
def outer_{0}(name):
    inner_{0}(name)

def inner_{0}(name):
    spin(name, "", {1})

outer_{0}({2!r})
"""


def make():
    """Returns an interpreter that has imported all that it needs."""
    interpreter = interpreters.create()
    interpreters.run_string(interpreter, PREAMBLE)
    return interpreter


def execute(number, name, seconds=SECONDS):
    """Runs functions of this number in an interpreter of their own."""
    interpreter = between(make)
    text = OUTER.format(number, seconds, name)
    if HAS_STACK:
        failure = interpreters.run_string(interpreter, text)
    else:
        failure = outside(interpreter, name, text)
    if failure is not None:
        raise RuntimeError(failure)
    between(interpreters.destroy, interpreter)


# fmt: off
def outside(interpreter, name, text):
    return (write_stack(name, sys._getframe(), ""), interpreters.run_string(interpreter, text))[1]
# fmt: on


def one():
    execute(1, "another interpreter")
    spin("the main interpreter again")


def many():
    for number in range(20):
        execute(number, "interpreter {}".format(number), 0.03)


def beside_each_other():
    """With locks of their own (3.12), both run at the same time."""
    threads = [
        threading.Thread(target=execute, args=(number, "thread {}".format(number)))
        for number in (101, 102)
    ]
    for thread in threads:
        thread.start()
    spin("beside other interpreters", "", 2 * SECONDS)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    if interpreters is None:
        sys.exit("this version has no module for interpreters")
    run(one, many, beside_each_other)
