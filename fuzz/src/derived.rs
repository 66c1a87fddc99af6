//! Reads arbitrary bytes as an ELF file and derives rows from its code, with and without call
//! frames.
#![no_main]

use libfuzzer_sys::fuzz_target;
use unwind::derived::{KnownStarts, check_derived, check_gaps};

fuzz_target!(|file: &[u8]| {
    let at = |offset: u64, bytes: &mut [u8]| {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let source = from.checked_add(bytes.len()).and_then(|end| file.get(from..end));
        source.map(|source| bytes.copy_from_slice(source)).is_some()
    };
    for starts in [KnownStarts::FromCallFrames, KnownStarts::None] {
        let Ok(report) = check_derived(&at, starts) else { return };
        assert!(report.equal + report.inconsistent <= report.instructions);
    }
    if let Ok(report) = check_gaps(&at) {
        assert!(report.with_row <= report.code);
    }
});
