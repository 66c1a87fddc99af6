//! Reading a directory of windows: those of a range of time, and one window.
//!
//! The directory may hold anything: other files are passed over, damaged windows counted.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use profile::pprof::{self, DecodeError, proto as pb};

use super::header;
use super::kept::Kept;
use super::stamp::Stamp;
use crate::batch;

/// Most windows given at once, more than a week of 10 s: the rest is counted.
const WINDOWS_MAX: usize = 100_000;

/// Most bytes of a file that are read.
const FILE_BYTES_MAX: u64 = batch::BYTES_MAX as u64;

const NS_PER_MS: u64 = 1_000_000;

/// A window in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWindow {
    /// Its file.
    pub path: PathBuf,
    /// When it began, in nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// How long it lasted, in nanoseconds.
    pub duration_ns: u64,
}

/// Windows of a range of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// In order of time.
    pub windows: Vec<StoredWindow>,
    /// Files with the name of a window in that range that are none.
    pub damaged: Vec<PathBuf>,
    /// Windows beyond the bound of 100,000, the latest ones.
    pub left_out: u64,
}

/// Why a window cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// As the system answers.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// It is no profile.
    #[error("{path}: {source}; the window is left out")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DecodeError,
    },
}

/// Finds the windows that began at or after `from_unix_ns` and before `to_unix_ns`, both
/// in nanoseconds since 1970. So each window belongs to one of two ranges that meet.
///
/// Looks at the names in the directory, at most a million, and at the first 4 KiB of each
/// window in the range; one that another program has written is read whole, 64 MiB at most.
/// A listed window may still turn out to be damaged when it is [`read`].
///
/// # Errors
/// As the system answers for the directory itself.
pub fn windows_in(directory: &Path, from_unix_ns: u64, to_unix_ns: u64) -> io::Result<Listing> {
    let kept = Kept::list(directory)?;
    let mut listing = Listing::default();
    let in_range = |stamp: &Stamp| {
        stamp.unix_ns().saturating_add(NS_PER_MS) > from_unix_ns && stamp.unix_ns() < to_unix_ns
    };
    for (place, stamp) in kept.stamps().filter(in_range).enumerate() {
        if place >= WINDOWS_MAX {
            listing.left_out += 1;
            continue;
        }
        let path = directory.join(stamp.file_name());
        match window_at(&path, stamp) {
            Some(window) if (from_unix_ns..to_unix_ns).contains(&window.start_unix_ns) => {
                listing.windows.push(window);
            }
            Some(_) => {} // in the same millisecond, and outside
            None => listing.damaged.push(path),
        }
    }
    listing.windows.sort_by_key(|window| window.start_unix_ns);
    Ok(listing)
}

/// Reads a window whole.
///
/// # Errors
/// [`ReadError`] for what cannot be read and for what is no profile of at most 64 MiB.
pub fn read(path: &Path) -> Result<pb::Profile, ReadError> {
    let failed = |source| ReadError::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    pprof::decode(&bytes, batch::BYTES_MAX)
        .map_err(|source| ReadError::Damaged { path: path.to_owned(), source })
}

/// Reads when a window began and how long it lasted. `None` when its file is not that of
/// a window of this name.
pub(super) fn window_at(path: &Path, stamp: Stamp) -> Option<StoredWindow> {
    let (start_unix_ns, duration_ns) = match header::read(File::open(path).ok()?).ok()? {
        Some(times) => times,
        None => times_within(path)?,
    };
    let is_of_name = Stamp::of(start_unix_ns).unix_ms == stamp.unix_ms;
    is_of_name.then(|| StoredWindow { path: path.to_owned(), start_unix_ns, duration_ns })
}

/// Start and duration as the profile itself tells them.
fn times_within(path: &Path) -> Option<(u64, u64)> {
    let profile = read(path).ok()?;
    let times = (profile.time_nanos.try_into().ok()?, profile.duration_nanos.try_into().ok()?);
    Some(times)
}
