//! The ELF files that the command line names.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use profile::printable;
use unwind::Error;

/// A file on the command line, or below a directory on it.
pub(super) struct NamedFile {
    pub path: PathBuf,
    /// Whether it was found in a directory; then it need not be an ELF file.
    pub is_found: bool,
}

/// Returns the files that are named, and those below directories that are.
pub(super) fn all(paths: &[PathBuf]) -> impl Iterator<Item = NamedFile> {
    paths.iter().flat_map(|path| {
        let is_found = path.is_dir();
        let files = if is_found { below(path) } else { vec![path.clone()] };
        files.into_iter().map(move |path| NamedFile { path, is_found })
    })
}

/// Opens a regular file.
pub(super) fn open(path: &Path) -> Result<File> {
    let file = File::open(path).context("cannot open it")?;
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    anyhow::ensure!(is_file, "it is no regular file; give an ELF file");
    Ok(file)
}

/// Returns the error of a file with what to do next.
pub(super) fn with_next_step(error: Error) -> anyhow::Error {
    match error {
        Error::NoCallFrames => anyhow::anyhow!("{error}; its stacks are unwound by frame pointer"),
        Error::NotElf => anyhow::anyhow!("{error}; give an executable or a shared library"),
        other => other.into(),
    }
}

/// Returns a path as a terminal can show it.
pub(super) fn shown(path: &Path) -> String {
    printable(&path.display().to_string()).into_owned()
}

/// Returns the regular files below a directory, sorted by path. Symbolic links are not followed.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}
