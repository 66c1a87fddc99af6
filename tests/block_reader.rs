//! A block that is read alone has the rows of the whole table, in every installed file whose blocks
//! can be read alone.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use common::installed_files;
use unwind::{BLOCK_SHIFT_MAX, BlockReader, Cfa, Gap, RegisterRule, Rule, Table, rule_in};

/// Distance of the addresses that are compared in each block.
const STEP: usize = 7;

/// Returns whether two rules are equal. A block that is read alone has the rule of the base
/// register even if the whole table does not need it, and no row where the root of a context is
/// known by its bytes alone. Where both have no row, one may be derived later.
fn is_same(alone: Rule, whole: Rule) -> bool {
    let alone = if alone == Rule::PENDING { Rule::NO_ROW } else { alone };
    let is_root_by_bytes = alone.cfa == Cfa::Gap(Gap::NoRow) && whole.cfa == Cfa::Root;
    alone == whole || Rule { base: RegisterRule::Undefined, ..alone } == whole || is_root_by_bytes
}

/// Compares every block of a file with the whole table. Returns the number of blocks.
fn compare(path: &Path, read: unwind::ReadAt<'_>, whole: &Table) -> usize {
    let Some(reader) = BlockReader::open(read) else { return 0 };
    assert_eq!(reader.start(), whole.start, "{}", path.display());
    let numbers = 0..whole.blocks.len() as u32;
    let blocks: Vec<_> = numbers.filter_map(|n| Some((n, reader.block(n)?))).collect();
    for (number, block) in &blocks {
        let start = whole.start + (u64::from(*number) << BLOCK_SHIFT_MAX);
        for into in (0..1u32 << BLOCK_SHIFT_MAX).step_by(STEP) {
            let (alone, whole) = (rule_in(block, into), whole.rule_at(start + u64::from(into)));
            assert!(
                is_same(alone, whole),
                "{} at {:#x}: {alone:?} in the block, {whole:?} in the table",
                path.display(),
                start + u64::from(into)
            );
        }
    }
    blocks.len()
}

#[test]
fn block_read_alone_has_the_rows_of_the_table() {
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
    println!("{blocks} blocks of {files} files are equal");
    assert!(files > 100 && blocks > 500, "{blocks} blocks of {files} files");
}
