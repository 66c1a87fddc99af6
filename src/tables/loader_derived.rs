//! Derived rows of the loader's files: of whole files, or of parts of large ones, from the cache or
//! the worker.

use std::fs::File;
use std::ops::Range;
use std::time::Duration;

use unwind::derived::DerivedRows;
use unwind::{Block, CallFrames, Error, read_derived_only, read_with_derived};

use super::cache::{ReadRanges, SerializedTable};
use super::deriver::{DerivedExtent, Deriver};
use super::large_files::{LargeFile, PartLayout};
use super::load_request::LoadedRows;
use super::loader::{LoaderThread, UnreadFile, guard_panic};

impl LoaderThread {
    /// Makes the table of a file from its machine code alone.
    pub fn read_derived_only(
        &mut self,
        file: &File,
        ranges: &ReadRanges,
    ) -> Option<Result<CallFrames, Error>> {
        let mut deriver = self.deriver.take()?;
        let (extent, mut serve) = (DerivedExtent::All, || self.serve_requests());
        let (rows, _) = deriver.derive(file, &extent, ranges, &mut serve);
        self.deriver = Some(deriver);
        guard_panic(file, ranges, |at| read_derived_only(at, &rows.unwrap_or_default()))
    }

    /// Returns whether rows are derived for parts of a file, when they are needed.
    pub fn is_large(&self, frames: &CallFrames) -> bool {
        let can_derive = self.deriver.as_ref().is_some_and(Deriver::is_available);
        can_derive && frames.gaps.are_derived_in_parts()
    }

    /// Reads a file again with derived rows, if it has code without rows. Returns the CPU time that
    /// deriving took in the worker, too.
    pub fn add_derived_rows(
        &mut self,
        frames: Option<Result<CallFrames, Error>>,
        file: &File,
        ranges: &ReadRanges,
    ) -> (Option<Result<CallFrames, Error>>, Duration) {
        let has_gaps = match &frames {
            Some(Ok(frames)) => frames.gaps.are_worth_deriving(),
            _ => false,
        };
        let Some(mut deriver) = self.deriver.take_if(|_| has_gaps) else {
            return (frames, Duration::ZERO);
        };
        let (rows, cpu) =
            deriver.derive(file, &DerivedExtent::Gaps, ranges, &mut || self.serve_requests());
        if self.files.is_empty() {
            deriver.stop();
        }
        self.deriver = Some(deriver);
        let Some(rows) = rows.filter(|rows| !rows.ranges.is_empty()) else { return (frames, cpu) };
        let derived = guard_panic(file, ranges, |at| {
            read_with_derived(at, &rows, &mut || self.serve_requests())
        });
        (derived.or(frames), cpu)
    }

    /// Loads the requested parts of a large file. Returns the CPU time that deriving them took in
    /// the worker.
    pub fn load_parts(&mut self, file: &UnreadFile) -> Duration {
        let (mut parts, mut deriving) = (Vec::new(), Duration::ZERO);
        let large = self.large.take(file.executable).or_else(|| {
            let frames = self.read_with_gaps(&file.file, &ReadRanges::default());
            Some(LargeFile::new(frames?.ok()?))
        });
        if let Some(mut large) = large {
            for number in &file.parts {
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
        let Some(mut deriver) = self.deriver.take_if(|_| large.has_budget()) else {
            return Default::default();
        };
        let (ranges, extent) = (ReadRanges::default(), DerivedExtent::Part(range.clone()));
        let (rows, cpu) =
            deriver.derive(&file.file, &extent, &ranges, &mut || self.serve_requests());
        self.deriver = Some(deriver);
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
