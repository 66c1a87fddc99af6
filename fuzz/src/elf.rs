//! Reads arbitrary bytes as an ELF file and looks addresses up in the resulting table.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let at = |offset: u64, bytes: &mut [u8]| {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let source = from.checked_add(bytes.len()).and_then(|end| file.get(from..end));
        source.map(|source| bytes.copy_from_slice(source)).is_some()
    };
    if let Some(reader) = unwind::BlockReader::open(&at) {
        reader.block(0);
    }
    let Ok(frames) = unwind::read(&at) else { return };
    // The search and the list of rows agree on every row.
    for (address, rule) in frames.table.iter().take(1000) {
        assert_eq!(frames.table.rule_at(address), rule);
    }
});
