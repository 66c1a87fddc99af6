//! Debug files read by crate `object`, and damaged input.

use std::io::Write;

use object::elf::{PT_LOAD as LOAD, PT_NOTE as NOTE};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, SectionKind};

use super::elf::{HEADER_LEN, OMITTED_DWARF, u64_at};
use super::*;

/// Returns the bytes of this test binary, which has DWARF, symbols and possibly a build ID.
fn own_binary() -> Vec<u8> {
    std::fs::read(std::env::current_exe().unwrap()).unwrap()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn contents(debug: &DebugFile) -> Vec<u8> {
    let mut all = Vec::new();
    let take = |chunk: Vec<u8>| {
        all.extend(chunk);
        true
    };
    debug.for_each_chunk(10_000, take).unwrap();
    all
}

type Elf64<'a> = ElfFile64<'a, Endianness>;

#[test]
fn object_reads_the_same_debug_info_from_a_smaller_file() {
    let whole = own_binary();
    let debug = DebugFile::read(file_of(&whole)).unwrap();
    assert_eq!(debug.quality(), Quality::Dwarf);
    let small = contents(&debug);
    assert_eq!(small.len() as u64, debug.length());
    assert!(small.len() < whole.len());

    let (old, new) = (Elf64::parse(&*whole).unwrap(), Elf64::parse(&*small).unwrap());
    let mut compared = 0;
    for (old, new) in old.sections().zip(new.sections()) {
        let name = old.name().unwrap();
        assert_eq!((name, old.address()), (new.name().unwrap(), new.address()));
        if name.strip_prefix(".debug_").is_some_and(|name| OMITTED_DWARF.contains(&name)) {
            assert_eq!(new.size(), 0);
            continue;
        }
        assert_eq!(old.size(), new.size());
        if old.kind() == SectionKind::Text {
            assert!(new.data().unwrap().is_empty(), "{:?}", new.name());
        } else if name.starts_with(".debug") {
            compared += 1;
            assert!(old.data() == new.data(), "{name}");
        }
    }
    assert!(compared > 3);
    let symbols = |elf: &Elf64| {
        let all = elf.symbols().map(|s| (s.name().unwrap().to_owned(), s.address(), s.size()));
        all.collect::<Vec<_>>()
    };
    assert!(!symbols(&old).is_empty() && symbols(&old) == symbols(&new));
    let loads = |elf: &Elf64| {
        let loads = elf.elf_program_headers().iter().filter(|s| s.p_type(elf.endian()) == LOAD);
        let e = elf.endian();
        loads
            .map(|s| (s.p_vaddr(e), s.p_offset(e), s.p_filesz(e), s.p_memsz(e)))
            .collect::<Vec<_>>()
    };
    assert!(!loads(&old).is_empty() && loads(&old) == loads(&new));
    assert_eq!(old.build_id().unwrap(), new.build_id().unwrap());
    assert_eq!(notes(&old, &whole), notes(&new, &small));
}

/// Returns the contents of the note segments.
fn notes(elf: &Elf64, bytes: &[u8]) -> Vec<Vec<u8>> {
    let e = elf.endian();
    let notes = elf.elf_program_headers().iter().filter(|s| s.p_type(e) == NOTE);
    let range = |s: &object::elf::ProgramHeader64<Endianness>| {
        s.p_offset(e) as usize..(s.p_offset(e) + s.p_filesz(e)) as usize
    };
    notes.map(|s| bytes[range(s)].to_vec()).collect()
}

#[test]
fn equal_files_have_equal_hashes() {
    let whole = own_binary();
    let [first, second] = [0, 1].map(|_| DebugFile::read(file_of(&whole)).unwrap());
    assert_eq!(first.hash(), second.hash());
    assert_eq!(first.hash().len(), 64);
}

#[test]
fn a_file_without_debug_info_is_unfit() {
    let mut stripped = contents(&DebugFile::read(file_of(&own_binary())).unwrap());
    let elf = Elf64::parse(&*stripped).unwrap();
    let (start, length) = elf.section_by_name(".shstrtab").unwrap().file_range().unwrap();
    // Rename the sections with debug info, as in `.xebug_info`.
    for at in start as usize..(start + length) as usize {
        let has_debug_info =
            [".debug_", ".symtab"].iter().any(|n| stripped[at..].starts_with(n.as_bytes()));
        if has_debug_info {
            stripped[at + 1] = b'x';
        }
    }
    assert!(matches!(DebugFile::read(file_of(&stripped)), Err(UnfitReason::Nothing)));
}

#[test]
fn damaged_files_do_not_panic() {
    for bytes in [b"".as_slice(), b"#!/bin/sh", &own_binary()[..63]] {
        assert!(matches!(DebugFile::read(file_of(bytes)), Err(UnfitReason::Malformed(_))));
    }
    let whole = own_binary();
    let table = u64_at(&whole, 40) as usize;
    for seed in 0..500 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = whole[..HEADER_LEN + 4096].to_vec();
        let sections = &whole[table..];
        let start = bytes.len() as u64;
        bytes[40..48].copy_from_slice(&start.to_le_bytes());
        bytes.extend_from_slice(sections);
        for _ in 0..random.usize(1..20) {
            let at = random.usize(7..bytes.len());
            bytes[at] = random.u8(..);
        }
        if let Ok(debug) = DebugFile::read(file_of(&bytes)) {
            assert!(debug.length() <= 3 * bytes.len() as u64);
            let _ = debug.for_each_chunk(4096, |_| true);
        }
    }
}

#[test]
fn a_file_truncated_meanwhile_is_an_error() {
    let file = file_of(&own_binary());
    let debug = DebugFile::read(file.try_clone().unwrap()).unwrap();
    file.set_len(4096).unwrap();
    assert!(debug.for_each_chunk(1 << 20, |_| true).is_err());
}

#[test]
fn a_directory_is_unfit() {
    let error = DebugFile::read(File::open("/proc").unwrap()).unwrap_err();
    assert!(matches!(error, UnfitReason::Malformed(_)), "{error}");
}

#[test]
fn a_file_of_many_sections_has_no_debug_file() {
    let mut bytes = own_binary()[..HEADER_LEN].to_vec();
    bytes[40..48].copy_from_slice(&(HEADER_LEN as u64).to_le_bytes());
    bytes[56..58].copy_from_slice(&0u16.to_le_bytes());
    bytes[60..62].copy_from_slice(&50_000u16.to_le_bytes());
    bytes[62..64].copy_from_slice(&1u16.to_le_bytes());
    bytes.resize(HEADER_LEN + 50_000 * 64, 0);
    let error = DebugFile::read(file_of(&bytes)).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), UnfitReason::Malformed("section headers").to_string());
}
