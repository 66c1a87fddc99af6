"""Writes what a version of CPython knows of its strings and lines: `python3.X write.py`.

The file `3.X.txt` beside this script has a line for each string, with its bytes in memory, and two
for each code object, with its line table and the line of each position by `PyCode_Addr2Line`. Tests
of src/runtimes/cpython decode the same bytes.
"""

import ctypes
import os
import sys

SOURCE = '''"""A module whose code objects have all kinds of lines."""
import os


class Class:
    attribute = [
        1,
        2,
    ]

    @property
    def method(self):
        return self.attribute


def loops(values):
    for value in values:
        if value:
            continue
        while value:
            value -= 1
    else:
        value = None
    return value


def cleanup(path):
    try:
        with open(path) as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise RuntimeError(
            "cannot read",
            path,
        ) from error
    finally:
        print(path)


def generator(count):
    received = yield (
        count
    )
    yield from (
        item * 2
        for item in range(count)
        if item
    )
    return received


async def coroutine(other):
    async with other:
        await other
        async for item in other:
            print(item)


def nested():
    def inner(x): return x; y = x
    return lambda: (
        inner
    )


def long_line(a):
    return [%(long)s]


def far_back(f):
    return f(f(1),%(blank)s
        f(2),
        f(3)) + f(
        4)


def empty():
    pass


def far_away(a):
    a = 1
    if a:%(blank)s
        a = 2
    return a
''' % {"long": ", ".join("a + %d" % n for n in range(150)), "blank": "\n" * 300}

TEXTS = [
    "<module>",
    "Class.method",
    "gr\xf6\xdfe",
    "\xff",
    "\u6f22\u5b57.\u03bb",
    "a\ud800b",
    "\U0001f980.x",
]

if sys.version_info < (3, 12):
    EXPRESSION = None
else:
    EXPRESSION = "type Alias[T] = list[\n    T\n]\n"

addr2line = ctypes.pythonapi.PyCode_Addr2Line
addr2line.argtypes = [ctypes.py_object, ctypes.c_int]


def code_objects(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            yield from code_objects(constant)


def lines(code):
    """Returns `POSITION:LINE` wherever the line changes, 0 for none, and the end."""
    runs = []
    before = None
    for position in range(0, len(code.co_code), 2):
        line = max(addr2line(code, position), 0)
        if line != before:
            runs.append("%d:%d" % (position, line))
        before = line
    return " ".join(runs + ["%d:end" % len(code.co_code)])


def text(value):
    """Returns the width of a character, the length, the bytes in memory, and UTF-8."""
    widest = max(map(ord, value))
    latin = "".join(map(chr, [0xe9, 0xea]))
    width = 0 if widest < 128 else 1 if widest < 256 else 2 if widest < 65536 else 4
    data = sys.getsizeof("") - 1 if width == 0 else sys.getsizeof(latin) - 3
    memory = ctypes.string_at(id(value) + data, len(value) * max(width, 1))
    expected = value.replace("\ud800", "\ufffd").encode()
    return "text %d %d %s %s" % (width, len(value), memory.hex(), expected.hex())


def table(code):
    return code.co_linetable if sys.version_info >= (3, 10) else code.co_lnotab


def main():
    version = "%d.%d" % sys.version_info[:2]
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), version + ".txt")
    with open(path, "w") as out:
        out.write("version %x\n" % sys.hexversion)
        for value in TEXTS:
            out.write(text(value) + "\n")
        for source in filter(None, [SOURCE, EXPRESSION]):
            for code in code_objects(compile(source, "module.py", "exec")):
                name = getattr(code, "co_qualname", code.co_name)
                out.write("code %s %d %s\n" % (name, code.co_firstlineno, table(code).hex()))
                out.write("lines %s\n" % lines(code))


main()
