//! Quarantine for damaged spool files: the directory `damaged` beside the batches of a sink.
//!
//! The newest few files are retained for a person to examine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk;

/// Name of the directory.
pub const DIRECTORY: &str = "damaged";

/// Most files retained, and most bytes of all of them.
const FILES_MAX: usize = 8;
const BYTES_MAX: u64 = 16 << 20;

/// Moves a file of a sink's directory into quarantine and removes the oldest files there beyond
/// the limits.
///
/// # Errors
/// Any I/O error; the file may not have moved.
pub fn quarantine(sink_directory: &Path, file_name: &str, mode: u32) -> io::Result<()> {
    let directory = sink_directory.join(DIRECTORY);
    disk::create_directory(&directory, mode)?;
    fs::rename(sink_directory.join(file_name), directory.join(file_name))?;
    for path in beyond_limits(files_newest_first(&directory)?) {
        disk::remove(&path)?;
    }
    Ok(())
}

/// Lists paths and lengths. Names sort by time, so the newest file has the greatest name.
fn files_newest_first(directory: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        files.push((entry.path(), entry.metadata()?.len()));
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    Ok(files)
}

fn beyond_limits(files_newest_first: Vec<(PathBuf, u64)>) -> Vec<PathBuf> {
    let (mut count, mut bytes) = (0, 0);
    let mut excess = Vec::new();
    for (path, length) in files_newest_first {
        count += 1;
        bytes += length;
        if count > FILES_MAX || bytes > BYTES_MAX {
            excess.push(path);
        }
    }
    excess
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retains_the_newest_files() {
        let root = tempfile::tempdir().expect("a directory");
        for number in 10..30 {
            let name = number.to_string();
            fs::write(root.path().join(&name), "x").expect("written");
            quarantine(root.path(), &name, 0o700).expect("moved");
        }
        let files = files_newest_first(&root.path().join(DIRECTORY)).expect("readable");
        let names: Vec<_> = files.iter().filter_map(|(path, _)| path.file_name()).collect();
        assert_eq!(names, ["29", "28", "27", "26", "25", "24", "23", "22"]);
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 1);
    }

    #[test]
    fn bytes_are_limited_too() {
        let file = |name: &str, length| (PathBuf::from(name), length);
        let files = vec![file("d", 1), file("c", BYTES_MAX - 1), file("b", 1), file("a", 0)];
        assert_eq!(beyond_limits(files), [PathBuf::from("b"), PathBuf::from("a")]);
    }
}
