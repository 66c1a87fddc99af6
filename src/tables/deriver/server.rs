//! The worker: decodes the machine code of files.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use unwind::derived::{DerivedRows, PartDeriver, derive, derive_hidden};
use unwind::{Error, ReadAt};

use super::proto::{DeriveRequest, DeriveResponse, DerivedExtent};
use crate::workers::{self, Confinement};

/// Ranges of a file that are closer together than this, in bytes, are reported as one.
const GAP: u64 = 4096;

/// Runs the worker: answers until the agent closes the socket.
///
/// # Errors
/// When the socket breaks or a request is malformed.
pub fn serve(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut last = LastFile::default();
    workers::serve(socket, Confinement::Descriptors, |request: DeriveRequest, files| {
        let rows = files.first().map(|file| answer(file, request.extent(), &mut last));
        (rows.unwrap_or_default(), Vec::new())
    })
}

fn answer(file: &File, extent: DerivedExtent, last: &mut LastFile) -> DeriveResponse {
    let read: RefCell<Vec<(u64, u64)>> = RefCell::default();
    let read_at = |offset: u64, bytes: &mut [u8]| {
        note(&mut read.borrow_mut(), offset, bytes.len() as u64);
        file.read_exact_at(bytes, offset).is_ok()
    };
    let rows = match extent {
        DerivedExtent::Gaps => derive(&read_at),
        DerivedExtent::Part(part) => last.derive(file, &read_at, part),
        DerivedExtent::All => derive_hidden(&read_at),
    };
    DeriveResponse::new(&rows.unwrap_or_default(), &read.into_inner())
}

/// The file that parts were derived of last, with what is read of it once: several parts of a file
/// are derived one after the other.
#[derive(Default)]
struct LastFile(Option<(FileVersion, PartDeriver)>);

/// What identifies an unchanged file.
#[derive(PartialEq, Eq)]
struct FileVersion {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

impl FileVersion {
    fn of(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl LastFile {
    fn derive(
        &mut self,
        file: &File,
        read_at: ReadAt<'_>,
        part: Range<u64>,
    ) -> Result<DerivedRows, Error> {
        let version = FileVersion::of(file).ok_or(Error::Malformed)?;
        let known = self.0.take().filter(|(known, _)| *known == version);
        let deriver = match known {
            Some((_, deriver)) => deriver,
            None => PartDeriver::open(read_at)?,
        };
        let rows = deriver.derive(read_at, part);
        self.0 = Some((version, deriver));
        rows
    }
}

/// Notes bytes that are read, joined with the last ones if they nearly touch: code is read forward.
fn note(read: &mut Vec<(u64, u64)>, offset: u64, bytes: u64) {
    if let Some((start, known)) = read.last_mut()
        && (*start..=(*start + *known).saturating_add(GAP)).contains(&offset)
    {
        *known = (*known).max((offset - *start).saturating_add(bytes));
    } else {
        read.push((offset, bytes));
    }
}
