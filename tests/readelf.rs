//! Rows compared with an independent reader: `readelf --debug-dump=frames-interp` prints the same
//! rows for the twenty largest files of this machine.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::installed_files;
use unwind::arch::{REGISTERS, Register};
use unwind::{CallFrames, Cfa, RegisterRule, Rule};

const FILES: usize = 20;

/// Returns the largest files with call frames: libraries, programs, and the Rust toolchain.
fn largest_files() -> Vec<PathBuf> {
    let has_rows = |path: &PathBuf| read(path).is_some_and(|frames| frames.table.rows > 1000);
    let files = installed_files().into_iter().filter(has_rows);
    let mut files: Vec<_> = files.map(|path| (path.metadata().unwrap().len(), path)).collect();
    files.sort();
    files.into_iter().rev().take(FILES).map(|(_, path)| path).collect()
}

fn read(path: &Path) -> Option<CallFrames> {
    let file = File::open(path).ok()?;
    unwind::read(&|at, bytes: &mut [u8]| file.read_exact_at(bytes, at).is_ok()).ok()
}

/// The columns that readelf prints for one FDE. The CFA is always the first.
struct Columns {
    fp: Option<usize>,
    ra: Option<usize>,
}

/// Compares a row with the rule for its address; `None` if readelf does not print enough.
fn agrees(rule: &Rule, cells: &[&str], columns: &Columns) -> Option<bool> {
    let cell = |column: Option<usize>| column.and_then(|column| cells.get(column)).copied();
    let (cfa, fp, ra) = (*cells.get(1)?, cell(columns.fp), cell(columns.ra)?);
    if ra == "u" {
        return Some(rule.cfa == Cfa::Root);
    }
    if cfa == "exp" || ra == "exp" || fp == Some("exp") {
        return None; // an expression, which readelf does not print here
    }
    let cfa_is_same = rule.cfa == Cfa::Register(register(cfa)?, offset(cfa)?);
    // A function that never returns may be the first one of a context.
    let is_return_or_root = rule.ra == RegisterRule::ReturnOrRoot && ra == "c-8";
    let ra_is_same = is_return_or_root || register_rule(ra) == Some(rule.ra);
    let fp_is_same = match fp {
        None | Some("u" | "s") => {
            matches!(rule.fp, RegisterRule::SameValue | RegisterRule::Undefined)
        }
        Some(text) => register_rule(text) == Some(rule.fp),
    };
    Some(cfa_is_same && ra_is_same && fp_is_same)
}

/// Returns the register of `rsp+8`.
fn register(text: &str) -> Option<Register> {
    let name = text.split(['+', '-']).next()?;
    (0..REGISTERS as u16).filter_map(Register::from_dwarf).find(|register| register.name() == name)
}

/// Returns the bytes of `rsp+8` or `c-16`.
fn offset(text: &str) -> Option<i32> {
    let at = text.find(['+', '-'])?;
    text[at..].trim_start_matches('+').parse().ok()
}

/// Returns the rule of a register: `c-16` is in memory, `r12` or `rdi` in a register.
fn register_rule(text: &str) -> Option<RegisterRule> {
    if text.starts_with("c+") || text.starts_with("c-") {
        return RegisterRule::at_cfa(offset(text)?.into());
    }
    register(text).map(RegisterRule::Register)
}

/// The numbers of rows of one file.
#[derive(Default)]
struct Counts {
    rows: u64,
    expressions: u64,
    omitted: u64,
}

fn compare(path: &Path, frames: &CallFrames) -> Counts {
    let mut readelf = Command::new("readelf")
        .args(["--wide", "--debug-dump=frames-interp"])
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(readelf.stdout.take().unwrap()).lines();
    let mut columns = Columns { fp: None, ra: None };
    let (mut is_fde, mut end) = (false, 0);
    let mut counts = Counts::default();
    for line in lines.map(Result::unwrap) {
        let cells = cells(&line);
        if let Some(range) = line.split_once(" FDE ").and_then(|(_, rest)| rest.split_once("pc=")) {
            end = u64::from_str_radix(range.1.split("..").nth(1).unwrap(), 16).unwrap();
            is_fde = true;
        } else if line.contains(" CIE ") || line.starts_with("Contents of") {
            is_fde = false;
        } else if cells.first() == Some(&"LOC") {
            let of = |name: &str| cells.iter().position(|cell| *cell == name);
            columns = Columns { fp: of("rbp"), ra: of("ra") };
        } else if let (true, Some(address)) = (is_fde, row_address(&cells)) {
            let is_non_dwarf = frames.non_dwarf.iter().any(|range| range.contains(&address));
            if address >= end || is_non_dwarf {
                continue; // the end of the function, or a row that we correct
            }
            let rule = frames.table.rule_at(address);
            counts.rows += 1;
            match agrees(&rule, &cells, &columns) {
                None => counts.expressions += 1,
                Some(true) => {}
                Some(false) if rule == Rule::NOT_EXPRESSIBLE => counts.omitted += 1,
                Some(false) => panic!("{}: {line} is not {rule}", path.display()),
            }
        }
    }
    assert!(readelf.wait().unwrap().success());
    counts
}

/// Splits a line into cells at white space; `r2 (rcx)` is the one cell `rcx`.
fn cells(line: &str) -> Vec<&str> {
    let mut cells: Vec<&str> = Vec::new();
    for word in line.split_whitespace() {
        match word.strip_prefix('(').and_then(|word| word.strip_suffix(')')) {
            Some(name) => *cells.last_mut().unwrap() = name,
            None => cells.push(word),
        }
    }
    cells
}

fn row_address(cells: &[&str]) -> Option<u64> {
    let first = cells.first().filter(|cell| cell.len() == 16)?;
    u64::from_str_radix(first, 16).ok()
}

#[test]
fn readelf_prints_the_same_rows_for_the_largest_files() {
    let files = largest_files();
    assert_eq!(files.len(), FILES);
    let mut all = 0;
    for path in files {
        let frames = read(&path).unwrap();
        let Counts { rows, expressions, omitted } = compare(&path, &frames);
        println!("{rows} rows, {expressions} expressions, {omitted} omitted: {}", path.display());
        assert!(expressions * 10 < rows && omitted * 10_000 < rows);
        all += rows;
    }
    assert!(
        all > 1000 * FILES as u64,
        "only {all} rows: some large files may be written in Go and have few, but not all"
    );
}
