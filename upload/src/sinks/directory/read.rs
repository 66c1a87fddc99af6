//! Reading windows: those of a time range, and single ones.
//!
//! The directory may contain anything: other files are skipped, damaged windows reported.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use profile::Origin;
use profile::pprof::{self, DecodeError, proto as pb};

use super::header::Header;
use super::index::StoreIndex;
use super::stamp::Stamp;
use crate::batch;

/// Most windows listed at once, more than a week of 10 s: the rest is counted.
const WINDOWS_MAX: usize = 100_000;

/// Most bytes of a file that are read.
const FILE_BYTES_MAX: u64 = batch::BYTES_MAX as u64;

const NS_PER_MS: u64 = 1_000_000;

/// A window in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWindow {
    /// The directory and the file's name.
    pub path: PathBuf,
    /// When it began, in nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// How long it lasted, in nanoseconds.
    pub duration_ns: u64,
    /// The agent that took it, unless an early version of Everytick wrote it.
    pub origin: Option<Origin>,
}

/// The windows of a time range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Sorted by start, 100,000 at most.
    pub windows: Vec<StoredWindow>,
    /// Files with the name of a window in that range and other content.
    pub damaged: Vec<PathBuf>,
    /// Windows beyond the bound of 100,000, the latest ones.
    pub left_out: u64,
}

/// Why a window cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// As in [`StoredWindow::path`].
        path: PathBuf,
        /// Error of opening or reading it.
        source: io::Error,
    },
    /// The file is not a profile.
    #[error("{path}: {source}; the window is left out")]
    Damaged {
        /// As in [`StoredWindow::path`].
        path: PathBuf,
        /// The first violation of the format.
        source: DecodeError,
    },
}

/// Finds the windows that began at or after `from_unix_ns` and before `to_unix_ns`, both in
/// nanoseconds since 1970. Adjacent ranges share no window.
///
/// Reads the names in the directory, at most a million, and the first 4 KiB of each window in the
/// range; a window of another program is read whole, 64 MiB at most. A listed window may still turn
/// out to be damaged when it is [`read`].
///
/// # Errors
/// The system's error for the directory itself.
pub fn windows_in(directory: &Path, from_unix_ns: u64, to_unix_ns: u64) -> io::Result<Listing> {
    let index = StoreIndex::list(directory)?;
    let mut listing = Listing::default();
    let in_range = |stamp: &Stamp| {
        stamp.unix_ns().saturating_add(NS_PER_MS) > from_unix_ns && stamp.unix_ns() < to_unix_ns
    };
    for (number, stamp) in index.stamps().filter(in_range).enumerate() {
        if number >= WINDOWS_MAX {
            listing.left_out += 1;
            continue;
        }
        let path = directory.join(stamp.file_name());
        match window_at(&path, stamp) {
            Some(window) if (from_unix_ns..to_unix_ns).contains(&window.start_unix_ns) => {
                listing.windows.push(window);
            }
            Some(_) => {} // in the same millisecond, but outside the range
            None => listing.damaged.push(path),
        }
    }
    listing.windows.sort_by_key(|window| window.start_unix_ns);
    Ok(listing)
}

/// Reads a window.
///
/// # Errors
/// [`ReadError`] for a file that cannot be read or is not a profile of at most 64 MiB.
pub fn read(path: &Path) -> Result<pb::Profile, ReadError> {
    let failed = |source| ReadError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    pprof::decode(&bytes, batch::BYTES_MAX)
        .map_err(|source| ReadError::Damaged { path: path.to_owned(), source })
}

/// Reads when a window began and how long it lasted; `None` if the content is not that of a window
/// of this name.
pub(super) fn window_at(path: &Path, stamp: Stamp) -> Option<StoredWindow> {
    let Header { start_unix_ns, duration_ns, origin } = header_of(path)?;
    let is_of_name = Stamp::of(start_unix_ns).unix_ms == stamp.unix_ms;
    is_of_name.then(|| StoredWindow { path: path.to_owned(), start_unix_ns, duration_ns, origin })
}

/// Reads the header of a window, or what it would say from the profile itself.
pub(super) fn header_of(path: &Path) -> Option<Header> {
    match Header::read(File::open(path).ok()?).ok()? {
        Some(header) => Some(header),
        None => header_from_profile(path),
    }
}

fn header_from_profile(path: &Path) -> Option<Header> {
    let profile = read(path).ok()?;
    Some(Header {
        start_unix_ns: profile.time_nanos.try_into().ok()?,
        duration_ns: profile.duration_nanos.try_into().ok()?,
        origin: pprof::origin(&profile),
    })
}
