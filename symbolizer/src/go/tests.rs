//! Damaged function tables are read within bounds.

use super::*;
use crate::damage::Random;

/// Small files with a function table: in a section of its own, and among other data.
const FILES: [&[u8]; 2] = [
    include_bytes!("../../../tests/corpus/elf/go"),
    include_bytes!("../../../tests/corpus/elf/go_merged"),
];

/// Looks up addresses all over the code; returns how many have a name.
fn look_up(bytes: Vec<u8>) -> usize {
    let Ok(elf) = ElfFile::from_memory(bytes) else { return 0 };
    let Some(table) = GoTable::find(&elf) else { return 0 };
    let mut named = 0;
    for area in elf.code().into_iter().take(4) {
        let step = ((area.end - area.start) / 16).max(1);
        for at in 0..16 {
            let functions = table.functions(&elf, area.start.wrapping_add(at * step));
            assert!(functions.len() <= INLINED_MAX);
            assert!(functions.iter().all(|f| f.name.len() <= 3 * TEXT_MAX), "{functions:?}");
            named += functions.iter().filter(|function| !function.name.is_empty()).count();
        }
    }
    named
}

#[test]
fn damaged_tables_are_read_within_bounds() {
    assert!(FILES.iter().all(|file| look_up(file.to_vec()) > 0));
    let (mut random, mut named) = (Random(3), 0);
    for round in 0..6000 {
        let mut bytes = FILES[round % FILES.len()].to_vec();
        random.mutate(&mut bytes);
        if random.below(10) == 0 {
            bytes.truncate(random.below(bytes.len()));
        }
        named += look_up(bytes);
    }
    assert!(named > 1000, "{named} names in files that are hardly damaged");
}

#[test]
fn a_chain_of_inlined_calls_in_a_circle_ends() {
    // The table of one function: each address is inlined in the call of itself.
    let mut bytes = vec![0; 0x400];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let parts = [1u64, 0, 0, 0x100, 0x120, 0x140, 0x160, 0x180];
    put(0, &layout::STARTS[2]);
    put(8, &parts.map(u64::to_le_bytes).concat());
    put(0x100, b"\0f\0g\0");
    put(0x121, &[0xff]); // never read: no file
    put(0x161, &[2, 0x7f, 0]); // at 1: value 0 for 127 bytes
    put(0x180, &[0u32, 0x20, 0x80].map(u32::to_le_bytes).concat());
    // Name 1, distances at 1, neither files nor lines, three lists, four pointers.
    put(0x1a0, &[0u32, 1, 0, 0, 1, 0, 0, 3, 0, 0, 0x0400_0000].map(u32::to_le_bytes).concat());
    put(0x1a0 + 44, &[0u32, 0, 1, 0, 0, 0, 0].map(u32::to_le_bytes).concat());
    let place = Place {
        offset: 0,
        layout: layout::Layout::read(&crate::elf::FileBytes::from_memory(bytes.clone()), 0)
            .expect("a header"),
        text: 0x1000,
        function_data: Some(0x300),
    };
    // An ELF file whose only segment is all of it: the tree at 0x300 has one call, of `g` at 0.
    let header = elf_of(&mut bytes);
    let elf = ElfFile::from_memory(header).expect("an ELF file");
    let offset = elf.offset_of(0x300).expect("loaded").0 - 0x300;
    let table = GoTable { place: Place { offset, ..place } };
    let functions = table.functions(&elf, 0x1005);
    assert_eq!(functions.len(), INLINED_MAX);
    assert!(functions.iter().all(|function| function.name == "g"), "{functions:?}");
}

/// Puts bytes behind the headers of an ELF file that loads them at 0.
fn elf_of(bytes: &mut [u8]) -> Vec<u8> {
    bytes[0x304..0x308].copy_from_slice(&3u32.to_le_bytes()); // the name of the inlined function
    let mut file = vec![0; 120];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[32..40].copy_from_slice(&64u64.to_le_bytes());
    file[56..58].copy_from_slice(&1u16.to_le_bytes());
    file[64..68].copy_from_slice(&1u32.to_le_bytes()); // PT_LOAD
    file[72..80].copy_from_slice(&120u64.to_le_bytes());
    file[96..104].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    file.extend_from_slice(bytes);
    file
}
