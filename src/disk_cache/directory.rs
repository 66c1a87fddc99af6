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
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, open, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::error::CacheError;
use super::partial::{FILE_FLAGS, PARTIAL, PartialFile};

/// After this time without a write a partial file is abandoned: its writer is gone.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);
/// The limit divided by this may be written before the directory is listed again, for what other
/// processes have written; as much is freed at once when the limit is reached.
const SLACK_DIVISOR: u64 = 16;

/// What a directory holds.
#[derive(Clone, Copy, Debug)]
pub struct CacheKind {
    /// End of the name of each file; what is before is a hash of 64 hexadecimal digits.
    pub suffix: &'static str,
    /// Most bytes of one file.
    pub file_max: u64,
    /// Most bytes of all files.
    pub bytes_max: u64,
}

/// An open directory of ours.
#[derive(Debug)]
pub struct Directory {
    directory: Arc<OwnedFd>,
    kind: CacheKind,
    /// Bytes of all files when the directory was last listed.
    listed_bytes: u64,
    /// Bytes written since then.
    written: u64,
}

impl Directory {
    /// Opens a directory; creates it if it does not exist.
    ///
    /// # Errors
    /// [`CacheError`] where other users could write, or when there is no directory.
    pub fn open(path: &Path, kind: CacheKind) -> Result<Self, CacheError> {
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
                let directory = Arc::new(directory);
                Ok(Self { directory, kind, listed_bytes: kind.bytes_max, written: 0 })
            }
        }
    }

    /// Opens a file for reading and marks it as used last; `None` when there is none.
    ///
    /// # Errors
    /// When opening fails, or it is not a regular file within the limit of one file.
    pub fn open_file(&self, name: &str) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | FILE_FLAGS;
        let opened = openat(&self.directory, self.file_name(name), flags, Mode::empty());
        let file: File = match opened {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > self.kind.file_max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let _ = file.set_modified(SystemTime::now()); // on failure it is evicted a little early
        Ok(Some(file))
    }

    /// Reads a file and marks it as used last; `None` when there is none.
    ///
    /// # Errors
    /// See [`Self::open_file`], or when reading fails.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = self.open_file(name)? else { return Ok(None) };
        let mut bytes = vec![0; file.metadata()?.len().min(self.kind.file_max) as usize];
        file.read_exact(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Removes a file, if it exists.
    pub fn remove(&self, name: &str) {
        let _ = unlinkat(&self.directory, self.file_name(name), AtFlags::empty());
    }

    /// Writes a file, replacing the previous one; evicts others for it if necessary.
    ///
    /// # Errors
    /// When writing fails; then nothing of the file is left.
    pub fn write(&mut self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        self.evict_for(size as u64)?;
        let mut partial = self.create()?;
        parts.iter().try_for_each(|part| partial.file.write_all(part))?;
        self.rename(partial, name, size as u64)
    }

    /// Creates a file that is not complete yet. It is removed unless it is stored.
    ///
    /// # Errors
    /// As creating does.
    pub fn create(&self) -> io::Result<PartialFile> {
        PartialFile::create(Arc::clone(&self.directory))
    }

    /// Stores a file that is complete, replacing the previous one; evicts others for it if
    /// necessary.
    ///
    /// # Errors
    /// As renaming does; then nothing of the file is left.
    pub fn store(&mut self, partial: PartialFile, name: &str) -> io::Result<()> {
        let size = partial.file.metadata()?.len();
        self.evict_for(size)?;
        self.rename(partial, name, size)
    }

    fn rename(&mut self, partial: PartialFile, name: &str, size: u64) -> io::Result<()> {
        let to = self.file_name(name);
        renameat(&self.directory, partial.name(), &self.directory, to)?;
        partial.mark_stored();
        self.written += size;
        Ok(())
    }

    /// Evicts the files used least recently until `size` more bytes fit.
    fn evict_for(&mut self, size: u64) -> io::Result<()> {
        let is_listing_recent = self.written < self.kind.bytes_max / SLACK_DIVISOR;
        if is_listing_recent && self.listed_bytes + self.written + size <= self.kind.bytes_max {
            return Ok(());
        }
        let mut files = self.files()?;
        let mut bytes: u64 = files.iter().map(|(_, _, size)| size).sum();
        if bytes + size > self.kind.bytes_max {
            files.sort_unstable();
            let enough =
                (self.kind.bytes_max - self.kind.bytes_max / SLACK_DIVISOR).saturating_sub(size);
            for (_, name, size) in files {
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

    /// Lists the files: last use since 1970, name and size. Removes abandoned partial files.
    fn files(&self) -> io::Result<Vec<(Duration, String, u64)>> {
        let mut files = Vec::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            let (is_ours, is_partial) = (self.is_ours(name), name.starts_with(PARTIAL));
            let stat = statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW);
            let Some(stat) = stat.ok().filter(|_| is_ours || is_partial) else { continue };
            let last_use = Duration::new(stat.st_mtime.max(0) as u64, stat.st_mtime_nsec as u32);
            if is_partial && last_use + ABANDONED_AFTER < now {
                let _ = unlinkat(&self.directory, name, AtFlags::empty());
            }
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            if is_ours && is_file {
                files.push((last_use, name.to_owned(), stat.st_size as u64));
            }
        }
        Ok(files)
    }

    fn file_name(&self, name: &str) -> String {
        format!("{name}{}", self.kind.suffix)
    }

    fn is_ours(&self, name: &str) -> bool {
        let hash = name.strip_suffix(self.kind.suffix).unwrap_or_default();
        hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn name(number: u8) -> String {
        format!("{number:064x}")
    }

    fn kind(bytes_max: u64) -> CacheKind {
        CacheKind { suffix: ".table", file_max: 1 << 20, bytes_max }
    }

    fn open(parent: &tempfile::TempDir, bytes_max: u64) -> Directory {
        let path = parent.path().join("cache");
        Directory::open(&path, kind(bytes_max)).expect("a writable directory")
    }

    fn file_name(name: &str) -> String {
        format!("{name}.table")
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
        let error = |name: &str| Directory::open(&path(name), kind(1)).expect_err("an error");
        fs::create_dir(path("open")).expect("created");
        for mode in [0o777, 0o770, 0o702] {
            fs::set_permissions(path("open"), PermissionsExt::from_mode(mode)).expect("set");
            assert!(matches!(error("open"), CacheError::Writable { .. }));
        }
        fs::set_permissions(path("open"), PermissionsExt::from_mode(0o755)).expect("set");
        Directory::open(&path("open"), kind(1)).expect("a directory that only its owner can write");
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
        let [one, other, third] = [(); 3].map(|()| open(&parent, 32_000));
        std::thread::scope(|scope| {
            scope.spawn(|| write(third, 0..80));
            scope.spawn(|| write(other, 40..120));
        });
        // Each may have written a sixteenth of the limit since the other listed the directory.
        assert!(names(&parent).len() <= 34, "{:?}", names(&parent));
        assert!(names(&parent).iter().all(|name| one.is_ours(name)), "{:?}", names(&parent));
    }

    #[test]
    fn abandoned_partial_file_is_removed() {
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

    #[test]
    fn streamed_file_appears_when_it_is_stored() {
        let parent = tempfile::tempdir().expect("a directory");
        let mut directory = open(&parent, 1000);
        let mut partial = directory.create().expect("created");
        partial.file.write_all(b"one").expect("written");
        assert!(directory.open_file(&name(1)).expect("no file yet").is_none());
        drop(directory.create().expect("another, which is given up"));
        directory.store(partial, &name(1)).expect("stored");
        assert_eq!(names(&parent), [file_name(&name(1))]);
        let mut text = String::new();
        let file = directory.open_file(&name(1)).expect("readable");
        file.expect("a file").read_to_string(&mut text).expect("text");
        assert_eq!(text, "one");
    }
}
