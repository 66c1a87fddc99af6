//! Parts of ELF files, to be replaced.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use super::succeed;

/// Where a section header is in the file, and its index.
pub struct Header {
    pub at: usize,
    pub index: usize,
}

/// Reads a number of `size` bytes.
pub fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Finds a section by its name.
pub fn find_section(bytes: &[u8], name: &str) -> Header {
    let (table, count) = (number(bytes, 40, 8) as usize, number(bytes, 60, 2) as usize);
    let names = number(bytes, table + number(bytes, 62, 2) as usize * 64 + 24, 8) as usize;
    let is_named = |index: &usize| {
        let at = names + number(bytes, table + index * 64, 4) as usize;
        bytes[at..].starts_with(format!("{name}\0").as_bytes())
    };
    let index = (0..count).find(is_named).unwrap_or_else(|| panic!("no section {name}"));
    Header { at: table + index * 64, index }
}

/// Overwrites a part of a file.
pub fn write(path: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// Renames the function `spin` of a program to any bytes but 0: objcopy makes space for the name.
pub fn rename_function(path: &Path, to: &[u8]) {
    let placeholder = "~".repeat(to.len());
    let table = path.with_extension("names");
    fs::write(&table, format!("spin {placeholder}\n")).unwrap();
    let option = format!("--redefine-syms={}", table.display());
    succeed(Command::new("objcopy").arg(option).arg(path));
    fs::remove_file(table).unwrap();
    let bytes = fs::read(path).unwrap();
    let strings = number(&bytes, find_section(&bytes, ".strtab").at + 24, 8) as usize;
    let text = [placeholder.as_bytes(), b"\0"].concat();
    let at = bytes[strings..].windows(text.len()).position(|window| window == text).unwrap();
    write(path, (strings + at) as u64, to);
}
