//! Any bytes, taken for an ELF file, go through the reader of call frames, and any address is asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let at = |offset: u64, bytes: &mut [u8]| {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = from.checked_add(bytes.len()).and_then(|end| file.get(from..end));
        found.map(|found| bytes.copy_from_slice(found)).is_some()
    };
    if let Some(pieces) = unwind::BlockReader::open(&at) {
        pieces.block(0);
    }
    let Ok(frames) = unwind::read(&at) else { return };
    // What was built is found again: the search and the list agree on every row.
    for (address, rule) in frames.table.iter().take(1000) {
        assert_eq!(frames.table.rule_at(address), rule);
    }
});
