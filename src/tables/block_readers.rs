//! Blocks that are read ahead of the whole tables of their files.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};

use profile::ExecutableId;
use unwind::BlockReader;

use super::cache::ReadRanges;
use super::guard::guard_panic;
use super::load_request::LoadedRows;

/// The files of which blocks were requested.
pub(super) struct BlockReaders {
    /// The last one last; `None`: blocks of it cannot be read alone.
    open: Vec<(ExecutableId, Option<BlockReader>)>,
    bytes_max: usize,
}

impl BlockReaders {
    /// `bytes_max`: memory for these files.
    pub fn new(bytes_max: usize) -> Self {
        Self { open: Vec::new(), bytes_max }
    }

    /// Reads blocks of a file's table, if blocks can be read alone. A panic here costs this file
    /// its blocks and nothing else.
    pub fn read(
        &mut self,
        executable: ExecutableId,
        file: &File,
        numbers: &[u32],
    ) -> Option<LoadedRows> {
        let reader = match self.open.iter().position(|(open, _)| *open == executable) {
            Some(index) => self.open.remove(index).1,
            None => guard_panic(file, &ReadRanges::default(), |at| BlockReader::open(at)).flatten(),
        };
        let rows = reader.as_ref().map(|reader| read(reader, numbers));
        self.open.push((executable, reader));
        while self.open_bytes() > self.bytes_max {
            self.open.remove(0);
        }
        rows
    }

    fn open_bytes(&self) -> usize {
        self.open.iter().filter_map(|(_, reader)| reader.as_ref()).map(BlockReader::bytes).sum()
    }

    /// Forgets a file whose whole table has been read.
    pub fn forget(&mut self, executable: ExecutableId) {
        self.open.retain(|(open, _)| *open != executable);
    }
}

fn read(reader: &BlockReader, numbers: &[u32]) -> LoadedRows {
    let read = || numbers.iter().filter_map(|number| Some((*number, reader.block(*number)?)));
    let blocks = catch_unwind(AssertUnwindSafe(|| read().collect())).unwrap_or_default();
    LoadedRows::Blocks { text_start: reader.start(), blocks }
}
