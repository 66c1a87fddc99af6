"""Exceptions: handlers, clean-up, finalizers, signal handlers and hooks of the interpreter."""

import gc
import os
import signal
import sys
import threading
import weakref

from known import run, spin


def raises(depth):
    if depth > 1:
        return raises(depth - 1)
    raise ValueError(depth)


def handlers():
    try:
        raises(50)
    except ValueError:
        spin("except")
    try:
        raises(1)
    except (KeyError, ValueError) as error:
        handles(error)
    else:
        raise AssertionError
    try:
        pass
    except ValueError:
        raise
    else:
        spin("else")
    finally:
        spin("finally")


def handles(error):
    try:
        raise KeyError from error
    except KeyError:
        spin("except in a function that except calls")


def returns():
    try:
        return raises(3)
    except ValueError:
        return finishes()
    finally:
        spin("finally after return")


def finishes():
    try:
        raises(2)
    except ValueError:
        pass
    finally:
        spin("finally while a value is returned")


def passes_through():
    try:
        in_finally()
    except ValueError:
        spin("except after finally")


def in_finally():
    try:
        raises(10)
    finally:
        spin("finally while an exception passes")


class Finalized:
    def __init__(self, name):
        self.name = name

    def __del__(self):
        spin(self.name)


def finalizers():
    finalized = Finalized("__del__ by del")
    del finalized
    Finalized("__del__ of a temporary")
    replaced = [Finalized("__del__ by assignment")]
    replaced[0] = None
    cycle = Finalized("__del__ by the garbage collector")
    cycle.self = cycle
    del cycle
    gc.collect()
    in_local_variable()


def in_local_variable():
    finalized = Finalized("__del__ at the end of a function")
    return finalized and None


def references():
    finalized = Finalized.__new__(Finalized)
    finalized.name = "__del__ beside a weak reference"
    reference = weakref.ref(finalized, lambda _: spin("callback of a weak reference"))
    del finalized
    return reference


def on_signal(number, frame):
    spin("signal handler")


def signals():
    signal.signal(signal.SIGUSR1, on_signal)
    os.kill(os.getpid(), signal.SIGUSR1)
    for _ in range(100):
        pass


def tracing():
    sys.settrace(traces)
    traced()
    sys.settrace(None)
    sys.setprofile(profiles)
    traced()
    sys.setprofile(None)


def traces(frame, event, argument):
    if frame.f_code is traced.__code__:
        hook("trace function")


def profiles(frame, event, argument):
    if frame.f_code is traced.__code__ and event == "call":
        hook("profile function")


def hook(name):
    spin(name)


def traced():
    return 1


def excepthooks():
    sys.excepthook = lambda *_: spin("hook for uncaught exceptions")
    sys.excepthook(None, None, None)
    if hasattr(threading, "excepthook"):  # 3.8
        threading.excepthook = lambda _: spin("hook of a thread")
        thread = threading.Thread(target=raises, args=[3])
        thread.start()
        thread.join()


if __name__ == "__main__":
    gc.collect()
    gc.freeze()  # later collections take no time
    cases = [handlers, returns, passes_through, finalizers, references, signals, tracing]
    run(*cases, excepthooks)
