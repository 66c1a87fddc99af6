#!/usr/bin/env python3
"""Accuracy of stacks on real programs under load: the table of docs/accuracy.md.

    ./dev accuracy [--seconds N] [--only NAME]... [-o FILE]

Each program runs twice under load, with its descendants. First `everytick record` counts how its
stacks end. Then `everytick verify` compares the same ticks with framehop and, where the two differ,
with DWARF evaluated by gimli. Needs root, and the programs: ./dev setup accuracy installs them.
"""

import argparse
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EVERYTICK = f"{REPOSITORY}/target/release/everytick"
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
    for i in range(900)
)


def programs(work):
    """Returns each program: name, shell script that runs it in a loop, command that prepares it."""
    write(f"{work}/all.cc", CPP)
    write(f"{work}/all.rs", RUST)
    twice = "({0}) & ({0}) & wait"
    pg = next(
        iter(sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)), "/usr/lib/postgresql"
    )
    as_postgres = "setpriv --reuid=postgres --regid=postgres --clear-groups"

    def loop(command):
        return twice.format(f"while :; do {command}; done")

    return [
        (
            "python3",
            loop(
                "python3 -c 'import json,re;[json.loads(json.dumps(list(range(99)))) for _ in range(30000)]'"
            ),
            ":",
        ),
        (
            "node",
            loop(
                "node -e 'let m=new Map();for(let i=0;i<3e6;i++)m.set(i%5000,JSON.stringify({a:i}))'"
            ),
            ":",
        ),
        ("gcc", loop(f"g++ -O2 -c {work}/all.cc -o {work}/gcc.$$.o"), ":"),
        ("clang", loop(f"clang++ -O2 -c {work}/all.cc -o {work}/clang.$$.o"), ":"),
        (
            "gdb",
            loop(
                f"gdb -batch -ex 'list main' -ex 'info scope main' -ex 'info functions sort' {work}/debug"
            ),
            f"g++ -g {work}/all.cc -o {work}/debug",
        ),
        (
            "git gc",
            f"while :; do git -C {work}/repo gc -q --aggressive --prune=now; done",
            f"git clone -q --bare {REPOSITORY} {work}/repo",
        ),
        (
            "sqlite3",
            loop(
                "sqlite3 :memory: 'create table t(a,b); with recursive c(x) as (select 1 union all select x+1 from c limit 300000) insert into t select x, hex(x*7) from c; create index i on t(b); select count(*) from t x join t y on x.b=y.b'"
            ),
            ":",
        ),
        (
            "perl",
            loop(
                "perl -e 'my %h; for (1..900000) { $h{$_ % 999} .= $_; $h{$_ % 999} =~ s/^.*(...)$/$1/ }'"
            ),
            ":",
        ),
        (
            "postgres",
            f"data={work}/pg/$$; {as_postgres} {pg}/initdb -A trust -D $data >/dev/null && {as_postgres} {pg}/postgres -D $data -k {work}/pg -h '' & "
            f"sleep 4; {as_postgres} {pg}/pgbench -q -i -s 5 -h {work}/pg postgres; {as_postgres} {pg}/pgbench -n -h {work}/pg -T 600 -c 4 postgres",
            f"mkdir {work}/pg && chown postgres {work}/pg",
        ),
        (
            "redis",
            f"redis-server --port 0 --unixsocket {work}/redis --save '' & sleep 1; while :; do redis-benchmark -s {work}/redis -q -n 300000 -P 16; done",
            ":",
        ),
        ("openssl", loop("openssl speed -seconds 1 rsa2048 aes-256-gcm sha256 ecdsap256"), ":"),
        (
            "zstd",
            f"while :; do zstd -q -f -T2 -12 {work}/data -o {work}/data.zst; done",
            f"cat {EVERYTICK} {EVERYTICK} {EVERYTICK} {EVERYTICK} > {work}/data",
        ),
        (
            "rustc",
            loop(
                f"rustc --edition 2024 --crate-type lib -O {work}/all.rs --out-dir {work} -A warnings"
            ),
            ":",
        ),
        (
            "go",
            f"cd {work}/go; while :; do go build -a -o hello .; done",
            f"mkdir {work}/go; cd {work}/go; printf 'module hello\\n' > go.mod; printf 'package main\\nimport \"net/http\"\\nfunc main() {{ http.ListenAndServe(\"\", nil) }}\\n' > main.go",
        ),
    ]


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def watch(verb, output, script, seconds):
    """Runs `everytick record` or `verify` on a script for some seconds, then kills the script."""
    command = [
        EVERYTICK,
        verb,
        "-F",
        str(HZ),
        "-d",
        str(seconds),
        "-o",
        output,
        "--",
        "sh",
        "-c",
        script,
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not os.path.exists(output) and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.5)


def measure(work, script, seconds):
    """Returns the results of `record` and `verify` for a script."""
    profile, comparison = f"{work}/out.pb.gz", f"{work}/verify.json"
    for output in (profile, comparison):
        if os.path.exists(output):
            os.remove(output)
    watch("record", profile, script, seconds)
    text = subprocess.run(
        ["go", "tool", "pprof", "-comments", profile], check=True, capture_output=True, text=True
    ).stdout
    watch("verify", comparison, script, seconds)
    with open(comparison) as file:
        return ends(text), json.load(file)


def ends(comments):
    """Returns the number of user stacks in a profile, and their shares by end."""
    line = re.search(r"user stacks +([0-9,]+) \((.*)\)", comments)
    parts = {}
    for part in line[2].split(", "):
        reason, share, _ = part.rsplit(" ", 2)
        parts[reason] = float(share)
    return int(line[1].replace(",", "")), parts


def row(name, samples, parts, figures):
    total = figures["total"]
    rest = "; ".join(
        f"{reason.removeprefix('cut: ')} {share}"
        for reason, share in parts.items()
        if reason != "complete"
    )
    both, equal = total["sure_complete"], total["sure_complete_equal"]
    return (
        f"| {name} | {samples:,} | {parts.get('complete', 0):.1f} | {rest} | {total['judged']:,} | {both:,} | "
        f"{100 * equal / max(both, 1):.3f} | {total['different']} | {total['dwarf_agrees_with_ours']} | {total['dwarf_agrees_with_framehop']} |"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--only", action="append")
    parser.add_argument("-o", "--output", help="write the table to this file too")
    arguments = parser.parse_args()
    lines = [
        "| program | samples | complete % | the rest, % | compared | both complete | of them equal % | different | DWARF with us | DWARF with framehop |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    differences = []
    totals = [0, 0]
    print("\n".join(lines))
    with tempfile.TemporaryDirectory() as work:
        os.chmod(work, 0o755)
        for name, script, before in programs(work):
            if arguments.only and name not in arguments.only:
                continue
            subprocess.run(["sh", "-c", before], check=True)
            (samples, parts), figures = measure(work, script, arguments.seconds)
            lines.append(row(name, samples, parts, figures))
            print(lines[-1], flush=True)
            totals[0] += figures["total"]["sure_complete"]
            totals[1] += figures["total"]["sure_complete_equal"]
            differences += [(name, difference) for difference in figures["differences"]]
    print(
        f"\nall: {totals[1]:,} of {totals[0]:,} equal, {100 * totals[1] / max(totals[0], 1):.4f} %\n"
    )
    for name, difference in differences:
        print(f"- {name}: {json.dumps(difference)}")
    if arguments.output:
        write(arguments.output, "\n".join(lines) + "\n")


if __name__ == "__main__":
    for tool in ("go", "setpriv"):
        if not shutil.which(tool):
            sys.exit(f"accuracy.py: {tool} is missing: run ./dev setup accuracy")
    main()
