//! The sink `file`: a directory with one gzip-compressed pprof file for each window.
//!
//! ```text
//! /var/lib/everytick/store/20261125T014400.123Z.pb.gz
//! ```
//!
//! The name tells when the window began, in UTC. The directory is bounded by size and by
//! age; the oldest windows go first, and for their age only a few with each new one. A window appears whole or not at all, and is on the
//! disk, name and content, when it is called delivered. One that comes again takes the
//! place of its earlier copy. `go tool pprof` opens each file; [`windows_in`] finds those of
//! a range of time. Other files in the directory are left alone.

mod header;
mod kept;
mod read;
mod stamp;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::{Compression, GzBuilder};
use prost::Message;
use serde::Deserialize;

use crate::batch::{self, Answer, Batch, Failure};
use crate::disk;
use crate::sinks::StartError;
use kept::Kept;
use stamp::Stamp;

pub use read::{Listing, ReadError, StoredWindow, read, windows_in};

/// Permissions of the directory and of its files, less the umask: what runs on a machine
/// is not for everybody's eyes.
const DIRECTORY_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

/// Half of the time that the default level takes, for files that are a twentieth larger.
const COMPRESSION: Compression = Compression::new(4);

/// Windows after which the directory is listed anew, in case somebody else removed or
/// added files: an hour of windows of 10 s.
const LIST_EACH: u32 = 360;

/// Where windows are kept and how many.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The directory. It is made when it is not there.
    pub directory: PathBuf,
    /// Most bytes of all windows, as they lie on the disk.
    #[serde(rename = "max_bytes")]
    pub bytes_max: u64,
    /// Windows that began longer ago are removed, in seconds.
    #[serde(rename = "max_age_seconds")]
    pub age_max_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            directory: "/var/lib/everytick/store".into(),
            bytes_max: 1 << 30,
            age_max_seconds: 7 * 24 * 60 * 60,
        }
    }
}

/// The sink.
pub(crate) struct Sink {
    settings: Settings,
    /// What lies in the directory; `None` when it is to be listed.
    kept: Option<Kept>,
    /// Windows since it was listed.
    since_listed: u32,
}

/// Why a window is not in the directory.
enum NotStored {
    /// It is larger than the directory may be.
    TooLarge,
    /// As the system answers.
    Disk(io::Error),
}

impl From<io::Error> for NotStored {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Sink {
    /// Checks the settings. The directory itself may come later.
    ///
    /// # Errors
    /// [`StartError::Settings`] for a directory without a name and for bounds that leave
    /// no room.
    pub fn new(settings: &Settings) -> Result<Self, StartError> {
        let refuse = |text: &str| Err(StartError::Settings(text.to_owned()));
        if settings.directory.as_os_str().is_empty() {
            return refuse("the sink of type `file` has no directory; give the path of one");
        }
        if settings.bytes_max == 0 || settings.age_max_seconds == 0 {
            return refuse(
                "max_bytes and max_age_seconds must not be 0; leave them out for the default",
            );
        }
        Ok(Self { settings: settings.clone(), kept: None, since_listed: 0 })
    }

    /// Writes a window. Blocks while it is written.
    pub async fn send(&mut self, batch: &Batch) -> Answer {
        let stored = self.store(batch);
        let directory = self.settings.directory.display();
        match stored {
            Ok(bytes) => Answer::Delivered { bytes },
            Err(NotStored::TooLarge) => Answer::Refused {
                reason: Failure::TooLarge,
                text: format!("the window is larger than {directory} may be; raise max_bytes"),
            },
            Err(NotStored::Disk(error)) => Answer::Later {
                reason: Failure::of_disk(&error),
                after: None,
                text: format!("cannot write to {directory}: {error}"),
            },
        }
    }

    /// Writes a window and gives its bytes, after room was made for it.
    fn store(&mut self, batch: &Batch) -> Result<u64, NotStored> {
        let bytes = compressed(batch)?;
        if kept::on_disk(bytes.len() as u64) > self.settings.bytes_max {
            return Err(NotStored::TooLarge);
        }
        let directory = self.settings.directory.clone();
        disk::create_directory(&directory, DIRECTORY_MODE)?;
        let mut kept = match self.kept.take() {
            Some(kept) if self.since_listed < LIST_EACH => kept,
            _ => self.list()?,
        };
        let stored = self.replace(&mut kept, batch, &bytes);
        self.kept = stored.is_ok().then_some(kept);
        stored?;
        self.since_listed += 1;
        Ok(bytes.len() as u64)
    }

    fn list(&mut self) -> io::Result<Kept> {
        self.since_listed = 0;
        disk::remove_temporaries(&self.settings.directory);
        Kept::list(&self.settings.directory)
    }

    fn replace(&self, kept: &mut Kept, batch: &Batch, bytes: &[u8]) -> io::Result<()> {
        let directory = &self.settings.directory;
        let stamp = free_stamp(directory, kept, batch)?;
        kept.insert(stamp, bytes.len() as u64);
        for old in kept.beyond(self.settings.bytes_max, self.oldest_unix_ms(kept), stamp) {
            disk::remove(&directory.join(old.file_name()))?;
            kept.remove(old);
        }
        let file = disk::write_temporary(directory, FILE_MODE, bytes)?;
        file.persist(directory.join(stamp.file_name())).map_err(|error| error.error)?;
        disk::sync_directory(directory)
    }

    /// What began before this is too old. As of the newest window or of now, whichever is
    /// earlier: a clock that leaps ahead removes nothing before a window bears its time.
    fn oldest_unix_ms(&self, kept: &Kept) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let newest = Duration::from_millis(kept.newest_unix_ms());
        let age_max = Duration::from_secs(self.settings.age_max_seconds);
        now.min(newest).saturating_sub(age_max).as_millis() as u64
    }
}

/// Finds the name for a window: that of its earlier copy, or one that is free.
fn free_stamp(directory: &Path, kept: &Kept, batch: &Batch) -> io::Result<Stamp> {
    let mut stamp = Stamp::of(batch.start_unix_ns());
    while kept.has(stamp) {
        let there = read::window_at(&directory.join(stamp.file_name()), stamp);
        if there.is_none_or(|there| there.start_unix_ns == batch.start_unix_ns()) {
            break; // its own, or damaged
        }
        let none = || io::Error::other("too many windows began in one millisecond");
        stamp = stamp.next().ok_or_else(none)?;
    }
    Ok(stamp)
}

fn compressed(batch: &Batch) -> Result<Vec<u8>, NotStored> {
    if batch.profile.encoded_len() > batch::BYTES_MAX {
        return Err(NotStored::TooLarge);
    }
    let comment = header::comment(batch.start_unix_ns(), batch.duration_ns());
    let mut gzip = GzBuilder::new().comment(comment).write(Vec::new(), COMPRESSION);
    gzip.write_all(&batch.profile.encode_to_vec())?;
    Ok(gzip.finish()?)
}
