//! A malformed file that breaks the symbolizer loses its own names, and no other file's.
#![allow(clippy::unwrap_used)]

mod common;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Running, alone, compile, directory, record};

/// Returns the file offset of a section.
fn section(path: &Path, name: &str) -> usize {
    let output = Command::new("readelf").args(["-SW"]).arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains(&format!(" {name} "))).unwrap();
    let fields: Vec<&str> = line.split(name).nth(1).unwrap().split_whitespace().collect();
    usize::from_str_radix(fields[2], 16).unwrap()
}

/// Compiles a working program and applies `change` to its debug information.
fn corrupt(directory: &Path, change: impl FnOnce(&Path, &mut Vec<u8>)) -> PathBuf {
    let path = compile("chain.c", directory, "corrupt");
    let compress =
        Command::new("objcopy").arg("--compress-debug-sections=zlib").arg(&path).status().unwrap();
    assert!(compress.success());
    let mut bytes = std::fs::read(&path).unwrap();
    change(&path, &mut bytes);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn assert_only_its_names_are_lost(change: impl FnOnce(&Path, &mut Vec<u8>)) {
    let _alone = alone();
    let place = directory();
    let good = Running::start(&compile("chain.c", place.path(), "good"));
    let corrupt = Running::start(&corrupt(place.path(), change));
    let recorded =
        record(&["-F", "199", "-d", "1", "-p", &good.pid(), "-p", &corrupt.pid()]).succeeded();
    assert!(
        recorded.samples_through(&["good", "main", "a", "b", "c", "spin"]) > 50,
        "{}",
        recorded.stderr
    );
    let samples: u64 =
        recorded.folded().iter().filter(|(s, _)| s[0] == "corrupt").map(|(_, n)| n).sum();
    assert!(samples > 50, "its samples are counted: {}", recorded.stderr);
    assert!(
        recorded.stderr.contains("note          no symbols in ")
            || recorded.samples_through(&["corrupt", "spin"]) > 0
    );
}

#[test]
fn survives_a_compressed_section_with_an_enormous_size() {
    assert_only_its_names_are_lost(|path, bytes| {
        let size = section(path, ".debug_info") + 8; // ch_size, after ch_type and ch_reserved
        bytes[size..size + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    });
}

#[test]
fn survives_a_compressed_section_of_garbage() {
    assert_only_its_names_are_lost(|path, bytes| {
        let data = section(path, ".debug_line") + 24;
        bytes[data..data + 40].fill(0xff);
    });
}

#[test]
fn survives_a_symbol_table_with_invalid_names() {
    assert_only_its_names_are_lost(|path, bytes| {
        let symbols = section(path, ".symtab");
        for symbol in bytes[symbols..symbols + 24 * 20].chunks_mut(24) {
            symbol[..4].fill(0xff); // st_name
        }
    });
}
