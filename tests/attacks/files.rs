//! Programs whose files attack the reader of symbols.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use object::elf::{FileHeader64, SectionHeader64};
use object::endian::LittleEndian;
use object::read::elf::FileHeader;

use super::common::{compile, succeed};

/// Size of the `.debug_info` section, in bytes; the file itself is sparse.
const DEBUG_INFO: u64 = 4 << 30;
/// Length of a symbol's name in bytes, and names in a file.
const NAME: usize = 1 << 20;
const NAMES: usize = 8;

/// Makes a program whose `.debug_info` is one unit of 4 GiB of zeros, in a file of some KiB.
pub fn sparse_debug_info(directory: &Path, name: &str) -> PathBuf {
    let path = compile("chain.c", directory, name);
    let mut bytes = fs::read(&path).unwrap();
    let unit = bytes.len().next_multiple_of(4096);
    let header_at = section_header(&bytes, ".debug_info");
    // Version 5, a compile unit, addresses of 8 bytes, abbreviations at 0.
    let mut start = 0xffff_ffefu32.to_le_bytes().to_vec();
    start.extend([5, 0, 1, 8, 0, 0, 0, 0]);
    bytes.resize(unit, 0);
    bytes.extend(start);
    let (offset, size) = (unit as u64, DEBUG_INFO);
    bytes[header_at + 24..header_at + 32].copy_from_slice(&offset.to_le_bytes()); // sh_offset
    bytes[header_at + 32..header_at + 40].copy_from_slice(&size.to_le_bytes()); // sh_size
    fs::write(&path, bytes).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(unit as u64 + DEBUG_INFO).unwrap();
    path
}

/// Returns where the header of a section is in the bytes of an ELF file.
fn section_header(bytes: &[u8], name: &str) -> usize {
    let header = FileHeader64::<LittleEndian>::parse(bytes).unwrap();
    let sections = header.sections(LittleEndian, bytes).unwrap();
    let index = sections
        .iter()
        .position(|section: &SectionHeader64<_>| {
            sections.section_name(LittleEndian, section).is_ok_and(|found| found == name.as_bytes())
        })
        .unwrap();
    let start = header.e_shoff(LittleEndian) as usize;
    start + index * size_of::<SectionHeader64<LittleEndian>>()
}

/// Makes a program that computes in functions whose names have a MiB each.
pub fn enormous_names(directory: &Path, name: &str) -> PathBuf {
    let names: Vec<String> = (0..NAMES).map(|n| format!("{n}{}", "x".repeat(NAME))).collect();
    let mut code = String::from(".globl main\nmain:\n");
    names.iter().for_each(|name| code.push_str(&format!("call f{name}\n")));
    code.push_str("jmp main\n");
    for name in &names {
        code.push_str(&format!(
            ".type f{name}, @function\nf{name}:\nmov $10000000, %ecx\n1: dec %ecx\njnz 1b\nret\n\
             .size f{name}, . - f{name}\n"
        ));
    }
    code.push_str(".section .note.GNU-stack,\"\",@progbits\n");
    let (source, path) = (directory.join(format!("{name}.s")), directory.join(name));
    fs::write(&source, code).unwrap();
    succeed(Command::new("gcc").arg("-Wl,--build-id=uuid").arg(&source).arg("-o").arg(&path));
    fs::remove_file(source).unwrap();
    path
}
