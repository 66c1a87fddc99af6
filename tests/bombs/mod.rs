//! ELF files that are small on disk and enormous to a parser: working programs with one part
//! replaced. All run `tests/programs/chain.c`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::common::elf::{find_section, number, rename_function, write};
use super::common::{compile, compile_with, succeed};

const SHF_COMPRESSED: u64 = 1 << 11;

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

/// `.debug_info` of one unit of 4 GB, sparse.
pub fn sparse_unit(directory: &Path, name: &str) -> PathBuf {
    let path = compile("chain.c", directory, name);
    let bytes = fs::read(&path).unwrap();
    let header = find_section(&bytes, ".debug_info").at;
    let (at, size) = (number(&bytes, header + 24, 8), number(&bytes, header + 32, 8));
    let mut unit = bytes[at as usize..][..size as usize].to_vec();
    let size = 0xffff_ff00u32;
    unit[..4].copy_from_slice(&(size - 4).to_le_bytes());
    replace(&path, ".debug_info", &unit, size.into());
    path
}

/// A section of debug information that lies outside of the file.
pub fn section_outside(directory: &Path, name: &str) -> PathBuf {
    let path = compile("chain.c", directory, name);
    let header = find_section(&fs::read(&path).unwrap(), ".debug_line").at as u64;
    write(&path, header + 32, &(1u64 << 62).to_le_bytes());
    path
}

/// How a section is compressed: the number of the method in ELF.
#[derive(Clone, Copy)]
pub enum Compression {
    Zlib = 1,
    Zstd = 2,
}

/// A section of debug information that decompresses to this many zeros, and declares as many as
/// that or others.
pub fn compressed(
    directory: &Path,
    name: &str,
    section: &str,
    by: Compression,
    sizes: [u64; 2],
) -> PathBuf {
    let path = compile("chain.c", directory, name);
    compress_section(&path, section, by, sizes);
    path
}

fn compress_section(path: &Path, section: &str, by: Compression, [bytes, declared]: [u64; 2]) {
    let mut contents = vec![0; 24];
    contents[0] = by as u8;
    contents[8..16].copy_from_slice(&declared.to_le_bytes());
    contents[16] = 1; // alignment
    contents.extend(match by {
        Compression::Zlib => zlib_zeros(bytes),
        Compression::Zstd => zstd_zeros(bytes),
    });
    replace(path, section, &contents, contents.len() as u64);
    let header = find_section(&fs::read(path).unwrap(), section).at as u64;
    write(path, header + 8, &SHF_COMPRESSED.to_le_bytes());
}

/// Returns zeros compressed by zlib (RFC 1950 and 1951), without the end of the stream: a stored
/// byte, then a block with the fixed codes of "258 bytes from 1 byte before".
fn zlib_zeros(bytes: u64) -> Vec<u8> {
    const COPY: [u8; 13] = [1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0];
    let block = [1, 1, 0]; // the last one, with fixed codes
    let bits: Vec<u8> = block.iter().chain(COPY.iter().cycle()).take(14 * 8).copied().collect();
    let byte = |bits: &[u8]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit);
    let packed: Vec<u8> = bits.chunks(8).map(byte).collect();
    let mut stream = vec![0x78, 0x9c, 0, 1, 0, 0xfe, 0xff, 0, packed[0]];
    // Eight copies take 13 bytes, so what follows the first byte repeats.
    (0..=bytes / (8 * 258)).for_each(|_| stream.extend(&packed[1..]));
    stream
}

/// Returns zeros compressed by Zstandard (RFC 8878): blocks of 128 KiB that repeat a byte.
fn zstd_zeros(bytes: u64) -> Vec<u8> {
    const BLOCK: u64 = 128 << 10;
    const REPEAT: u64 = 1 << 1;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3]; // a window of 128 KiB
    let blocks = bytes.div_ceil(BLOCK);
    for number in 1..=blocks {
        let header = BLOCK << 3 | REPEAT | u64::from(number == blocks);
        frame.extend(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// An executable segment of 1 GiB, of which the file has a part, or all of it, sparse.
pub fn huge_code(directory: &Path, name: &str, is_whole: bool) -> PathBuf {
    const SIZE: u64 = 1 << 30;
    let path = compile_with("chain.c", directory, name, &["-static", "-no-pie"]);
    let bytes = fs::read(&path).unwrap();
    let table = number(&bytes, 32, 8) as usize;
    let headers = (0..number(&bytes, 56, 2) as usize).map(|index| table + index * 56);
    let is_code = |at: &usize| number(&bytes, *at, 4) == 1 && number(&bytes, at + 4, 4) & 1 == 1;
    let header = headers.clone().find(is_code).expect("an executable segment");
    let offset = number(&bytes, header + 8, 8);
    for field in [32, 40] {
        write(&path, (header + field) as u64, &SIZE.to_le_bytes());
    }
    if is_whole {
        File::options().write(true).open(&path).unwrap().set_len(offset + SIZE).unwrap();
    }
    path
}

/// Call frames of this many bytes: those of the program, then zeros.
pub fn huge_call_frames(directory: &Path, name: &str, size: u64) -> PathBuf {
    let path = compile("chain.c", directory, name);
    let bytes = fs::read(&path).unwrap();
    let header = find_section(&bytes, ".eh_frame").at;
    let (at, len) = (number(&bytes, header + 24, 8), number(&bytes, header + 32, 8));
    let frames = bytes[at as usize..][..len as usize - 4].to_vec(); // without their end
    replace(&path, ".eh_frame", &frames, size);
    path
}

/// Call frames in `.debug_frame` that decompress to this many zeros, and declare as many or others.
pub fn compressed_call_frames(directory: &Path, name: &str, sizes: [u64; 2]) -> PathBuf {
    let path = compile("chain.c", directory, name);
    let contents = directory.join(format!("{name}.frames"));
    fs::write(&contents, "frames").unwrap();
    let add = format!(".debug_frame={}", contents.display());
    succeed(Command::new("objcopy").args(["--add-section", &add]).arg(&path));
    compress_section(&path, ".debug_frame", Compression::Zlib, sizes);
    path
}

/// A symbol table whose names have no end: no byte of the string table is zero.
pub fn endless_names(directory: &Path, name: &str) -> PathBuf {
    let path = compile_with("chain.c", directory, name, &["-g0"]);
    replace(&path, ".strtab", &[b'n'; 8 << 20], 8 << 20);
    path
}

/// A symbol table of 4 GB, sparse.
pub fn sparse_symbols(directory: &Path, name: &str) -> PathBuf {
    let path = compile("chain.c", directory, name);
    replace(&path, ".symtab", &[0; 24], 4 << 30);
    path
}

/// The same without debug information.
pub fn sparse_symbols_alone(directory: &Path, name: &str) -> PathBuf {
    let path = compile_with("chain.c", directory, name, &["-g0"]);
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
    rename_function(&path, to);
    path
}

/// As many programs as wanted, without a function in common: eight functions with names of a
/// mebibyte each.
pub fn enormous_names(directory: &Path, count: usize) -> Vec<PathBuf> {
    const FUNCTIONS: usize = 8;
    let names: Vec<String> =
        (0..FUNCTIONS).map(|n| format!("f{n}{}", "x".repeat(1 << 20))).collect();
    let mut code = String::from(".globl main\nmain:\n");
    names.iter().for_each(|name| code.push_str(&format!("call {name}\n")));
    code.push_str("jmp main\n");
    for name in &names {
        code.push_str(&format!(
            ".type {name}, @function\n{name}:\nmov $1000000, %ecx\n1: dec %ecx\njnz 1b\nret\n\
             .size {name}, . - {name}\n"
        ));
    }
    code.push_str(".section .note.GNU-stack,\"\",@progbits\n");
    let (source, first) = (directory.join("enormous.s"), directory.join("enormous"));
    fs::write(&source, code).unwrap();
    succeed(Command::new("gcc").arg("-Wl,--build-id").arg(&source).arg("-o").arg(&first));
    let bytes = fs::read(&first).unwrap();
    let offset = |section| number(&bytes, find_section(&bytes, section).at + 24, 8);
    let (strings, build_id) = (offset(".strtab"), offset(".note.gnu.build-id") + 16);
    let starts = (0..FUNCTIONS).map(|function| {
        let start = format!("f{function}x");
        let mut texts = bytes[strings as usize..].windows(start.len());
        strings + texts.position(|text| text == start.as_bytes()).unwrap() as u64
    });
    let starts: Vec<u64> = starts.collect();
    let vary = |program: usize| {
        let path = directory.join(format!("names{program}"));
        fs::copy(&first, &path).unwrap();
        let digits = format!("{program:08}");
        write(&path, build_id, digits.as_bytes());
        starts.iter().for_each(|start| write(&path, start + 2, digits.as_bytes()));
        path
    };
    (0..count).map(vary).collect()
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
