//! Time to read a file into its table, compared with gimli alone iterating over the same rows.
//!
//! `cargo bench -p unwind --bench rows -- FILE...`. Each round measures both in turn. The round
//! with the median ratio is printed, because the machine may be noisy.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // prints its result, may panic

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindContext, UnwindSection};
use object::{Object, ObjectSection};

const ROUNDS: usize = 15;

fn main() {
    let files: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    println!("{:>10}  {:>8}  {:>8}  {:>5}  file", "rows", "gimli ms", "table ms", "ratio");
    for path in if files.is_empty() { vec!["/proc/self/exe".to_owned()] } else { files } {
        measure(&path);
    }
}

fn measure(path: &str) {
    let bytes = std::fs::read(path).unwrap();
    let elf = object::File::parse(&*bytes).unwrap();
    let section = elf.section_by_name(".eh_frame").unwrap();
    let frames = EhFrame::new(section.data().unwrap(), LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(section.address());
    let file = File::open(path).unwrap();

    let mut rounds: Vec<(Duration, Duration, u64)> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let rows = iterate(&frames, &bases);
            let gimli = start.elapsed();
            let start = Instant::now();
            let read = |at, bytes: &mut [u8]| file.read_exact_at(bytes, at).is_ok();
            unwind::read(&read).unwrap();
            (gimli, start.elapsed(), rows)
        })
        .collect();
    rounds.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
    let middle = &rounds[ROUNDS / 2];
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{:>10}  {:>8.1}  {:>8.1}  {:>5.2}  {path}",
        middle.2,
        ms(middle.0),
        ms(middle.1),
        ratio(middle)
    );
}

fn ratio(round: &(Duration, Duration, u64)) -> f64 {
    round.1.as_secs_f64() / round.0.as_secs_f64()
}

/// Counts the rows of a section as gimli iterates over them: each FDE once, its CIE looked up in
/// the section.
fn iterate(frames: &EhFrame<gimli::EndianSlice<'_, LittleEndian>>, bases: &BaseAddresses) -> u64 {
    let mut context = UnwindContext::new();
    let mut entries = frames.entries(bases);
    let mut rows = 0;
    while let Some(entry) = entries.next().unwrap() {
        let CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(EhFrame::cie_from_offset).unwrap();
        let mut table = fde.rows(frames, bases, &mut context).unwrap();
        while table.next_row().unwrap().is_some() {
            rows += 1;
        }
    }
    rows
}
