#!/usr/bin/env python3
"""How right stacks are on real programs under load: the table of docs/accuracy.md.

    ./dev accuracy [--seconds N] [--only NAME]... [-o FILE]

Each program is put under load and judged twice, one after the other: `everytick record` says how its stacks end,
`everytick verify` walks the very same ticks with framehop and, where the two part, by DWARF as it is written.
Needs root, and the programs: ./dev setup accuracy installs them.
"""
import argparse
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

HOUSE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EVERYTICK = f"{HOUSE}/target/release/everytick"
HZ = 499

CPP = """#include <algorithm>
#include <map>
#include <regex>
#include <string>
#include <vector>
std::map<std::string, std::vector<std::regex>> all;
int main() { all["a"].emplace_back("b+"); std::vector<std::string> v{"b", "a"}; std::sort(v.begin(), v.end()); }
"""
RUST = "use std::collections::*;\n" + "".join(
    f"#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)] pub struct S{i} {{ a: BTreeMap<String, Vec<u{8 << i % 4}>>, b: Option<Box<S{i}>> }}\n"
    for i in range(60)
)


def programs(work):
    """Each program under load: a shell command that runs for long, what prepares it, what ends it."""
    write(f"{work}/all.cc", CPP)
    write(f"{work}/all.rs", RUST)
    forever = "while :; do {}; done"
    data = f"head -c 40000000 {EVERYTICK} {EVERYTICK} {EVERYTICK} {EVERYTICK} > {work}/data"
    pg = next(iter(sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)), "/usr/lib/postgresql")
    as_postgres = "setpriv --reuid=postgres --regid=postgres --clear-groups"
    return [
        ("python3", forever.format("python3 -c 'import json,re;[json.loads(json.dumps(list(range(99)))) for _ in range(30000)]'"), ":", ":"),
        ("node", forever.format("node -e 'let m=new Map();for(let i=0;i<3e6;i++)m.set(i%5000,JSON.stringify({a:i}))'"), ":", ":"),
        ("gcc", forever.format(f"g++ -O2 -c {work}/all.cc -o {work}/gcc.o"), ":", ":"),
        ("clang", forever.format(f"clang++ -O2 -c {work}/all.cc -o {work}/clang.o"), ":", ":"),
        ("gdb", forever.format(f"gdb -batch -ex 'info functions sort' -ex 'info types a' {EVERYTICK} >/dev/null 2>&1; gdb -batch -ex 'list main' -ex 'info scope main' {work}/debug >/dev/null 2>&1"), f"g++ -g {work}/all.cc -o {work}/debug", ":"),
        ("git gc", forever.format(f"git -C {work}/repo gc -q --aggressive --prune=now"), f"git clone -q --bare {HOUSE} {work}/repo", ":"),
        ("sqlite3", forever.format(f"sqlite3 :memory: 'create table t(a,b); with recursive c(x) as (select 1 union all select x+1 from c limit 300000) insert into t select x, hex(x*7) from c; create index i on t(b); select count(*) from t x join t y on x.b=y.b'"), ":", ":"),
        ("perl", forever.format("perl -e 'my %h; for (1..900000) { $h{$_ % 999} .= $_; $h{$_ % 999} =~ s/^.*(...)$/$1/ }'"), ":", ":"),
        (
            "postgres",
            f"{as_postgres} {pg}/pgbench -n -h {work}/pg -T 600 -c 4 -j 1 postgres",
            f"mkdir {work}/pg && chown postgres {work} {work}/pg && {as_postgres} {pg}/initdb -D {work}/pg/data >/dev/null && "
            f"{as_postgres} {pg}/pg_ctl -w -D {work}/pg/data -l {work}/pg/log -o '-k {work}/pg -h \"\"' start >/dev/null && "
            f"{as_postgres} {pg}/pgbench -q -i -s 5 -h {work}/pg postgres 2>/dev/null",
            f"{as_postgres} {pg}/pg_ctl -m immediate -D {work}/pg/data stop >/dev/null",
        ),
        (
            "redis",
            forever.format(f"redis-benchmark -s {work}/redis -q -n 300000 -P 16 >/dev/null"),
            f"(cd {work} && redis-server --port 0 --unixsocket {work}/redis --daemonize yes --save '' >/dev/null)",
            f"redis-cli -s {work}/redis shutdown nosave",
        ),
        ("openssl", forever.format("openssl speed -seconds 1 rsa2048 aes-256-gcm sha256 ecdsap256 >/dev/null 2>&1"), ":", ":"),
        ("zstd", forever.format(f"zstd -q -f -T2 -12 {work}/data -o {work}/data.zst"), data, ":"),
        ("rustc", forever.format(f"rustc --edition 2024 --crate-type lib -O {work}/all.rs --out-dir {work} -A warnings"), ":", ":"),
        ("go", forever.format(f"go build -C {work} -o {work}/hello -a std"), f"printf 'module hello\\n' > {work}/go.mod", ":"),
    ]


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def judge(work, seconds):
    """What `record` and `verify` say of the machine as it is."""
    comments = f"{work}/out.pb.gz"
    subprocess.run([EVERYTICK, "record", "-q", "-F", str(HZ), "-d", str(seconds), "-o", comments], check=True)
    text = subprocess.run(["go", "tool", "pprof", "-comments", comments], check=True, capture_output=True, text=True).stdout
    found = f"{work}/verify.json"
    subprocess.run([EVERYTICK, "verify", "-F", str(HZ), "-d", str(seconds), "-o", found], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(found) as file:
        return ends(text), json.load(file)


def ends(comments):
    """The user stacks of a profile by how they end."""
    line = re.search(r"user stacks +([0-9,]+) \((.*)\)", comments)
    parts = dict(reversed(part.rsplit(" ", 2)[0:2]) for part in [])
    for part in line[2].split(", "):
        reason, share, _ = part.rsplit(" ", 2)
        parts[reason] = float(share)
    return int(line[1].replace(",", "")), parts


def row(name, samples, parts, figures):
    total = figures["total"]
    rest = "; ".join(f"{reason.removeprefix('cut: ')} {share}" for reason, share in parts.items() if reason != "complete")
    both, equal = total["sure_complete"], total["sure_complete_equal"]
    return (
        f"| {name} | {samples:,} | {parts.get('complete', 0):.1f} | {rest} | {total['judged']:,} | {both:,} | "
        f"{100 * equal / max(both, 1):.3f} | {total['different']} | {total['dwarf_agrees_with_ours']} | {total['dwarf_agrees_with_framehop']} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--only", action="append")
    parser.add_argument("-o", "--output", help="the table goes there, too")
    arguments = parser.parse_args()
    lines = [
        "| program | samples | complete % | the rest, % | compared | both complete | of them equal % | different | DWARF with us | DWARF with framehop |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    explained = []
    for_all = [0, 0]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        for name, load, before, after in programs(work):
            if arguments.only and name not in arguments.only:
                continue
            subprocess.run(["sh", "-c", before], check=True)
            running = [subprocess.Popen(["sh", "-c", load], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, start_new_session=True) for _ in (1, 2)]
            try:
                (samples, parts), figures = judge(work, arguments.seconds)
            finally:
                for process in running:
                    os.killpg(process.pid, 9)
                    process.wait()
                subprocess.run(["sh", "-c", after], check=False)
            lines.append(row(name, samples, parts, figures))
            print(lines[-1], flush=True)
            for_all[0] += figures["total"]["sure_complete"]
            for_all[1] += figures["total"]["sure_complete_equal"]
            explained += [(name, difference) for difference in figures["differences"]]
    print(f"\nall: {for_all[1]:,} of {for_all[0]:,} equal, {100 * for_all[1] / max(for_all[0], 1):.4f} %\n")
    for name, difference in explained:
        print(f"- {name}: {json.dumps(difference)}")
    if arguments.output:
        write(arguments.output, "\n".join(lines) + "\n")


if __name__ == "__main__":
    for tool in ("go", "setpriv"):
        if not shutil.which(tool):
            sys.exit(f"accuracy.py: {tool} is missing: run ./dev setup accuracy")
    main()
