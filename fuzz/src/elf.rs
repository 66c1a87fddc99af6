//! Reads arbitrary bytes as an ELF file and looks addresses up in the resulting table.
#![no_main]

mod read_at;

use libfuzzer_sys::fuzz_target;
use read_at::read_at;

fuzz_target!(|file: &[u8]| {
    let at = read_at(file);
    if let Some(reader) = unwind::BlockReader::open(&at) {
        reader.block(0);
    }
    let Ok(frames) = unwind::read(&at) else { return };
    // The search and the list of rows agree on every row.
    for (address, rule) in frames.table.iter().take(1000) {
        assert_eq!(frames.table.rule_at(address), rule);
    }
});
