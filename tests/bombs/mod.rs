//! ELF files that are small on disk and enormous to a parser: working programs with one part
//! replaced. All run `tests/programs/chain.c`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::common::{compile, compile_with, succeed};

/// Where a section header is in the file, and its index.
struct Header {
    at: usize,
    index: usize,
}

fn number(bytes: &[u8], at: usize, size: usize) -> u64 {
    bytes[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn find_section(bytes: &[u8], name: &str) -> Header {
    let (table, count) = (number(bytes, 40, 8) as usize, number(bytes, 60, 2) as usize);
    let names = number(bytes, table + number(bytes, 62, 2) as usize * 64 + 24, 8) as usize;
    let is_named = |index: &usize| {
        let at = names + number(bytes, table + index * 64, 4) as usize;
        bytes[at..].starts_with(format!("{name}\0").as_bytes())
    };
    let index = (0..count).find(is_named).unwrap_or_else(|| panic!("no section {name}"));
    Header { at: table + index * 64, index }
}

fn write(path: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// Makes a section consist of new contents at the end of the file; what follows them is sparse.
fn replace(path: &Path, name: &str, contents: &[u8], size: u64) {
    let bytes = fs::read(path).unwrap();
    let header = find_section(&bytes, name).at as u64;
    let offset = (bytes.len() as u64).next_multiple_of(4096);
    File::options().write(true).open(path).unwrap().set_len(offset + size).unwrap();
    write(path, offset, contents);
    write(path, header + 24, &offset.to_le_bytes());
    write(path, header + 32, &size.to_le_bytes());
}

/// A symbol table of 4 GB, sparse.
pub fn sparse_symbols(directory: &Path, name: &str) -> PathBuf {
    let path = compile("chain.c", directory, name);
    replace(&path, ".symtab", &[0; 24], 4 << 30);
    path
}

/// A hundred thousand sections, each with a name of a mebibyte.
pub fn many_sections(directory: &Path, name: &str) -> PathBuf {
    const COUNT: usize = 100_000;
    let path = compile("chain.c", directory, name);
    let names = find_section(&fs::read(&path).unwrap(), ".shstrtab");
    replace(&path, ".shstrtab", &[b'x'; 1 << 20], (1 << 20) + 1);
    let bytes = fs::read(&path).unwrap();
    let mut table = vec![0; COUNT * 64];
    table[32..40].copy_from_slice(&(COUNT as u64).to_le_bytes());
    table[40..44].copy_from_slice(&(names.index as u32).to_le_bytes());
    table[names.index * 64..][..64].copy_from_slice(&bytes[names.at..][..64]);
    let at = (bytes.len() as u64).next_multiple_of(8);
    write(&path, at, &table);
    write(&path, 40, &at.to_le_bytes());
    write(&path, 60, &[0, 0, 0xff, 0xff]); // the true numbers are in the first section
    path
}

/// A function with another name, without debug information.
pub fn renamed(directory: &Path, name: &str, to: &[u8]) -> PathBuf {
    let path = compile_with("chain.c", directory, name, &["-g0"]);
    let table = directory.join(format!("{name}.names"));
    fs::write(&table, [b"spin ", to, b"\n"].concat()).unwrap();
    let table = format!("--redefine-syms={}", table.display());
    succeed(Command::new("objcopy").arg(table).arg(&path));
    path
}

/// Debug information from assembler text: `dies` are the children of a unit at `spin`, by the
/// abbreviations 2, a function that specifies another entry, and 3, a function inlined in the one
/// around it. `more` are further sections.
fn dwarf(directory: &Path, name: &str, dies: &str, more: &str) -> PathBuf {
    let text = format!(
        r#".section .debug_abbrev,"",%progbits
abbreviations:
.byte 1, 0x11, 1, 0x11, 0x01, 0x12, 0x06, 0, 0
.byte 2, 0x2e, 1, 0x11, 0x01, 0x12, 0x06, 0x47, 0x13, 0, 0
.byte 3, 0x1d, 1, 0x31, 0x13, 0x11, 0x01, 0x12, 0x06, 0, 0
.byte 0
.section .debug_info,"",%progbits
unit:
.long unit_end - unit - 4
.value 4
.long 0
.byte 8, 1
.quad spin
.long 4096
die:
.byte 2
.quad spin
.long 4096, die - unit
{dies}
.byte 0, 0
unit_end:
{more}
.section .note.GNU-stack,"",%progbits
"#
    );
    let source = directory.join(format!("{name}.s"));
    fs::write(&source, text).unwrap();
    compile_with("chain.c", directory, name, &["-g0", source.to_str().unwrap()])
}

/// A function that is specified by itself.
pub fn cyclic_specification(directory: &Path, name: &str) -> PathBuf {
    dwarf(directory, name, "", "")
}

/// Fifty thousand functions inlined in each other.
pub fn deep_inlining(directory: &Path, name: &str) -> PathBuf {
    let dies = ".rept 50000\n.byte 3\n.long die - unit\n.quad spin\n.long 4096\n.endr\n\
                .rept 50000\n.byte 0\n.endr";
    dwarf(directory, name, dies, "")
}

/// Units that each have a list of up to as many abbreviations of their own; at most 16,000.
pub fn quadratic_abbreviations(directory: &Path, name: &str, count: usize) -> PathBuf {
    let last = 199 + count;
    let more = format!(
        ".section .debug_abbrev,\"\",%progbits\n\
         many:\n.set code, 200\n\
         .rept {count}\n.uleb128 code\n.byte 0x11, 0, 0, 0\n.set code, code + 1\n.endr\n\
         .byte 0\n\
         .section .debug_info,\"\",%progbits\n.set offset, 0\n\
         .rept {count}\n.long 9\n.value 4\n.long many - abbreviations + offset\n\
         .byte 8\n.uleb128 {last}\n.set offset, offset + 6\n.endr"
    );
    dwarf(directory, name, "", &more)
}
