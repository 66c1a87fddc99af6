"""Threads with stacks of their own, of which some release the lock of the interpreter."""

import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

from known import SECONDS, between, run, spin, window

DATA = bytes(range(256)) * 4096
# Starting the threads takes no time beside windows as long as this.
LONG = 4 * SECONDS


def recurses(depth, barrier):
    if depth:
        return recurses(depth - 1, barrier)
    between(barrier.wait)
    return spin("recursion in a thread", "", LONG)


def computes(barrier):
    between(barrier.wait)
    computes_inner()


def computes_inner():
    spin("Python code in a thread", "", LONG)


def adds(barrier):
    between(barrier.wait)
    for _ in window("C code in a thread", sys._getframe(), "", LONG): sum(range(9999))  # fmt: skip


def compresses(barrier):
    between(barrier.wait)
    compresses_inner()


def compresses_inner():
    for _ in window("lock released", sys._getframe(), "", LONG): zlib.crc32(DATA)  # fmt: skip


class Worker(threading.Thread):
    def __init__(self, barrier):
        super().__init__()
        self.barrier = barrier

    def run(self):
        between(self.barrier.wait)
        self.works()

    def works(self):
        spin("method of a thread class", "", LONG)


def threads_of(functions, barrier):
    return [threading.Thread(target=f, args=[barrier]) for f in functions]


def together(*functions):
    """Runs functions in threads, and waits for them."""
    barrier = threading.Barrier(len(functions))
    threads = between(threads_of, functions, barrier)
    for thread in threads:
        between(thread.start)
    for thread in threads:
        between(thread.join)


def with_lock():
    together(lambda barrier: recurses(100, barrier), computes, adds)


def without_lock():
    """Two threads run at the same time, of which one has the lock."""
    together(compresses, computes)


def without_lock_only():
    together(compresses, compresses)


def by_class():
    barrier = threading.Barrier(2)
    workers = [between(Worker, barrier), between(Worker, barrier)]
    for worker in workers:
        between(worker.start)
    for worker in workers:
        between(worker.join)


def pool():
    with ThreadPoolExecutor(2) as executor:
        list(executor.map(works_in_pool, ["first of a pool", "second of a pool"]))


def works_in_pool(name):
    spin(name, "", LONG)


if __name__ == "__main__":
    run(with_lock, without_lock, without_lock_only, by_class, pool)
