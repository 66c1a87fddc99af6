//! A million mutated ELF files go through the reader of call frames: none makes it panic, take more
//! memory than it may, or run for long.
//!
//! `tests/corpus/make.sh` made the seeds; what a fuzzer finds is put beside them. `EVERYTICK_MUTATIONS`
//! asks for another number, `./dev fuzz` searches for more by coverage.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::time::Duration;

use peak_alloc::PeakAlloc;
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that reading a file of a few kilobytes may take: what a compressed section may unpack to, and as
/// much for the table of a text of [`unwind::TEXT_MAX`] bytes.
const MEMORY_MAX: usize = 2 * unwind::SECTION_MAX as usize;
/// CPU time of one file. The slowest that is known takes a thousandth of it.
const TIME_MAX: Duration = Duration::from_secs(5);

/// The files of the corpus, by name.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/elf");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Reads a file that is held in memory, and asks its table a few things.
fn read(file: &[u8]) -> bool {
    let at = |offset: u64, bytes: &mut [u8]| {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = from.checked_add(bytes.len()).and_then(|end| file.get(from..end));
        found.map(|found| bytes.copy_from_slice(found)).is_some()
    };
    // Blocks that are read alone may say something else, but no more harm comes of them.
    for number in [0, 1, u32::MAX] {
        unwind::BlockReader::open(&at).and_then(|pieces| pieces.block(number));
    }
    let Ok(frames) = unwind::read(&at) else { return false };
    for address in [0, frames.table.start, frames.table.start.wrapping_add(0x1ff), u64::MAX] {
        frames.table.rule_at(address);
    }
    true
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Random numbers that are the same in every run: SplitMix64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Numbers at which sizes, offsets and counts go wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 26,
    1 << 30,
    1 << 40,
    u64::MAX - 8,
    u64::MAX,
];

/// Changes a file in one to six places: bits, bytes, whole numbers, pieces of it or of another file.
fn mutate(file: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    for _ in 0..=numbers.below(6) {
        if file.is_empty() {
            return;
        }
        let at = numbers.below(file.len());
        match numbers.below(7) {
            0 => file[at] ^= 1 << numbers.below(8),
            1 => file[at] = numbers.next() as u8,
            2 | 3 => {
                let width = 1 << numbers.below(4);
                let (at, edge) = (at / width * width, EDGES[numbers.below(EDGES.len())]);
                let end = file.len().min(at + width);
                file[at..end].copy_from_slice(&edge.to_le_bytes()[..end - at]);
            }
            4 => {
                let (from, len) = (numbers.below(other.len()), 1 + numbers.below(64));
                let piece = &other[from..other.len().min(from + len)];
                let end = file.len().min(at + piece.len());
                file[at..end].copy_from_slice(&piece[..end - at]);
            }
            5 => {
                let len = 1 + numbers.below(32);
                let piece = file[at..file.len().min(at + len)].to_vec();
                file.splice(at..at, piece);
            }
            _ => {
                let len = 1 + numbers.below(32);
                file.drain(at..file.len().min(at + len));
            }
        }
    }
}

#[test]
fn a_million_mutated_files_do_no_harm() {
    let count = std::env::var("EVERYTICK_MUTATIONS").map_or(1_000_000, |n| n.parse().unwrap());
    let seeds = corpus();
    assert!(seeds.iter().filter(|(_, file)| read(file)).count() >= 5, "the seeds are sound");
    let mut numbers = Numbers(1);
    let (mut sound, mut slowest, mut largest) = (0u64, Duration::ZERO, 0);
    for number in 0..count {
        let (name, seed) = &seeds[number % seeds.len()];
        let mut file = seed.clone();
        let other = numbers.below(seeds.len());
        mutate(&mut file, &seeds[other].1, &mut numbers);

        MEMORY.reset_peak_usage();
        let (before, start) = (MEMORY.current_usage(), cpu_time());
        sound += u64::from(read(&file));
        let (time, bytes) = (cpu_time() - start, MEMORY.peak_usage() - before);
        assert!(bytes < MEMORY_MAX, "mutation {number} of {name} took {bytes} bytes");
        assert!(time < TIME_MAX, "mutation {number} of {name} took {time:?}");
        (slowest, largest) = (slowest.max(time), largest.max(bytes));
    }
    assert!(sound * 10 > count as u64, "only {sound} of {count} were still read");
    println!("{count} files, {sound} with a table; at most {} KiB and {slowest:?}", largest >> 10);
}

#[test]
fn a_text_full_of_what_looks_like_a_signal_frame_is_searched_once() {
    // A stripped static executable of 8 MiB in which each 8 bytes are musl's return from a signal.
    let seed = corpus().into_iter().find(|(name, _)| name == "no_section_headers").unwrap().1;
    let mut file = seed.clone();
    let size = 8u64 << 20;
    file.resize(0x1000, 0x90);
    file.extend([0xb8, 15, 0, 0, 0, 0x0f, 0x05, 0x90].repeat(size as usize / 8));
    for at in [64 + 32, 64 + 40] {
        file[at..at + 8].copy_from_slice(&(0x1000 + size).to_le_bytes()); // p_filesz, p_memsz
    }
    let start = cpu_time();
    assert!(read(&file));
    assert!(cpu_time() - start < TIME_MAX);
}
