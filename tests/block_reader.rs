//! A block of a table that is read alone says what the whole reading says, in every file of this machine that has pieces.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use common::installed_files;
use unwind::{BLOCK_SHIFT_MAX, BlockReader, RegisterRule, Rule, Table, rule_in};

/// Addresses that are asked in each block of the larger files.
const STEP: usize = 7;

/// The pieces also say where the base register is, which a whole table without need of it leaves out.
fn same(piece: Rule, whole: Rule) -> bool {
    piece == whole || Rule { base: RegisterRule::Undefined, ..piece } == whole
}

/// Compares every block with that of the whole table; gives how many there were.
fn compare(path: &Path, read: unwind::ReadAt<'_>, whole: &Table) -> usize {
    let Some(pieces) = BlockReader::open(read) else { return 0 };
    assert_eq!(pieces.start(), whole.start, "{}", path.display());
    let numbers = 0..whole.blocks.len() as u32;
    let blocks: Vec<_> = numbers.filter_map(|n| Some((n, pieces.block(n)?))).collect();
    for (number, block) in &blocks {
        let start = whole.start + (u64::from(*number) << BLOCK_SHIFT_MAX);
        for into in (0..1u32 << BLOCK_SHIFT_MAX).step_by(STEP) {
            let (piece, whole) = (rule_in(block, into), whole.rule_at(start + u64::from(into)));
            assert!(
                same(piece, whole),
                "{} at {:#x}: {piece:?} alone, {whole:?} in the whole",
                path.display(),
                start + u64::from(into)
            );
        }
    }
    blocks.len()
}

#[test]
fn a_block_read_alone_has_the_rows_of_the_whole_reading() {
    let (mut files, mut blocks) = (0, 0);
    for path in installed_files() {
        let Ok(file) = File::open(&path) else { continue };
        let read = |at: u64, bytes: &mut [u8]| file.read_exact_at(bytes, at).is_ok();
        let Ok(frames) = unwind::read(&read) else { continue };
        if frames.table.block_shift == BLOCK_SHIFT_MAX {
            let compared = compare(&path, &read, &frames.table);
            files += usize::from(compared > 0);
            blocks += compared;
        }
    }
    println!("{blocks} blocks of {files} files are the same");
    assert!(files > 100 && blocks > 500, "{blocks} blocks of {files} files");
}
