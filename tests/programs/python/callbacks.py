"""Python functions that C code calls: stacks whose native and Python frames alternate."""

import bisect
import ctypes
import functools
import itertools
import json
import operator
import re

from known import run, spin

COMPARE = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int)
)


def once(name, natives=""):
    """Returns a function that has a window at its first call."""
    names = [name]

    def calls(*arguments, **keywords):
        while names:
            spin(names.pop(), natives)
        return 1

    return calls


def sorting():
    sorted([2, 1], key=once("key of sorted"))
    [3, 2, 1].sort(key=functools.cmp_to_key(once("comparison of sort")))
    min([2, 1], key=once("key of min"))
    bisect.insort([Ordered(), Ordered()], Ordered())


class Ordered:
    names = ["__lt__ called by bisect"]

    def __lt__(self, other):
        while self.names:
            spin(self.names.pop())
        return True


def mapping():
    list(map(once("map"), [1]))
    list(filter(once("filter"), [1]))
    functools.reduce(once("reduce"), [1, 2, 3])
    list(itertools.starmap(once("starmap"), [(1, 2)]))
    next(iter(once("iter"), None))
    any(map(operator.methodcaller("calls"), [Called()]))


class Called:
    def calls(self):
        spin("methodcaller")
        return True


def text():
    re.sub("a", once_text("re.sub"), "aa")
    json.loads('{"a": 1}', object_hook=once("hook of json"))
    json.dumps(object(), default=once("default of json"))


def once_text(name):
    calls = once(name)
    return lambda match: str(calls(match))


def dictionaries():
    {Key(1): 1}[Key(1)]
    Missing()[1]


class Key:
    def __init__(self, number):
        self.number = number

    def __hash__(self):
        return 1

    def __eq__(self, other):
        spin("__eq__ called by a dictionary")
        return True


class Missing(dict):
    def __missing__(self, key):
        spin("__missing__")


def c_library():
    """qsort of the C library calls a Python function through libffi."""
    compares = once("qsort", "3:libc")
    numbers = (ctypes.c_int * 8)(*range(8))
    ctypes.CDLL(None).qsort(numbers, 8, 4, COMPARE(lambda a, b: compares(a, b)))


def nested_c_library():
    sort_deep(5)


def sort_deep(depth):
    """Calls itself through qsort."""
    numbers = (ctypes.c_int * 2)()
    called = []

    def compares(first, second):
        if not called:
            called.append(1)
            if depth > 1:
                sort_deep(depth - 1)
            else:
                spin("qsort in qsort", "2:libc 4:libc 6:libc 8:libc 10:libc")
        return 0

    ctypes.CDLL(None).qsort(numbers, 2, 4, COMPARE(compares))


def deep():
    alternate(60)


def alternate(depth):
    """Calls itself through C code of the interpreter."""
    if depth > 1:
        return sorted([1], key=lambda _: alternate(depth - 1))
    return spin("60 calls through C code and Python code in turn")


def evaluation():
    exec("spin('exec')", {"spin": spin})
    eval("spin('eval')", {"spin": spin})
    text = "def made():\n    spin('function of a made text')\n\n\nmade()\n"
    exec(compile(text, "<made>", "exec"), {"spin": spin})
    type("Made", (), {"__init__": lambda self: spin("class of type")})()
    getattr(Attributes(), "attribute")
    print(Attributes(), file=open("/dev/null", "w"))


class Attributes:
    @property
    def attribute(self):
        spin("getattr")

    def __str__(self):
        spin("print")
        return ""


if __name__ == "__main__":
    cases = [sorting, mapping, text, dictionaries, c_library, nested_c_library, deep]
    run(*cases, evaluation)
