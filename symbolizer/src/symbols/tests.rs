//! Damaged files are read within bounds.

use super::*;
use crate::damage::Random;

/// Small files of many kinds.
const FILES: [&[u8]; 6] = [
    include_bytes!("../../../tests/corpus/elf/debug_frame_compressed"),
    include_bytes!("../../../tests/corpus/elf/eh_frame"),
    include_bytes!("../../../tests/corpus/elf/go"),
    include_bytes!("../../../tests/corpus/elf/go_merged"),
    include_bytes!("../../../tests/corpus/elf/no_section_headers"),
    include_bytes!("../../../tests/corpus/elf/odd"),
];
const MEMORY: u64 = 8 << 20;

/// Looks up some addresses of code; returns how many have names.
fn look_up(bytes: Vec<u8>) -> usize {
    let Ok(file) = ElfFile::from_memory(bytes) else { return 0 };
    let areas = file.code();
    let symbols = SymbolTables::read(file, None, MEMORY);
    let mut named = 0;
    for area in areas.iter().take(8) {
        for back in [0, 1, 7, 16, 40] {
            for address in [area.start.wrapping_add(back), area.end.wrapping_sub(back)] {
                if let Some(function) = symbols.find(address) {
                    assert!(function.addresses.contains(&address), "{function:x?}");
                    named += 1;
                }
            }
        }
    }
    named
}

#[test]
fn damaged_files_are_read_within_bounds() {
    let own = compiled();
    let files: Vec<&[u8]> = FILES.into_iter().chain([own.as_slice()]).collect();
    assert!(look_up(own.clone()) > 5);
    let (mut random, mut named) = (Random(1), 0);
    for round in 0..4000 {
        let mut bytes = files[round % files.len()].to_vec();
        let (whole, headers) = (bytes.len(), bytes.len().min(0x400));
        // Headers, and tables at the end, are a small part of most files.
        match random.below(3) {
            0 => random.mutate(&mut bytes),
            1 => random.mutate(&mut bytes[..headers]),
            _ => random.mutate(&mut bytes[whole - whole / 4..]),
        }
        if random.below(10) == 0 {
            bytes.truncate(random.below(whole));
        }
        named += look_up(bytes);
    }
    assert!(named > 1000, "{named} names in files that are hardly damaged");
}

/// Compiles a small program with symbols, stubs and a dynamic segment.
fn compiled() -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("program");
    let source = "#include <stdlib.h>\nint main(void) { return rand() + (int)random(); }";
    let source_path = path.with_extension("c");
    std::fs::write(&source_path, source).expect("written");
    let mut compiler = std::process::Command::new("gcc");
    let done = compiler.arg("-Wl,-z,lazy").arg("-o").arg(&path).arg(&source_path).status();
    assert!(done.is_ok_and(|status| status.success()), "gcc");
    std::fs::read(path).expect("readable")
}
