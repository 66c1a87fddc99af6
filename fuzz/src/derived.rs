//! Reads arbitrary bytes as an ELF file and derives rows from its code, with and without call
//! frames.
#![no_main]

mod read_at;

use libfuzzer_sys::fuzz_target;
use read_at::read_at;
use unwind::derived::{KnownStarts, check_derived, check_gaps};

fuzz_target!(|file: &[u8]| {
    let at = read_at(file);
    for starts in [KnownStarts::FromCallFrames, KnownStarts::None] {
        let Ok(report) = check_derived(&at, starts) else { return };
        assert!(report.equal + report.inconsistent <= report.instructions);
    }
    if let Ok(report) = check_gaps(&at) {
        assert!(report.with_row <= report.code);
    }
});
