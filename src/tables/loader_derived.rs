//! Derived rows of the loader's files: of whole files, or of parts of large ones, from the cache or
//! the worker.

use std::fs::File;
use std::ops::Range;
use std::time::Duration;

use profile::ExecutableId;
use unwind::derived::DerivedRows;
use unwind::{Block, CallFrames, Error, read_derived_only, read_with_derived, with_pending_gaps};

use super::cache::{ReadRanges, SerializedTable};
use super::deriver::{DerivedExtent, Deriver};
use super::guard::guard_panic;
use super::large_files::{LargeFile, PartLayout};
use super::load_request::LoadedRows;
use super::loader::{LoaderThread, UnreadFile};

impl LoaderThread {
    /// Makes the table of a file from its machine code alone.
    pub fn read_derived_only(
        &mut self,
        file: &File,
        ranges: &ReadRanges,
    ) -> Option<Result<CallFrames, Error>> {
        self.deriver.as_ref()?;
        let (rows, _) = self.derive(file, &DerivedExtent::All, ranges);
        guard_panic(file, ranges, |at| read_derived_only(at, &rows.unwrap_or_default()))
    }

    /// Returns whether rows can be derived at all.
    pub fn can_derive(&self) -> bool {
        self.deriver.as_ref().is_some_and(Deriver::is_available)
    }

    /// Asks the deriver, and serves requests meanwhile. Returns the rows, `None` if they are not
    /// known, and the CPU time that the worker took.
    fn derive(
        &mut self,
        file: &File,
        extent: &DerivedExtent,
        ranges: &ReadRanges,
    ) -> (Option<DerivedRows>, Duration) {
        let Some(mut deriver) = self.deriver.take() else { return Default::default() };
        let derived = deriver.derive(file, extent, ranges, &mut || self.serve_requests());
        self.deriver = Some(deriver);
        derived
    }

    /// Publishes the call frames of a file for which rows will be derived.
    pub fn send_with_pending_gaps(&self, executable: ExecutableId, frames: CallFrames) {
        let mut table = frames.table;
        for block in &mut table.blocks {
            // A block without rows is all of a gap, and waits.
            *block = with_pending_gaps(block).unwrap_or_default();
        }
        self.send(executable, LoadedRows::WithPendingGaps(table));
    }

    /// Reads a file again, with derived rows. Returns the CPU time that the worker took.
    pub fn load_derived(&mut self, file: UnreadFile) -> Duration {
        let (ranges, begin) = (ReadRanges::default(), self.cpu_time());
        let (rows, cpu) = self.derive(&file.file, &DerivedExtent::Gaps, &ranges);
        if self.files.is_empty() {
            self.deriver.iter_mut().for_each(Deriver::stop);
        }
        let rows = rows.unwrap_or_default();
        let frames = guard_panic(&file.file, &ranges, |at| {
            read_with_derived(at, &rows, &mut || self.serve_requests())
        });
        self.end_file(file, frames, ranges, begin);
        cpu
    }

    /// Loads the requested parts of a large file. Returns the CPU time that deriving them took in
    /// the worker.
    pub fn load_parts(&mut self, file: &UnreadFile, numbers: &[u32]) -> Duration {
        let (mut parts, mut deriving) = (Vec::new(), Duration::ZERO);
        let large = self.large.take(file.executable).or_else(|| {
            let frames = self.read_with_gaps(&file.file, &ReadRanges::default());
            Some(LargeFile::new(frames?.ok()?))
        });
        if let Some(mut large) = large {
            for number in numbers {
                let (block, rows, cpu) = self.part(file, &mut large, *number);
                parts.push((*number, block, rows));
                deriving += cpu;
            }
            self.large.put(file.executable, large);
        }
        self.send(file.executable, LoadedRows::Parts(parts));
        deriving
    }

    /// Returns the block of a part, its rows, and the CPU time that deriving took.
    fn part(
        &mut self,
        file: &UnreadFile,
        large: &mut LargeFile,
        number: u32,
    ) -> (Block, u64, Duration) {
        let Some(range) = large.layout.range(number) else { return Default::default() };
        let (derived, cpu) = match self.cached_part(file, large.layout, number) {
            Some(derived) => (derived, Duration::ZERO),
            None => self.derive_part(file, large, number, &range),
        };
        let mut table = large.frames.part(range, &derived);
        (table.blocks.pop().unwrap_or_default(), table.rows, cpu)
    }

    fn cached_part(
        &self,
        file: &UnreadFile,
        layout: PartLayout,
        number: u32,
    ) -> Option<DerivedRows> {
        let content = file.content.filter(|content| content.matches(&file.file))?;
        let content = layout.content_of(&content.hash, number);
        let frames = self.cache.as_ref()?.load(&content, &file.file)?;
        Some(DerivedRows::of_table(&frames.table))
    }

    /// Derives the rows of a part, and stores them in the cache. There are none once the file has
    /// used up what deriving may take.
    fn derive_part(
        &mut self,
        file: &UnreadFile,
        large: &mut LargeFile,
        number: u32,
        range: &Range<u64>,
    ) -> (DerivedRows, Duration) {
        if !large.has_budget() {
            return Default::default();
        }
        let (ranges, extent) = (ReadRanges::default(), DerivedExtent::Part(range.clone()));
        let (rows, cpu) = self.derive(&file.file, &extent, &ranges);
        let table = rows.as_ref().map(|rows| CallFrames::default().part(range.clone(), rows));
        large.charge(cpu, table.as_ref().map_or(0, |table| table.bytes()));
        if let (Some(table), Some(cache), Some(content)) = (table, &mut self.cache, &file.content)
            && let Ok(evidence) = ranges.hash(&file.file)
            && content.matches(&file.file)
        {
            let frames = CallFrames { table, ..CallFrames::default() }.to_bytes();
            let content = large.layout.content_of(&content.hash, number);
            cache.store(&content, &SerializedTable { evidence: evidence.to_bytes(), frames });
        }
        (rows.unwrap_or_default(), cpu)
    }
}
