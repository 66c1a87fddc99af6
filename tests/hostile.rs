//! A file that breaks the symbolizer costs itself its names, and nobody else.
#![allow(clippy::unwrap_used)]

mod common;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Running, alone, compile, directory, record};

/// Offset in the file of a section.
fn section(path: &Path, name: &str) -> usize {
    let output = Command::new("readelf").args(["-SW"]).arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains(&format!(" {name} "))).unwrap();
    let fields: Vec<&str> = line.split(name).nth(1).unwrap().split_whitespace().collect();
    usize::from_str_radix(fields[2], 16).unwrap()
}

/// A program that works, with `change` done to its debug information.
fn broken(directory: &Path, change: impl FnOnce(&Path, &mut Vec<u8>)) -> PathBuf {
    let path = compile("chain.c", directory, "broken");
    let compress =
        Command::new("objcopy").arg("--compress-debug-sections=zlib").arg(&path).status().unwrap();
    assert!(compress.success());
    let mut bytes = std::fs::read(&path).unwrap();
    change(&path, &mut bytes);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn check(change: impl FnOnce(&Path, &mut Vec<u8>)) {
    let _alone = alone();
    let place = directory();
    let good = Running::start(&compile("chain.c", place.path(), "good"));
    let bad = Running::start(&broken(place.path(), change));
    let recorded =
        record(&["-F", "199", "-d", "1", "-p", &good.pid(), "-p", &bad.pid()]).succeeded();
    assert!(
        recorded.samples_through(&["good", "main", "a", "b", "c", "spin"]) > 50,
        "{}",
        recorded.stderr
    );
    let broken: u64 =
        recorded.folded().iter().filter(|(s, _)| s[0] == "broken").map(|(_, n)| n).sum();
    assert!(broken > 50, "its samples are there: {}", recorded.stderr);
    assert!(
        recorded.stderr.contains("note          no symbols in ")
            || recorded.samples_through(&["broken", "spin"]) > 0
    );
}

#[test]
fn a_compressed_section_that_claims_to_be_enormous() {
    check(|path, bytes| {
        let size = section(path, ".debug_info") + 8; // ch_size, after ch_type and ch_reserved
        bytes[size..size + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    });
}

#[test]
fn a_compressed_section_of_garbage() {
    check(|path, bytes| {
        let data = section(path, ".debug_line") + 24;
        bytes[data..data + 40].fill(0xff);
    });
}

#[test]
fn a_symbol_table_that_points_nowhere() {
    check(|path, bytes| {
        let symbols = section(path, ".symtab");
        for symbol in bytes[symbols..symbols + 24 * 20].chunks_mut(24) {
            symbol[..4].fill(0xff); // st_name
        }
    });
}
