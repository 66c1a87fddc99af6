//! Where damaged files of the spool go, so that somebody can look at them: the
//! directory `damaged` beside the batches of their sink. The newest few are kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk;

/// The directory.
pub const DIRECTORY: &str = "damaged";

/// Files kept, and bytes of all of them.
const FILES_MAX: usize = 8;
const BYTES_MAX: u64 = 16 << 20;

/// Moves a file out of its sink's directory into `damaged`, and removes the oldest there
/// beyond the bound.
///
/// # Errors
/// As the system answers; then the file may still be where it was.
pub fn set_aside(sink_directory: &Path, file_name: &str, mode: u32) -> io::Result<()> {
    let directory = sink_directory.join(DIRECTORY);
    disk::create_directory(&directory, mode)?;
    fs::rename(sink_directory.join(file_name), directory.join(file_name))?;
    for path in beyond(files_in(&directory)?) {
        disk::remove(&path)?;
    }
    Ok(())
}

/// Names and lengths of the files there, newest first.
fn files_in(directory: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        files.push((entry.path(), entry.metadata()?.len()));
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    Ok(files)
}

/// Those that have to go: the bounds keep the newest.
fn beyond(files: Vec<(PathBuf, u64)>) -> Vec<PathBuf> {
    let (mut count, mut bytes) = (0, 0);
    let mut gone = Vec::new();
    for (path, length) in files {
        count += 1;
        bytes += length;
        if count > FILES_MAX || bytes > BYTES_MAX {
            gone.push(path);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_few_are_kept() {
        let root = tempfile::tempdir().expect("a directory");
        for number in 10..30 {
            let name = number.to_string();
            fs::write(root.path().join(&name), "x").expect("written");
            set_aside(root.path(), &name, 0o700).expect("moved");
        }
        let kept = files_in(&root.path().join(DIRECTORY)).expect("there");
        let names: Vec<_> = kept.iter().filter_map(|(path, _)| path.file_name()).collect();
        assert_eq!(names, ["29", "28", "27", "26", "25", "24", "23", "22"]);
        assert_eq!(fs::read_dir(root.path()).expect("there").count(), 1);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let file = |name: &str, length| (PathBuf::from(name), length);
        let files = vec![file("d", 1), file("c", BYTES_MAX - 1), file("b", 1), file("a", 0)];
        assert_eq!(beyond(files), [PathBuf::from("b"), PathBuf::from("a")]);
    }
}
