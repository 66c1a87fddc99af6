//! Reads the call frames of a million mutated ELF files: no panic, bounded memory, bounded time.
//!
//! `tests/corpus/make.sh` builds the seeds; files that a fuzzer finds are stored beside them.
//! `EVERYTICK_MUTATIONS` sets another number; `./dev fuzz` searches by coverage.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use peak_alloc::PeakAlloc;
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory that reading a file of a few kilobytes may take: the limit of a decompressed section, and
/// as much for the table of a text of [`unwind::TEXT_MAX`] bytes.
const MEMORY_MAX: usize = 2 * unwind::SECTION_MAX as usize;
/// CPU time that reading one file may take. The slowest known file takes a thousandth of it.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Returns names and contents of the corpus, sorted by name.
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

/// Reads a file in memory and looks addresses up in its table. Returns whether it has one.
fn read(file: &[u8]) -> bool {
    let at = |offset: u64, bytes: &mut [u8]| {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let source = from.checked_add(bytes.len()).and_then(|end| file.get(from..end));
        source.map(|source| bytes.copy_from_slice(source)).is_some()
    };
    // A block that is read alone may have other rows, within the same bounds.
    for number in [0, 1, u32::MAX] {
        unwind::BlockReader::open(&at).and_then(|reader| reader.block(number));
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

/// SplitMix64: the same random numbers in every run.
struct Random(u64);

impl Random {
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

/// Values at the edges of sizes, offsets and counts.
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

/// Mutates a file at one to six offsets: bits, bytes, numbers, parts of this or another file.
fn mutate(file: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    for _ in 0..=random.below(6) {
        if file.is_empty() {
            return;
        }
        let at = random.below(file.len());
        match random.below(7) {
            0 => file[at] ^= 1 << random.below(8),
            1 => file[at] = random.next() as u8,
            2 | 3 => {
                let width = 1 << random.below(4);
                let (at, edge) = (at / width * width, EDGES[random.below(EDGES.len())]);
                let end = file.len().min(at + width);
                file[at..end].copy_from_slice(&edge.to_le_bytes()[..end - at]);
            }
            4 => {
                let (from, len) = (random.below(other.len()), 1 + random.below(64));
                let piece = &other[from..other.len().min(from + len)];
                let end = file.len().min(at + piece.len());
                file[at..end].copy_from_slice(&piece[..end - at]);
            }
            5 => {
                let len = 1 + random.below(32);
                let piece = file[at..file.len().min(at + len)].to_vec();
                file.splice(at..at, piece);
            }
            _ => {
                let len = 1 + random.below(32);
                file.drain(at..file.len().min(at + len));
            }
        }
    }
}

/// Names the part of the files that a process reads, as `NUMBER/PARTS`.
const PART: &str = "EVERYTICK_MUTATIONS_PART";

/// Each CPU reads a part, in a process of its own, whose memory is known.
#[test]
fn mutated_files_stay_within_bounds() {
    let parts = std::thread::available_parallelism().unwrap().get();
    let start = |part| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "reads_a_part_of_the_mutated_files", "--ignored", "--nocapture"]);
        command.env(PART, format!("{part}/{parts}")).stdout(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<Child> = (0..parts).map(start).collect();
    for part in running {
        let output = part.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        println!("{}", text.lines().find(|line| line.contains("with a table")).unwrap());
    }
}

#[test]
#[ignore = "a part of `mutated_files_stay_within_bounds`"]
fn reads_a_part_of_the_mutated_files() {
    let part = std::env::var(PART).unwrap_or("0/1".into());
    let (part, parts) = part.split_once('/').unwrap();
    let (part, parts): (usize, usize) = (part.parse().unwrap(), parts.parse().unwrap());
    let count = std::env::var("EVERYTICK_MUTATIONS").map_or(1_000_000, |n| n.parse().unwrap());
    let seeds = corpus();
    assert!(seeds.iter().filter(|(_, file)| read(file)).count() >= 5, "the seeds have tables");
    let mut random = Random(1);
    let (mut files, mut readable, mut slowest, mut largest) = (0u64, 0u64, Duration::ZERO, 0);
    for number in 0..count {
        let (name, seed) = &seeds[number % seeds.len()];
        let mut file = seed.clone();
        let other = random.below(seeds.len());
        mutate(&mut file, &seeds[other].1, &mut random);
        // Neighbours have different seeds, and each part has files of all of them.
        if number / seeds.len() % parts != part {
            continue;
        }

        MEMORY.reset_peak_usage();
        let (before, start) = (MEMORY.current_usage(), cpu_time());
        files += 1;
        readable += u64::from(read(&file));
        let (time, bytes) = (cpu_time() - start, MEMORY.peak_usage() - before);
        assert!(bytes < MEMORY_MAX, "mutation {number} of {name} took {bytes} bytes");
        assert!(time < TIME_MAX, "mutation {number} of {name} took {time:?}");
        (slowest, largest) = (slowest.max(time), largest.max(bytes));
    }
    assert!(readable * 10 > files, "only {readable} of {files} have a table");
    println!(
        "{files} files, {readable} with a table; at most {} KiB and {slowest:?}",
        largest >> 10
    );
}

#[test]
fn text_full_of_signal_returns_is_searched_once() {
    // A stripped static executable of 8 MiB in which every 8 bytes are musl's return from a signal.
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
