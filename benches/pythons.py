"""Finds the interpreters of this machine, and says how each was built."""

import glob
import json
import os
import subprocess
from dataclasses import dataclass

CACHE = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
TOOLS = os.environ.get("EVERYTICK_TOOLS", f"{CACHE}/everytick-tools")
PYENV = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
# The last pattern is for builds that need a loader or libraries of their own: a script.
PLACES = [
    f"{PYENV}/versions/*/bin/python3",
    "/usr/bin/python3.[0-9]*",
    "/usr/local/bin/python3.[0-9]*",
    f"{TOOLS}/pythons/*/bin/python3",
    f"{TOOLS}/pythons/*/python",
]
OLDEST = (3, 7)
QUESTION = """
import json, os, sys, sysconfig
value = sysconfig.get_config_var
arguments = (value("CONFIG_ARGS") or "") + (value("PY_CFLAGS") or "") + (value("PY_LDFLAGS") or "")
maps = open("/proc/self/maps").read()
built = ["shared" if value("Py_ENABLE_SHARED") and "libpython" in maps else "static"]
built += ["PGO"] * ("--enable-optimizations" in arguments)
built += ["LTO"] * ("-flto" in arguments or "--with-lto" in arguments)
built += ["BOLT"] * ("--enable-bolt" in arguments)
built += ["tail calls"] * ("--with-tail-call-interp" in arguments)
built += ["free-threaded"] * bool(value("Py_GIL_DISABLED"))
built += ["musl"] * ("ld-musl" in maps)
name = getattr(sys.implementation, "name", "")
print(json.dumps([name, sys.version.split()[0], list(sys.version_info[:2]), ", ".join(built)]))
"""


@dataclass
class Interpreter:
    """An interpreter: how to run it, its version, where it is from and how it was built."""

    path: str
    version: str
    minor: tuple
    origin: str
    built: str

    @property
    def title(self):
        return f"{self.version} {self.origin}"

    @property
    def config(self):
        """Returns the path of its python3-config, or None."""
        path = os.path.join(os.path.dirname(os.path.realpath(self.path)), "python3-config")
        return path if os.path.exists(path) else None


def origin(path):
    """Returns where an interpreter is from."""
    if path.startswith(PYENV):
        return "pyenv"
    if path.startswith(f"{TOOLS}/pythons/"):
        return path.removeprefix(f"{TOOLS}/pythons/").split("/")[0]
    return "Debian" if path.startswith("/usr/bin") else "local"


def ask(path):
    """Returns the interpreter of a path, or None if it is no CPython of a known version."""
    command = [path, "-I", "-c", QUESTION]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if asked.returncode != 0:
        return None
    name, version, minor, built = json.loads(asked.stdout)
    if name != "cpython" or tuple(minor) < OLDEST:
        return None
    return Interpreter(path, version, tuple(minor), origin(path), built)


def interpreters(only=None):
    """Returns all interpreters by version, each once. `only`: beginnings of versions."""
    found = {}
    for path in [path for place in PLACES for path in sorted(glob.glob(place))]:
        if not path.endswith("-config") and os.access(path, os.X_OK):
            found.setdefault(os.path.realpath(path), path)
    asked = [interpreter for interpreter in map(ask, found.values()) if interpreter]
    if only:
        asked = [each for each in asked if each.version.startswith(tuple(only))]
    return sorted(asked, key=lambda each: ([int(n) for n in each.minor], each.title))
