//! The smaller file, read by crate `object`; and damaged ones.

use std::io::Write;

use object::elf::{PT_LOAD as LOAD, PT_NOTE as NOTE};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, Object, ObjectSection, ObjectSymbol, SectionKind};

use super::elf::{HEADER_LEN, NOT_NEEDED, u64_at};
use super::*;

/// This very program: it has DWARF, symbols and a build id or not, as the linker likes.
fn own() -> Vec<u8> {
    std::fs::read(std::env::current_exe().unwrap()).unwrap()
}

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn contents(debug: &DebugFile) -> Vec<u8> {
    let mut all = Vec::new();
    let take = |piece: Vec<u8>| {
        all.extend(piece);
        true
    };
    debug.copy(10_000, take).unwrap();
    all
}

type Elf64<'a> = ElfFile64<'a, Endianness>;

#[test]
fn another_reader_finds_the_same_debug_info_in_less() {
    let whole = own();
    let debug = DebugFile::of(file_of(&whole)).unwrap();
    assert_eq!(debug.quality(), Quality::Dwarf);
    let small = contents(&debug);
    assert_eq!(small.len() as u64, debug.length());
    assert!(small.len() < whole.len());

    let (old, new) = (Elf64::parse(&*whole).unwrap(), Elf64::parse(&*small).unwrap());
    let mut kept = 0;
    for (old, new) in old.sections().zip(new.sections()) {
        let name = old.name().unwrap();
        assert_eq!((name, old.address()), (new.name().unwrap(), new.address()));
        if name.strip_prefix(".debug_").is_some_and(|name| NOT_NEEDED.contains(&name)) {
            assert_eq!(new.size(), 0);
            continue;
        }
        assert_eq!(old.size(), new.size());
        if old.kind() == SectionKind::Text {
            assert!(new.data().unwrap().is_empty(), "{:?}", new.name());
        } else if name.starts_with(".debug") {
            kept += 1;
            assert!(old.data() == new.data(), "{name}");
        }
    }
    assert!(kept > 3);
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

/// Contents of note segments.
fn notes(elf: &Elf64, bytes: &[u8]) -> Vec<Vec<u8>> {
    let e = elf.endian();
    let notes = elf.elf_program_headers().iter().filter(|s| s.p_type(e) == NOTE);
    let range = |s: &object::elf::ProgramHeader64<Endianness>| {
        s.p_offset(e) as usize..(s.p_offset(e) + s.p_filesz(e)) as usize
    };
    notes.map(|s| bytes[range(s)].to_vec()).collect()
}

#[test]
fn the_hash_is_that_of_the_file() {
    let whole = own();
    let [first, second] = [0, 1].map(|_| DebugFile::of(file_of(&whole)).unwrap());
    assert_eq!(first.hash(), second.hash());
    assert_eq!(first.hash().len(), 64);
}

#[test]
fn a_file_without_debug_info_is_not_taken() {
    let mut stripped = contents(&DebugFile::of(file_of(&own())).unwrap());
    let elf = Elf64::parse(&*stripped).unwrap();
    let (start, length) = elf.section_by_name(".shstrtab").unwrap().file_range().unwrap();
    // Other names for the sections that count, such as `.xebug_info`.
    for at in start as usize..(start + length) as usize {
        let is_counted =
            [".debug_", ".symtab"].iter().any(|n| stripped[at..].starts_with(n.as_bytes()));
        if is_counted {
            stripped[at + 1] = b'x';
        }
    }
    assert!(matches!(DebugFile::of(file_of(&stripped)), Err(Unfit::Nothing)));
}

#[test]
fn damaged_files_are_refused_or_read_without_a_panic() {
    for bytes in [b"".as_slice(), b"#!/bin/sh", &own()[..63]] {
        assert!(matches!(DebugFile::of(file_of(bytes)), Err(Unfit::Malformed(_))));
    }
    let whole = own();
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
        if let Ok(debug) = DebugFile::of(file_of(&bytes)) {
            assert!(debug.length() <= 3 * bytes.len() as u64);
            let _ = debug.copy(4096, |_| true);
        }
    }
}

#[test]
fn a_file_that_is_cut_meanwhile_is_an_error() {
    let file = file_of(&own());
    let debug = DebugFile::of(file.try_clone().unwrap()).unwrap();
    file.set_len(4096).unwrap();
    assert!(debug.copy(1 << 20, |_| true).is_err());
}

#[test]
fn a_directory_is_no_file() {
    let error = DebugFile::of(File::open("/proc").unwrap()).unwrap_err();
    assert!(matches!(error, Unfit::Malformed(_)), "{error}");
}
