//! The directory of a cache: files that appear whole or not at all, within a budget of bytes, whoever else writes there.
//!
//! It is opened once and all goes by its descriptor, so nothing that happens to its path leads elsewhere. Only its owner may
//! write there. Any file may be gone at any time; what has not our names is left alone.

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

/// Bytes of one file.
pub(super) const FILE_MAX: usize = 64 << 20;
/// What tables are named: a hash, then this.
const ENDING: &str = ".table";
/// What a table is named until it is whole.
const BEGUN: &str = ".begun-";
/// After so long nobody writes on at a table that was begun.
const STALE: Duration = Duration::from_secs(3600);
/// Share of the budget after which it is looked what others have written, and that is freed at once when it is used up.
const PART: u64 = 16;
const FILE_FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// Why a directory is not taken. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// It is not there, and cannot be made.
    #[error("--cache-dir {path}: it cannot be created: {source}; give another place")]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// It cannot be opened.
    #[error("--cache-dir {path}: it cannot be opened: {source}; give another place")]
    Open {
        /// The directory.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// It leads elsewhere.
    #[error("--cache-dir {path} is a symbolic link; give the directory that it leads to")]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// It is something else.
    #[error("--cache-dir {path} is no directory; give another place")]
    NoDirectory {
        /// What it is the path of.
        path: PathBuf,
    },
    /// Somebody else could leave tables there.
    #[error("--cache-dir {path} belongs to user {owner}, not to us; give a directory of user {us}")]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Everybody else could.
    #[error(
        "--cache-dir {path}: others may write there; `chmod go-w {path}`, or give another place"
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
    budget: u64,
    /// Bytes that were there when it was last looked, and those written since.
    found: u64,
    written: u64,
    /// Files begun so far: none has the name of another.
    begun: u64,
}

impl Directory {
    /// Opens a directory, makes it if it is not there.
    ///
    /// # Errors
    /// [`CacheError`] where others could write, and where there is no directory to be had.
    pub fn open(path: &Path, budget: u64) -> Result<Self, CacheError> {
        // With a slash at its end, a link would be followed.
        let path: PathBuf = path.components().collect();
        let found = path.symlink_metadata();
        if found.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|source| CacheError::Create { path: path.clone(), source })?;
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
            // As if the budget were used up: it is looked what is there before the first table is written.
            Ok(_) => Ok(Self { directory, budget, found: budget, written: 0, begun: 0 }),
        }
    }

    /// Reads a table and notes that it was of use; `None` when there is none.
    ///
    /// # Errors
    /// As reading does, and for what is no file of at most [`FILE_MAX`] bytes.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | FILE_FLAGS;
        let mut file: File = match openat(&self.directory, file_name(name), flags, Mode::empty()) {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let found = file.metadata()?;
        let size = usize::try_from(found.len()).ok().filter(|size| *size <= FILE_MAX);
        let size = size.filter(|_| found.is_file()).ok_or(io::ErrorKind::InvalidData)?;
        let mut bytes = vec![0; size];
        file.read_exact(&mut bytes)?;
        let _ = file.set_modified(SystemTime::now()); // then it is thrown out a little early
        Ok(Some(bytes))
    }

    /// Removes a table, if it is there.
    pub fn remove(&self, name: &str) {
        let _ = unlinkat(&self.directory, file_name(name), AtFlags::empty());
    }

    /// Writes a table, in the place of the one there was. Others make room.
    ///
    /// # Errors
    /// As writing does; then nothing of it is left.
    pub fn write(&mut self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        self.make_room(size as u64)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let begun = format!("{BEGUN}{}-{now:x}-{}", std::process::id(), self.begun);
        self.begun += 1;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | FILE_FLAGS;
        let mut file: File =
            openat(&self.directory, &begun, flags, Mode::RUSR | Mode::WUSR)?.into();
        let written = parts.iter().try_for_each(|part| file.write_all(part));
        let done = written.and_then(|()| {
            Ok(renameat(&self.directory, &begun, &self.directory, file_name(name))?)
        });
        match done {
            Ok(()) => self.written += size as u64,
            Err(_) => drop(unlinkat(&self.directory, &begun, AtFlags::empty())),
        }
        done
    }

    /// Sees to it that so many bytes find room: removes what was not of use for longest.
    fn make_room(&mut self, size: u64) -> io::Result<()> {
        let is_known = self.written < self.budget / PART;
        if is_known && self.found + self.written + size <= self.budget {
            return Ok(());
        }
        let mut tables = self.tables()?;
        let mut bytes: u64 = tables.iter().map(|(_, _, size)| size).sum();
        if bytes + size > self.budget {
            tables.sort_unstable();
            let enough = (self.budget - self.budget / PART).saturating_sub(size);
            for (_, name, size) in tables {
                if bytes <= enough {
                    break;
                }
                let _ = unlinkat(&self.directory, &name, AtFlags::empty()); // another was quicker
                bytes -= size;
            }
        }
        (self.found, self.written) = (bytes, 0);
        Ok(())
    }

    /// Lists the tables: when each was last of use, its name and size. Removes what was begun and left.
    fn tables(&self) -> io::Result<Vec<(Duration, String, u64)>> {
        let mut tables = Vec::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let (is_table, is_begun) = (is_table(name), name.starts_with(BEGUN));
            let found = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
            let Some(found) = found.ok().filter(|_| is_table || is_begun) else { continue };
            let used = Duration::new(found.st_mtime.max(0) as u64, found.st_mtime_nsec as u32);
            if is_begun && used + STALE < now {
                let _ = unlinkat(&self.directory, name, AtFlags::empty());
            }
            let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
            if is_table && is_file {
                tables.push((used, name.to_owned(), found.st_size as u64));
            }
        }
        Ok(tables)
    }
}

fn file_name(name: &str) -> String {
    format!("{name}{ENDING}")
}

fn is_table(name: &str) -> bool {
    let hash = name.strip_suffix(ENDING).unwrap_or_default();
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

    fn open(place: &tempfile::TempDir, budget: u64) -> Directory {
        Directory::open(&place.path().join("cache"), budget).expect("a directory of ours")
    }

    fn names(place: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(place.path().join("cache")).expect("it is there");
        let name = |entry: fs::DirEntry| entry.file_name().into_string().expect("text");
        let mut names: Vec<String> = entries.map(|entry| name(entry.expect("readable"))).collect();
        names.sort();
        names
    }

    #[test]
    fn it_is_made_for_its_owner_alone() {
        let place = tempfile::tempdir().expect("a place");
        let mut directory = open(&place, 1000);
        directory.write(&name(1), &[b"one"]).expect("written");
        let mode = |path: &str| {
            let found = fs::metadata(place.path().join(path)).expect("it is there");
            found.permissions().mode() & 0o777
        };
        assert_eq!(mode("cache"), 0o700);
        assert_eq!(mode(&format!("cache/{}", file_name(&name(1)))), 0o600);
    }

    #[test]
    fn others_have_no_say() {
        let place = tempfile::tempdir().expect("a place");
        let path = |name: &str| place.path().join(name);
        let refused = |name: &str| Directory::open(&path(name), 1).expect_err("it is refused");
        fs::create_dir(path("open")).expect("made");
        for mode in [0o777, 0o770, 0o702] {
            fs::set_permissions(path("open"), PermissionsExt::from_mode(mode)).expect("set");
            assert!(matches!(refused("open"), CacheError::Writable { .. }));
        }
        fs::set_permissions(path("open"), PermissionsExt::from_mode(0o755)).expect("set");
        Directory::open(&path("open"), 1).expect("nobody else may write there");
        symlink("open", path("link")).expect("made");
        assert!(matches!(refused("link"), CacheError::Link { .. }));
        assert!(matches!(refused("link/"), CacheError::Link { .. }));
        fs::write(path("file"), "").expect("written");
        assert!(matches!(refused("file"), CacheError::NoDirectory { .. }));
        assert!(matches!(refused("file/below"), CacheError::NoDirectory { .. }));
    }

    #[test]
    fn what_was_not_of_use_for_longest_goes_first_and_what_is_not_ours_stays() {
        let place = tempfile::tempdir().expect("a place");
        let mut directory = open(&place, 1000);
        fs::write(place.path().join("cache/notes"), [0; 5000]).expect("written");
        for number in 0..3 {
            directory.write(&name(number), &[&[number; 300]]).expect("written");
            std::thread::sleep(Duration::from_millis(20)); // the clock of file systems is coarse
        }
        assert_eq!(directory.read(&name(0)).expect("readable"), Some(vec![0; 300]));
        directory.write(&name(3), &[&[3; 300]]).expect("written");
        let left = [name(0), name(2), name(3)].map(|name| file_name(&name));
        assert_eq!(names(&place), [left.as_slice(), &["notes".into()]].concat());
    }

    #[test]
    fn several_that_write_share_the_budget() {
        let place = tempfile::tempdir().expect("a place");
        let write = |mut directory: Directory, numbers: std::ops::Range<u8>| {
            for number in numbers {
                directory.write(&name(number), &[&[number; 500], &[1; 500]]).expect("written");
                let bytes = directory.read(&name(number)).expect("readable");
                assert!(bytes.is_none_or(|bytes| bytes.len() == 1000)); // another may have made room
            }
        };
        let one = open(&place, 32_000);
        let other = open(&place, 32_000);
        std::thread::scope(|scope| {
            scope.spawn(|| write(one, 0..80));
            scope.spawn(|| write(other, 40..120));
        });
        // Either may have written a sixteenth that the other has not seen.
        assert!(names(&place).len() <= 34, "{:?}", names(&place));
        assert!(names(&place).iter().all(|name| is_table(name)), "{:?}", names(&place));
    }

    #[test]
    fn what_was_begun_long_ago_is_removed() {
        let place = tempfile::tempdir().expect("a place");
        let mut directory = open(&place, 1000);
        for (name, age) in [(".begun-1", 2 * STALE), (".begun-2", STALE / 2)] {
            let file = File::create(place.path().join("cache").join(name)).expect("made");
            file.set_modified(SystemTime::now() - age).expect("set");
        }
        directory.write(&name(1), &[b"one"]).expect("written");
        assert_eq!(names(&place), [".begun-2".to_owned(), file_name(&name(1))]);
    }

    #[test]
    fn a_directory_that_is_gone_has_nothing_and_takes_nothing() {
        let place = tempfile::tempdir().expect("a place");
        let mut directory = open(&place, 1000);
        directory.write(&name(1), &[b"one"]).expect("written");
        fs::remove_dir_all(place.path().join("cache")).expect("removed");
        assert_eq!(directory.read(&name(1)).expect("nothing"), None);
        let error = directory.write(&name(1), &[b"one"]).expect_err("no place for it");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
