//! Durable files and directories: written, synced, then renamed or linked into place; and locks on
//! directories.

mod lock;

pub use lock::{DirectoryLock, InUse, LockError};

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

/// Block of a file system, in bytes: a file occupies whole blocks, and at least one.
pub const BLOCK_BYTES: u64 = 4096;

/// Suffix of temporary files, whose names begin with a dot.
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Returns the bytes that a file of this length occupies on disk.
pub fn allocated_bytes(length: u64) -> u64 {
    length.max(1).next_multiple_of(BLOCK_BYTES)
}

/// Creates a directory and its missing parents, and syncs each new directory entry.
///
/// `mode`: permissions of new directories, less the umask.
///
/// # Errors
/// Any I/O error, also if the path exists and is no directory.
pub fn create_directory(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => sync_directory(parent_of(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && parent_of(path) != path => {
            create_directory(parent_of(path), mode)?;
            DirBuilder::new().mode(mode).create(path)?;
            sync_directory(parent_of(path))
        }
        Err(error) => Err(error),
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

/// Writes the entries of a directory to disk.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a temporary file and syncs its content. The file is removed when dropped.
///
/// # Errors
/// Any I/O error; no file remains.
pub fn write_temporary(directory: &Path, mode: u32, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(".")
        .suffix(TEMPORARY_SUFFIX)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)
        .map_err(without_path)?;
    file.as_file_mut().write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Removes the random path of a temporary file, which `tempfile` adds, from an error message.
pub fn without_path(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((cause, _)) => io::Error::new(error.kind(), cause.to_owned()),
        None => error,
    }
}

/// Removes temporary files that a killed process left in a directory, as far as possible.
pub fn remove_temporaries(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if is_temporary(&entry.file_name()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_temporary(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(TEMPORARY_SUFFIX))
}

/// Removes a file. A missing file is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_a_directory_with_its_parents() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("a/b/c");
        create_directory(&path, 0o700).expect("created");
        create_directory(&path, 0o700).expect("exists");
        assert_eq!(fs::metadata(&path).expect("exists").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_in_place_of_a_directory_is_an_error() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("a");
        fs::write(&path, "").expect("written");
        assert!(create_directory(&path, 0o700).is_err());
        assert!(create_directory(&path.join("b"), 0o700).is_err());
    }

    #[test]
    fn removes_only_temporaries_of_a_killed_writer() {
        let root = tempfile::tempdir().expect("a directory");
        let temporary = write_temporary(root.path(), 0o600, b"half").expect("written");
        temporary.keep().expect("kept, as after a kill");
        fs::write(root.path().join("mine.tmp"), "").expect("written");
        remove_temporaries(root.path());
        let names: Vec<_> = fs::read_dir(root.path()).expect("readable").flatten().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(names[0].file_name(), "mine.tmp");
    }

    #[test]
    fn errors_omit_the_temporary_path() {
        let error = write_temporary(Path::new("/nowhere"), 0o600, b"").expect_err("missing");
        assert_eq!(error.to_string(), "No such file or directory (os error 2)");
    }

    #[test]
    fn even_an_empty_file_occupies_a_block() {
        assert_eq!([0, 1, 4096, 4097].map(allocated_bytes), [4096, 4096, 4096, 8192]);
    }
}
