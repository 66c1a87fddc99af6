//! The directory of a cache: files that appear whole or not at all, within a limit of bytes
//! that several processes may share.
//!
//! The directory is opened once and used by its descriptor, so a change of its path leads nowhere
//! else. Only its owner may write there. Any file may disappear at any time; files without a name
//! of ours are left alone.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, open, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

/// Most bytes of one file.
pub(super) const FILE_MAX: usize = 64 << 20;
/// Name of a table: a hash, then this.
const SUFFIX: &str = ".table";
/// Name of a table until it is complete: this, then a unique number.
const PARTIAL: &str = ".begun-";
/// After this time a partial table is abandoned: its writer is gone.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);
/// The limit divided by this may be written before the directory is listed again, for what other
/// processes have written; as much is freed at once when the limit is reached.
const SLACK_DIVISOR: u64 = 16;
const FILE_FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// Why a directory cannot hold the cache, with the next step.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The directory does not exist and cannot be created.
    #[error("cannot create the cache directory {path}: {source}; give another directory")]
    Create {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The directory cannot be opened.
    #[error("cannot open the cache directory {path}: {source}; give another directory")]
    Open {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The path is a symbolic link.
    #[error("cannot use the cache directory {path}: it is a symbolic link; give its target")]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// The path is something else than a directory.
    #[error("cannot use the cache directory {path}: it is not a directory; give another path")]
    NoDirectory {
        /// The path.
        path: PathBuf,
    },
    /// The directory belongs to another user, who could create tables there.
    #[error(
        "cannot use the cache directory {path}: it belongs to user {owner}; give a directory of \
         user {us}"
    )]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// The effective user of this process.
        us: u32,
    },
    /// Other users may write to the directory.
    #[error(
        "cannot use the cache directory {path}: other users may write there; `chmod go-w {path}` \
         or give another directory"
    )]
    Writable {
        /// The directory.
        path: PathBuf,
    },
}

/// An open directory of ours.
#[derive(Debug)]
pub(super) struct Directory {
    directory: OwnedFd,
    bytes_max: u64,
    /// Bytes of all tables when the directory was last listed.
    listed_bytes: u64,
    /// Bytes written since then.
    written: u64,
    /// Counts partial files, for unique names.
    partials: u64,
}

impl Directory {
    /// Opens a directory; creates it if it does not exist.
    ///
    /// # Errors
    /// [`CacheError`] where other users could write, or when there is no directory.
    pub fn open(path: &Path, bytes_max: u64) -> Result<Self, CacheError> {
        // With a trailing slash, a link would be followed.
        let path: PathBuf = path.components().collect();
        let metadata = path.symlink_metadata();
        if metadata.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            let created = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            created.map_err(|source| CacheError::Create { path: path.clone(), source })?;
        }
        let flags = OFlags::DIRECTORY | FILE_FLAGS;
        let directory = match open(&path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(_) if path.is_symlink() => return Err(CacheError::Link { path }),
            Err(Errno::NOTDIR) => return Err(CacheError::NoDirectory { path }),
            Err(source) => return Err(CacheError::Open { path, source: source.into() }),
        };
        let us = rustix::process::geteuid().as_raw();
        match fstat(&directory) {
            Err(source) => Err(CacheError::Open { path, source: source.into() }),
            Ok(Stat { st_uid: owner, .. }) if owner != us => {
                Err(CacheError::Owner { path, owner, us })
            }
            Ok(Stat { st_mode, .. }) if st_mode & 0o022 != 0 => Err(CacheError::Writable { path }),
            // As if the limit were reached, so that the first write lists the directory.
            Ok(_) => {
                Ok(Self { directory, bytes_max, listed_bytes: bytes_max, written: 0, partials: 0 })
            }
        }
    }

    /// Reads a table and marks it as used last; `None` when there is none.
    ///
    /// # Errors
    /// When reading fails, or it is not a regular file of at most [`FILE_MAX`] bytes.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | FILE_FLAGS;
        let mut file: File = match openat(&self.directory, file_name(name), flags, Mode::empty()) {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        let size = usize::try_from(metadata.len()).ok().filter(|size| *size <= FILE_MAX);
        let size = size.filter(|_| metadata.is_file()).ok_or(io::ErrorKind::InvalidData)?;
        let mut bytes = vec![0; size];
        file.read_exact(&mut bytes)?;
        let _ = file.set_modified(SystemTime::now()); // on failure it is evicted a little early
        Ok(Some(bytes))
    }

    /// Removes a table, if it exists.
    pub fn remove(&self, name: &str) {
        let _ = unlinkat(&self.directory, file_name(name), AtFlags::empty());
    }

    /// Writes a table, replacing the previous one; evicts others for it if necessary.
    ///
    /// # Errors
    /// When writing fails; then nothing of the table is left.
    pub fn write(&mut self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        self.evict_for(size as u64)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let partial = format!("{PARTIAL}{}-{now:x}-{}", std::process::id(), self.partials);
        self.partials += 1;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | FILE_FLAGS;
        let mut file: File =
            openat(&self.directory, &partial, flags, Mode::RUSR | Mode::WUSR)?.into();
        let written = parts.iter().try_for_each(|part| file.write_all(part));
        let outcome = written.and_then(|()| {
            Ok(renameat(&self.directory, &partial, &self.directory, file_name(name))?)
        });
        match outcome {
            Ok(()) => self.written += size as u64,
            Err(_) => drop(unlinkat(&self.directory, &partial, AtFlags::empty())),
        }
        outcome
    }

    /// Evicts the tables used least recently until `size` more bytes fit.
    fn evict_for(&mut self, size: u64) -> io::Result<()> {
        let is_listing_recent = self.written < self.bytes_max / SLACK_DIVISOR;
        if is_listing_recent && self.listed_bytes + self.written + size <= self.bytes_max {
            return Ok(());
        }
        let mut tables = self.tables()?;
        let mut bytes: u64 = tables.iter().map(|(_, _, size)| size).sum();
        if bytes + size > self.bytes_max {
            tables.sort_unstable();
            let enough = (self.bytes_max - self.bytes_max / SLACK_DIVISOR).saturating_sub(size);
            for (_, name, size) in tables {
                if bytes <= enough {
                    break;
                }
                // Another process may have removed it first.
                let _ = unlinkat(&self.directory, &name, AtFlags::empty());
                bytes -= size;
            }
        }
        (self.listed_bytes, self.written) = (bytes, 0);
        Ok(())
    }

    /// Lists the tables: last use since 1970, name and size. Removes abandoned partial tables.
    fn tables(&self) -> io::Result<Vec<(Duration, String, u64)>> {
        let mut tables = Vec::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let (is_table, is_partial) = (is_table(name), name.starts_with(PARTIAL));
            let stat = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
            let Some(stat) = stat.ok().filter(|_| is_table || is_partial) else { continue };
            let last_use = Duration::new(stat.st_mtime.max(0) as u64, stat.st_mtime_nsec as u32);
            if is_partial && last_use + ABANDONED_AFTER < now {
                let _ = unlinkat(&self.directory, name, AtFlags::empty());
            }
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            if is_table && is_file {
                tables.push((last_use, name.to_owned(), stat.st_size as u64));
            }
        }
        Ok(tables)
    }
}

fn file_name(name: &str) -> String {
    format!("{name}{SUFFIX}")
}

fn is_table(name: &str) -> bool {
    let hash = name.strip_suffix(SUFFIX).unwrap_or_default();
    hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn name(number: u8) -> String {
        format!("{number:064x}")
    }

    fn open(parent: &tempfile::TempDir, bytes_max: u64) -> Directory {
        Directory::open(&parent.path().join("cache"), bytes_max).expect("a writable directory")
    }

    fn names(parent: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(parent.path().join("cache")).expect("an existing file");
        let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("text");
        let mut names: Vec<String> = entries.map(|entry| name(entry.expect("readable"))).collect();
        names.sort();
        names
    }

    #[test]
    fn directory_is_created_for_its_owner_alone() {
        let parent = tempfile::tempdir().expect("a directory");
        let mut directory = open(&parent, 1000);
        directory.write(&name(1), &[b"one"]).expect("written");
        let mode = |path: &str| {
            let found = fs::metadata(parent.path().join(path)).expect("an existing file");
            found.permissions().mode() & 0o777
        };
        assert_eq!(mode("cache"), 0o700);
        assert_eq!(mode(&format!("cache/{}", file_name(&name(1)))), 0o600);
    }

    #[test]
    fn directory_that_others_can_change_is_rejected() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = |name: &str| parent.path().join(name);
        let error = |name: &str| Directory::open(&path(name), 1).expect_err("an error");
        fs::create_dir(path("open")).expect("created");
        for mode in [0o777, 0o770, 0o702] {
            fs::set_permissions(path("open"), PermissionsExt::from_mode(mode)).expect("set");
            assert!(matches!(error("open"), CacheError::Writable { .. }));
        }
        fs::set_permissions(path("open"), PermissionsExt::from_mode(0o755)).expect("set");
        Directory::open(&path("open"), 1).expect("a directory that only its owner can write");
        symlink("open", path("link")).expect("created");
        assert!(matches!(error("link"), CacheError::Link { .. }));
        assert!(matches!(error("link/"), CacheError::Link { .. }));
        fs::write(path("file"), "").expect("written");
        assert!(matches!(error("file"), CacheError::NoDirectory { .. }));
        assert!(matches!(error("file/below"), CacheError::NoDirectory { .. }));
    }

    #[test]
    fn least_recently_used_table_is_evicted_and_foreign_files_stay() {
        let parent = tempfile::tempdir().expect("a directory");
        let mut directory = open(&parent, 1000);
        fs::write(parent.path().join("cache/notes"), [0; 5000]).expect("written");
        for number in 0..3 {
            directory.write(&name(number), &[&[number; 300]]).expect("written");
            std::thread::sleep(Duration::from_millis(20)); // file system clocks are coarse
        }
        assert_eq!(directory.read(&name(0)).expect("readable"), Some(vec![0; 300]));
        directory.write(&name(3), &[&[3; 300]]).expect("written");
        let left = [name(0), name(2), name(3)].map(|name| file_name(&name));
        assert_eq!(names(&parent), [left.as_slice(), &["notes".into()]].concat());
    }

    #[test]
    fn concurrent_writers_share_the_limit() {
        let parent = tempfile::tempdir().expect("a directory");
        let write = |mut directory: Directory, numbers: std::ops::Range<u8>| {
            for number in numbers {
                directory.write(&name(number), &[&[number; 500], &[1; 500]]).expect("written");
                let bytes = directory.read(&name(number)).expect("readable");
                // The other writer may have evicted it.
                assert!(bytes.is_none_or(|bytes| bytes.len() == 1000));
            }
        };
        let one = open(&parent, 32_000);
        let other = open(&parent, 32_000);
        std::thread::scope(|scope| {
            scope.spawn(|| write(one, 0..80));
            scope.spawn(|| write(other, 40..120));
        });
        // Each may have written a sixteenth of the limit since the other listed the directory.
        assert!(names(&parent).len() <= 34, "{:?}", names(&parent));
        assert!(names(&parent).iter().all(|name| is_table(name)), "{:?}", names(&parent));
    }

    #[test]
    fn abandoned_partial_table_is_removed() {
        let parent = tempfile::tempdir().expect("a directory");
        let mut directory = open(&parent, 1000);
        for (name, age) in [(".begun-1", 2 * ABANDONED_AFTER), (".begun-2", ABANDONED_AFTER / 2)] {
            let file = File::create(parent.path().join("cache").join(name)).expect("created");
            file.set_modified(SystemTime::now() - age).expect("set");
        }
        directory.write(&name(1), &[b"one"]).expect("written");
        assert_eq!(names(&parent), [".begun-2".to_owned(), file_name(&name(1))]);
    }

    #[test]
    fn deleted_directory_reads_nothing_and_fails_to_write() {
        let parent = tempfile::tempdir().expect("a directory");
        let mut directory = open(&parent, 1000);
        directory.write(&name(1), &[b"one"]).expect("written");
        fs::remove_dir_all(parent.path().join("cache")).expect("removed");
        assert_eq!(directory.read(&name(1)).expect("no table"), None);
        let error = directory.write(&name(1), &[b"one"]).expect_err("no directory");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
