"""A module that is written and loaded again in a loop: its function has another mark each time.

See marks.py for the marks.
"""

import importlib
import os
import sys
import tempfile

from known import run, window

SECONDS = 0.005
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 150


def write(directory, number):
    """Writes a module whose function works on the line of its number."""
    text = "\n" * (number - 2) + (
        "def mark_{0}(window, frame):\n"
        "    for _ in window('reload', frame(), '', {1}): pass\n"
    ).format(number, SECONDS)
    with open(os.path.join(directory, "marked.py"), "w") as file:
        file.write(text)


def reloads():
    # A file of the same size in the same second would be taken from the cache.
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as directory:
        sys.path.insert(0, directory)
        write(directory, 2)
        import marked

        previous = 2
        for number in range(ROUNDS):
            line = 2 + 7919 * number % 997
            write(directory, line)
            marked.__dict__.pop("mark_{}".format(previous))
            importlib.reload(marked)
            getattr(marked, "mark_{}".format(line))(window, sys._getframe)
            previous = line


if __name__ == "__main__":
    run(reloads)
