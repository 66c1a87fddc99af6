//! Files that a power loss does not undo: directories and temporary files, synced.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

/// What the names of temporary files end in. They begin with a dot.
const TEMPORARY: &str = ".tmp";

/// Makes a directory with its parents, where it is not there yet, and syncs the name of
/// each. `mode`: permissions of the new ones, less the umask.
///
/// # Errors
/// As the system answers; also when something else has the name.
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

/// Writes the names in a directory to the disk.
///
/// # Errors
/// As the system answers.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a temporary file into a directory and its content to the disk. It is removed
/// when it is dropped.
///
/// # Errors
/// As the system answers; then nothing is left of it.
pub fn write_temporary(directory: &Path, mode: u32, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(".")
        .suffix(TEMPORARY)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)
        .map_err(without_path)?;
    file.as_file_mut().write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// The error without the random name of a temporary file, which the library adds and
/// which tells nobody anything.
pub fn without_path(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((answer, _)) => io::Error::new(error.kind(), answer.to_owned()),
        None => error,
    }
}

/// Removes temporary files that an earlier life left in a directory. What cannot be
/// removed stays.
pub fn remove_temporaries(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if is_temporary(&entry.file_name()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_temporary(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(TEMPORARY))
}

/// Removes a file. One that is gone already is fine.
///
/// # Errors
/// As the system answers.
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
    fn directories_are_made_with_their_parents_once() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("a/b/c");
        create_directory(&path, 0o700).expect("made");
        create_directory(&path, 0o700).expect("there");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_is_no_directory() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("a");
        fs::write(&path, "").expect("written");
        assert!(create_directory(&path, 0o700).is_err());
        assert!(create_directory(&path.join("b"), 0o700).is_err());
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().expect("a directory");
        let left = write_temporary(root.path(), 0o600, b"half").expect("written");
        left.keep().expect("as if killed");
        fs::write(root.path().join("mine.tmp"), "").expect("written");
        remove_temporaries(root.path());
        let names: Vec<_> = fs::read_dir(root.path()).expect("there").flatten().collect();
        assert_eq!(names.len(), 1);
        assert_eq!(names[0].file_name(), "mine.tmp");
    }

    #[test]
    fn the_system_answers_without_the_name_of_a_temporary_file() {
        let error = write_temporary(Path::new("/nowhere"), 0o600, b"").expect_err("not there");
        assert_eq!(error.to_string(), "No such file or directory (os error 2)");
    }
}
