"""Shared by the programs of this directory: a program writes its own stack, then holds it.

`window` appends the stack of its caller to the file in $STACKS and returns an iterator of C that
ends after $WINDOW_SECONDS. A loop over it on one line keeps the stack as it is, so each tick in
that time must find exactly this stack. A stack is one line: pid, tid, name of the window, expected
native frames, then name, file, first line and line of each frame, innermost first, all separated
by tabs. Expected native frames are words such as `2:libc`: between the Python frames 1 and 2,
counted from the innermost, is a native frame in a file whose name begins with `libc`; `0:libz`
expects it inside of the innermost one.

`run` waits for a line of standard input before the first window, and for the end of it after the
last one, so that neither the start nor the end of the program is sampled. What takes time between
windows is called by `between`, whose samples do not count.

Each program runs on every CPython from 3.7 on.
"""

import _thread
import itertools
import os
import sys
import time

try:
    from _thread import get_native_id
except ImportError:  # 3.7
    import ctypes

    def get_native_id():
        """Returns the number of the thread: gettid of x86-64."""
        return ctypes.CDLL(None).syscall(186)


SECONDS = float(os.environ.get("WINDOW_SECONDS", "0.3"))
WARM_UP_SECONDS = float(os.environ.get("WARM_UP_SECONDS", "0.1"))
CHILD_START_SECONDS = float(os.environ.get("CHILD_START_SECONDS", "0.1"))
# How the interpreter is run again, where that takes more than its own path.
INTERPRETER = os.environ.get("INTERPRETER", sys.executable)
DIRECTORY = os.path.dirname(os.path.abspath(__file__))
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
STACKS = os.open(os.environ.get("STACKS", os.devnull), FLAGS, 0o666)


def write_stack(name, frame, natives):
    """Appends a stack to the file."""
    fields = [str(os.getpid()), str(get_native_id()), name, natives]
    while frame is not None:
        code = frame.f_code
        # Interpreters before 3.11 have no qualified names.
        fields.append(getattr(code, "co_qualname", code.co_name))
        fields += [code.co_filename, str(code.co_firstlineno), str(frame.f_lineno)]
        frame = frame.f_back
    os.write(STACKS, ("\t".join(fields) + "\n").encode())


def window(name, frame, natives="", seconds=SECONDS):
    """Writes a stack. Returns an iterator that ends after some seconds."""
    write_stack(name, frame, natives)
    end = time.monotonic() + seconds
    return itertools.takewhile(end.__gt__, iter(time.monotonic, None))


def spin(name, natives="", seconds=SECONDS):
    """Writes the stack of the caller, and stays in it."""
    for _ in window(name, sys._getframe(), natives, seconds): pass  # fmt: skip


def between(function, *arguments):
    """Calls a function that takes time between windows."""
    return function(*arguments)


def warm_up(seconds):
    """Works for some seconds in another thread. They do not count: it has written no stack."""
    working = _thread.allocate_lock()
    working.acquire()

    def work():
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        working.release()

    _thread.start_new_thread(work, ())
    working.acquire()


def start_child():
    """Works at the start of a child process, which does not count."""
    warm_up(CHILD_START_SECONDS)


def wait():
    """Waits for a line of standard input, once for a process and all that it starts."""
    if "EVERYTICK_STARTED" not in os.environ:
        write_stack("ready", None, "")
        sys.stdin.readline()
        os.environ["EVERYTICK_STARTED"] = "1"
        warm_up(WARM_UP_SECONDS)


def rest():
    """Waits for the end of standard input, and ends the process."""
    while os.read(0, 1):
        pass
    os._exit(0)


def run(*cases):
    """Waits, runs all cases, and says so."""
    wait()
    for case in cases:
        case()
    write_stack("done", None, "")
    rest()
