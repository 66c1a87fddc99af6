//! Go programs without debug info have the names, files, lines and inlined functions that the same
//! program with debug info has.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{functions, remove_section_headers, succeed, symbols};

/// Methods and functions that are inlined in each other, generic ones, and those of C.
const PROGRAM: &str = r#"
package main

// static int of_c(int n) { return n + 1; }
import "C"
import (
	"fmt"
	"os"
	"sort"
)

type number interface{ ~int | ~float64 }

func add[T number](a, b T) T { return a + b }

//go:noinline
func sum[T number](list []T) (s T) {
	for _, x := range list {
		s = add(s, x)
	}
	return s
}

var scale = 3

func tiny(n int) int  { return n * scale }
func small(n int) int { return tiny(n) + 1 }

type box struct{ n int }

func (b *box) inc()   { b.n = small(b.n) }
func (b *box) outer() { b.inc(); b.inc() }

//go:noinline
func leaf(b *box) { b.outer(); scale++ }

//export Exported
func Exported() { leaf(&box{}) }

func main() {
	b := &box{len(os.Args)}
	leaf(b)
	list := []int{3, int(C.of_c(2))}
	sort.Slice(list, func(i, j int) bool { return small(list[i]) < list[j] })
	fmt.Println(sum(list), sum([]float64{1}))
}
"#;

/// Addresses that are compared in each kind of program.
const ADDRESSES: usize = 2000;

/// Builds the program, whole and without debug info, and returns both.
fn build(directory: &Path, kind: &str, linker: &str) -> [PathBuf; 2] {
    fs::write(directory.join("main.go"), PROGRAM).unwrap();
    fs::write(directory.join("go.mod"), "module program\ngo 1.21\n").unwrap();
    [("whole", ""), ("bare", " -s -w")].map(|(name, strip)| {
        let mut go = Command::new("go");
        let linker = format!("-ldflags={linker}{strip}");
        go.args(["build", "-buildvcs=false", kind, &linker, "-o", name, "."]);
        succeed(go.current_dir(directory).env("CGO_ENABLED", "1"));
        directory.join(name)
    })
}

/// Returns the functions of Go in a program, by `go tool nm`: names and addresses.
fn go_functions(program: &Path) -> Vec<(String, Range<u64>)> {
    let list = succeed(Command::new("go").args(["tool", "nm", "-size"]).arg(program));
    let packages = ["main.", "runtime.", "fmt.", "sort.", "os.", "reflect.", "strconv.", "sync."];
    let fields = list.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let functions = fields.filter_map(|fields| match fields[..] {
        [start, bytes, "T" | "t", name] if packages.iter().any(|p| name.starts_with(p)) => {
            let start = u64::from_str_radix(start, 16).ok()?;
            Some((name.to_owned(), start..start + bytes.parse::<u64>().ok()?))
        }
        _ => None,
    });
    functions.filter(|(_, addresses)| !addresses.is_empty()).collect()
}

/// Picks addresses all over the functions.
fn addresses(functions: &[(String, Range<u64>)]) -> Vec<u64> {
    let pick = |number: usize| {
        let (_, range) = &functions[number * functions.len() / ADDRESSES];
        range.start + (number as u64 * 7919) % (range.end - range.start)
    };
    (0..ADDRESSES).map(pick).collect()
}

/// Asks `go tool addr2line`: the function, and the file and line of each address.
fn addr2line(program: &Path, addresses: &[u64]) -> Vec<(String, String)> {
    let mut go = Command::new("go");
    go.args(["tool", "addr2line"]).arg(program).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = go.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text: String = addresses.iter().map(|address| format!("{address:#x}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    lines.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect()
}

/// Returns a name as the function table has it: without type arguments, and without the mark of
/// functions that are called as assembly is.
fn plain(name: &str) -> String {
    let name = name.strip_suffix(".abi0").unwrap_or(name);
    match (name.find('['), name.rfind(']')) {
        (Some(from), Some(to)) => format!("{}[...]{}", &name[..from], &name[to + 1..]),
        _ => name.to_owned(),
    }
}

/// Compares a program without debug info with the whole one.
fn compare(kind: &str, whole: &Path, bare: &Path) {
    let functions = go_functions(whole);
    assert!(functions.len() > 500, "{kind}: {} functions", functions.len());
    let addresses = addresses(&functions);
    let expected = addr2line(whole, &addresses);
    let [by_debug_info, by_table] = [whole, bare].map(|program| symbols(program, &addresses));
    let mut depths = BTreeMap::new();
    for (at, address) in addresses.iter().enumerate() {
        let chain = &by_table[at].functions;
        let (name, place) = &expected[at];
        let context = format!("{kind} {address:#x}: {chain:?}");
        let (first, last) = (chain.first().expect(&context), chain.last().expect(&context));
        assert_eq!(plain(&last.name), plain(name), "{context}");
        assert_eq!(&format!("{}:{}", first.file, first.line), place, "{context}");
        let debug_info = &by_debug_info[at].functions;
        assert_eq!(chain.len(), debug_info.len(), "{context}");
        for (function, expected) in chain.iter().zip(debug_info) {
            assert_eq!(plain(&function.name), plain(&expected.name), "{context}");
            // Debug info has no line of functions that the compiler has generated.
            assert!([0, function.line].contains(&expected.line), "{context}: {expected:?}");
            let starts = [0, function.start_line];
            assert!(starts.contains(&expected.start_line), "{context}: {expected:?}");
        }
        *depths.entry(chain.len()).or_insert(0) += 1;
    }
    assert!(depths.keys().max() >= Some(&4), "{kind}: {depths:?}");
}

#[test]
fn stripped_programs_are_symbolized_as_whole_ones() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, linker) in [
        ("-buildmode=exe", "-linkmode=internal"),
        ("-buildmode=exe", "-linkmode=external"),
        ("-buildmode=pie", "-linkmode=internal"),
        ("-buildmode=c-shared", ""),
    ] {
        let [whole, bare] = build(directory.path(), kind, linker);
        compare(&format!("{kind} {linker}"), &whole, &bare);
    }
}

#[test]
fn programs_without_debug_info_alone_have_lines() {
    let directory = tempfile::tempdir().unwrap();
    let [whole, bare] = build(directory.path(), "-buildmode=exe", "");
    for arguments in [["--strip-debug", "-o"], ["--strip-all", "-o"]] {
        succeed(Command::new("strip").args(arguments).arg(&bare).arg(&whole));
        compare(arguments[0], &whole, &bare);
    }
}

#[test]
fn inlined_functions_have_their_names_and_calls() {
    let directory = tempfile::tempdir().unwrap();
    let [whole, bare] = build(directory.path(), "-buildmode=exe", "");
    let (_, leaf) = go_functions(&whole).into_iter().find(|(name, _)| name == "main.leaf").unwrap();
    let chains = leaf.map(|address| functions(&bare, address));
    let longest = chains.max_by_key(Vec::len).unwrap();
    let names: Vec<&str> = longest.iter().map(|function| function.name.as_str()).collect();
    let expected = ["main.tiny", "main.small", "main.(*box).inc", "main.(*box).outer", "main.leaf"];
    assert_eq!(names, expected);
    assert!(longest.iter().all(|function| function.file.ends_with("/main.go")), "{longest:?}");
    for function in &longest {
        let line = PROGRAM.lines().nth(function.start_line as usize - 1).unwrap();
        let name = function.name.rsplit('.').next().unwrap();
        assert!(line.starts_with("func ") && line.contains(name), "{line}: {function:?}");
    }
}

#[test]
fn functions_of_c_have_their_own_names_or_none() {
    let directory = tempfile::tempdir().unwrap();
    for linker in ["-linkmode=internal", "-linkmode=external"] {
        let [whole, bare] = build(directory.path(), "-buildmode=exe", linker);
        let list = succeed(Command::new("nm").arg(&whole));
        let of_c = list.lines().filter_map(|line| {
            let (address, symbol) = line.split_once(' ')?;
            let name = symbol.trim_start_matches(['t', 'T', ' ']);
            let is_of_c = name.starts_with("_cgo_") && symbol.to_lowercase().starts_with('t');
            is_of_c.then(|| (u64::from_str_radix(address, 16).unwrap(), name))
        });
        let of_c: Vec<(u64, &str)> = of_c.collect();
        assert!(of_c.len() > 5, "{linker}: {list}");
        for (address, name) in of_c {
            let found = functions(&bare, address + 1).pop().map(|function| function.name);
            assert!(found.is_none() || found.as_deref() == Some(name), "{linker}: {found:?}");
            assert!(found.is_some() || linker == "-linkmode=external", "{name} has no name");
        }
        // Without sections the table is not found, which costs names and nothing else.
        let functions = go_functions(&whole);
        let (_, leaf) = functions.into_iter().find(|(name, _)| name == "main.leaf").unwrap();
        remove_section_headers(&bare);
        assert!(common::functions(&bare, leaf.start).is_empty());
    }
}
