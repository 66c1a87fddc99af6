"""Interpreters in an interpreter: their stacks begin anew, and they come and go."""

import sys
import threading

from known import DIRECTORY, SECONDS, between, run, spin

try:
    import _interpreters as interpreters  # 3.13
except ImportError:
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        interpreters = None

PREAMBLE = "import sys\nsys.path.insert(0, {!r})\nfrom known import spin\n".format(DIRECTORY)
OUTER = """
def outer_{0}(name):
    inner_{0}(name)

def inner_{0}(name):
    spin(name, "", {1})

outer_{0}({2!r})
"""


def execute(number, name, seconds=SECONDS):
    """Runs functions of this number in an interpreter of their own."""
    interpreter = between(interpreters.create)
    text = PREAMBLE + OUTER.format(number, seconds, name)
    failure = interpreters.run_string(interpreter, text)
    if failure is not None:
        raise RuntimeError(failure)
    between(interpreters.destroy, interpreter)


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
