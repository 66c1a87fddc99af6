"""Code objects that are made, run, freed and made again at the same addresses.

Each function carries its own mark: `mark_1234` is in the file `mark_1234.py`, and its work is on
line 1234. A second kind of functions differ in nothing but their names: they begin on the same
line, and `twin_1234` runs on the line after that which is 1234 % 8, and is called from a line of
the same remainder. A name that belongs to another function contradicts the lines.
"""

import sys

from known import run, window

SECONDS = 0.002
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 600
TWIN_LINE = 100


def mark(number):
    """Returns a function whose line is the number in its name."""
    text = "\n" * (number - 2) + (
        "def mark_{0}(window):\n"
        "    for _ in window('mark', frame(), '', {1}): pass\n"
    ).format(number, SECONDS)
    return define(text, "mark_{}".format(number))


def twin(number):
    """Returns a function that looks like all others of its kind."""
    work = "    for _ in window('twin', frame(), '', {}): pass\n".format(SECONDS)
    text = "\n" * (TWIN_LINE - 1) + "def twin_{}(window):\n".format(number)
    return define(text + "    0 or str\n" * (number % 8) + work, "twin_{}".format(number))


def define(text, name):
    names = {"frame": sys._getframe}
    exec(compile(text, name + ".py", "exec"), names)
    return names[name]


def marks():
    for number in range(ROUNDS):
        # Prime, so that lines come in an order without a pattern.
        mark(2 + 7919 * number % 9973)(window)


def twins():
    for number in range(ROUNDS):
        call(twin(number), number % 8)


def call(function, remainder):
    # The line of the call is that of `if` and twice the remainder.
    if remainder == 0:
        function(window)
    elif remainder == 1:
        function(window)
    elif remainder == 2:
        function(window)
    elif remainder == 3:
        function(window)
    elif remainder == 4:
        function(window)
    elif remainder == 5:
        function(window)
    elif remainder == 6:
        function(window)
    else:
        function(window)


if __name__ == "__main__":
    run(marks, twins)
