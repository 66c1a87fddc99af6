//! Files with so much code without call frames that rows are derived only for the parts of it that
//! ticks need.

use std::ops::Range;
use std::time::{Duration, Instant};

use profile::ExecutableId;
use sha2::{Digest, Sha256};
use unwind::{BLOCK_SHIFT_MAX, BLOCK_SHIFT_MIN, CallFrames};

/// Parts of one file; of 16 KiB each in a browser.
const PARTS_MAX: u64 = 1 << 14;
/// Files whose call frames are in memory.
const FILES_MAX: usize = 4;
/// CPU time that deriving parts of one file may take at once.
const CPU_AT_ONCE: Duration = Duration::from_millis(2500);
/// A file regains CPU time as time passes: elapsed time divided by this. In a minute that is 3 s.
const REFILL_DIVISOR: u32 = 120;
/// Bytes of derived rows of one file.
const BYTES_MAX: u64 = 24 << 20;

/// How a file is divided into parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartLayout {
    /// First address of the first part.
    pub text_start: u64,
    /// Bytes of text of a part, as a power of two.
    pub block_shift: u32,
    /// Number of parts.
    pub parts: u32,
}

impl PartLayout {
    fn of(frames: &CallFrames) -> Self {
        let table = &frames.table;
        let bytes = table.blocks.len() as u64 * table.block_text();
        let fits = |shift: &u32| bytes.div_ceil(1 << shift) <= PARTS_MAX;
        let shift = (BLOCK_SHIFT_MIN..BLOCK_SHIFT_MAX).find(fits).unwrap_or(BLOCK_SHIFT_MAX);
        let parts = bytes.div_ceil(1 << shift) as u32;
        Self { text_start: table.start, block_shift: shift, parts }
    }

    /// Returns the addresses of a part.
    pub fn range(&self, part: u32) -> Option<Range<u64>> {
        let start = self.text_start.checked_add(u64::from(part) << self.block_shift)?;
        (part < self.parts).then_some(start..start.checked_add(1 << self.block_shift)?)
    }

    /// Returns what identifies the rows of a part in the cache. `content`: of the file.
    pub fn content_of(&self, content: &[u8; 32], part: u32) -> [u8; 32] {
        let numbers = [self.block_shift, part].map(u32::to_le_bytes).concat();
        let hasher = Sha256::new().chain_update(content).chain_update(b"part");
        hasher.chain_update(numbers).finalize().into()
    }
}

/// A large file.
pub(super) struct LargeFile {
    pub frames: CallFrames,
    pub layout: PartLayout,
    budget: PartBudget,
}

impl LargeFile {
    pub fn new(frames: CallFrames) -> Self {
        let (layout, budget) = (PartLayout::of(&frames), PartBudget::new(Instant::now()));
        Self { frames, layout, budget }
    }

    /// Returns whether another part may be derived.
    pub fn has_budget(&mut self) -> bool {
        self.budget.has_credit(Instant::now())
    }

    /// Takes what deriving a part took.
    pub fn charge(&mut self, cpu: Duration, bytes: usize) {
        self.budget.charge(cpu, bytes as u64);
    }
}

/// What deriving parts of a file may still take.
struct PartBudget {
    /// CPU time in nanoseconds; below 0, what was used beyond it is regained first.
    cpu_left: i64,
    bytes_left: u64,
    /// When `cpu_left` was last computed.
    at: Instant,
}

impl PartBudget {
    fn new(now: Instant) -> Self {
        Self { cpu_left: nanoseconds(CPU_AT_ONCE), bytes_left: BYTES_MAX, at: now }
    }

    fn has_credit(&mut self, now: Instant) -> bool {
        let refill = now.saturating_duration_since(self.at) / REFILL_DIVISOR;
        let cpu_left = self.cpu_left.saturating_add(nanoseconds(refill));
        self.cpu_left = cpu_left.min(nanoseconds(CPU_AT_ONCE));
        self.at = now;
        self.cpu_left > 0 && self.bytes_left > 0
    }

    fn charge(&mut self, cpu: Duration, bytes: u64) {
        self.cpu_left = self.cpu_left.saturating_sub(nanoseconds(cpu));
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// The large files whose call frames are in memory, the one used last at the end.
#[derive(Default)]
pub(super) struct LargeFiles(Vec<(ExecutableId, LargeFile)>);

impl LargeFiles {
    /// Takes a file out.
    pub fn take(&mut self, executable: ExecutableId) -> Option<LargeFile> {
        let at = self.0.iter().position(|(id, _)| *id == executable)?;
        Some(self.0.remove(at).1)
    }

    /// Puts a file in as the one used last.
    pub fn put(&mut self, executable: ExecutableId, file: LargeFile) {
        if self.0.len() == FILES_MAX {
            self.0.remove(0);
        }
        self.0.push((executable, file));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unwind::{Rule, TableBuilder};

    fn frames(start: u64, end: u64) -> CallFrames {
        let mut builder = TableBuilder::new(start, end, BLOCK_SHIFT_MAX);
        builder.push(start, Rule::ROOT);
        CallFrames { table: builder.finish(), ..CallFrames::default() }
    }

    #[test]
    fn parts_cover_the_text_of_any_size() {
        for (bytes, shift) in [(100 << 20, 14), (256 << 20, 14), (300 << 20, 15), (1 << 30, 16)] {
            let layout = PartLayout::of(&frames(0x1000, 0x1000 + bytes));
            assert_eq!((layout.text_start, layout.block_shift), (0x1000, shift));
            let last = layout.range(layout.parts - 1).expect("the last part");
            assert!(last.contains(&(0x1000 + bytes - 1)), "{last:x?}");
            assert_eq!(layout.range(layout.parts), None);
        }
    }

    #[test]
    fn parts_have_contents_of_their_own() {
        let layout = PartLayout::of(&frames(0, 1 << 20));
        let one = layout.content_of(&[1; 32], 1);
        assert_ne!(one, layout.content_of(&[1; 32], 2));
        assert_ne!(one, layout.content_of(&[2; 32], 1));
        assert_ne!(one, PartLayout { block_shift: 15, ..layout }.content_of(&[1; 32], 1));
    }

    #[test]
    fn cpu_time_of_a_minute_is_bounded() {
        let begin = Instant::now();
        let mut budget = PartBudget::new(begin);
        let mut used = Duration::ZERO;
        for ms in 0..60_000 {
            if budget.has_credit(begin + Duration::from_millis(ms)) {
                budget.charge(Duration::from_millis(5), 0);
                used += Duration::from_millis(5);
            }
        }
        let seconds = used.as_secs_f64();
        assert!((2.9..=3.0 + 0.01).contains(&seconds), "{seconds}");
    }

    #[test]
    fn file_used_least_recently_is_forgotten() {
        let mut files = LargeFiles::default();
        for id in 0..=FILES_MAX as u32 {
            files.put(ExecutableId(id), LargeFile::new(frames(0, 1 << 20)));
        }
        assert!(files.take(ExecutableId(0)).is_none());
        assert!(files.take(ExecutableId(1)).is_some());
    }
}
