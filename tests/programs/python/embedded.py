"""Runs in a program of C: see embed.c, which calls `embedded` if it is asked to; or in gdb."""

import os
import threading

from known import spin, wait

# Functions of C below the outermost of three Python frames.
MAIN = os.environ.get("NATIVES", "3:c_inner 3:c_outer 3:main")
THREAD = "3:entry"


def embedded():
    is_main = threading.current_thread() is threading.main_thread()
    inner("function that C calls", MAIN if is_main else THREAD)


def inner(name, natives):
    spin(name, natives)


wait()
inner("code that C runs", MAIN)
