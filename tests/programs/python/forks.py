"""Servers that fork workers, each with a stack of its own, and processes of multiprocessing.

`forks.py fork`: workers by fork, and workers of workers. `forks.py pool`: a pool of processes that
are forked. `forks.py spawn`: processes that start from the beginning.
"""

import multiprocessing
import os
import sys

from known import INTERPRETER, SECONDS, between, rest, run, spin, start_child

LONG = 2 * SECONDS


def serve():
    """Forks two workers, which have the code objects of their parent at the same addresses."""
    end, other_end = os.pipe()
    fork(serves_pages)
    fork(serves_files)
    spin("parent of workers", "", LONG)
    os.close(other_end)
    os.read(end, 1)  # until all descendants have closed the other end


def fork(function):
    """Runs a function in a child process, which then waits as the parent does."""
    if between(os.fork) == 0:
        start_child()
        function()
        os.closerange(3, 64)
        rest()


def serves_pages():
    # Made after the fork: another code object than that of the other worker, where that is.
    made = {}
    exec("def only_in_pages(spin, seconds):\n    spin('worker 1', '', seconds)\n", made)
    made["only_in_pages"](spin, LONG)
    fork(serves_page)


def serves_files():
    made = {}
    exec("def only_in_files(spin, seconds):\n\n    spin('worker 2', '', seconds)\n", made)
    made["only_in_files"](spin, LONG)
    fork(serves_file)


def serves_page():
    spin("worker of worker 1", "", LONG)


def serves_file():
    spin("worker of worker 2", "", LONG)


def works(name):
    start_child()
    spin(name, "", LONG)
    return name


def pool(method):
    context = multiprocessing.get_context(method)
    multiprocessing.set_executable(INTERPRETER)
    with context.Pool(2) as workers:
        workers.map(works, ["first of " + method, "second of " + method], chunksize=1)


if __name__ == "__main__":
    how = sys.argv[1] if len(sys.argv) > 1 else "fork"
    cases = {"fork": serve, "pool": lambda: pool("fork"), "spawn": lambda: pool("spawn")}
    run(cases[how])
