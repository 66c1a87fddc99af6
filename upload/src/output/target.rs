//! Where an output goes: to a file that appears whole or not at all, or to a stream.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::error::OutputError;
use crate::disk::without_path;

/// The name that stands for standard output.
const STDOUT: &str = "-";

/// Where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A regular file, which is replaced.
    File(PathBuf),
    /// A pipe or a device, which is written to: replaced, it would be gone for everyone.
    Stream(PathBuf),
    /// Standard output.
    Stdout,
}

impl Target {
    /// Returns the target with a name. A symbolic link, such as `/dev/stdout`, leads to its file.
    pub fn of(name: &Path) -> Self {
        if name == Path::new(STDOUT) {
            return Self::Stdout;
        }
        let path = match name.is_symlink().then(|| name.canonicalize()) {
            Some(Ok(path)) => path,
            _ => name.to_owned(),
        };
        match name.metadata() {
            Ok(found) if !found.is_file() && !found.is_dir() => Self::Stream(name.to_owned()),
            _ => Self::File(path),
        }
    }

    /// Checks that the target can be written, without touching it.
    ///
    /// # Errors
    /// [`OutputError`] for a directory, or a file in one that is not writable.
    pub fn check(&self, is_binary: bool) -> Result<(), OutputError> {
        match self {
            Self::File(path) => check_writable(path),
            Self::Stdout if is_binary && io::stdout().is_terminal() => Err(OutputError::Terminal),
            Self::Stdout | Self::Stream(_) => Ok(()),
        }
    }

    /// Writes what `write` produces. `name`: the target as errors call it.
    ///
    /// # Errors
    /// That of `write`, or [`OutputError::Write`]; an existing file is unchanged.
    pub fn replace(&self, name: &Path, write: impl Produce) -> Result<(), OutputError> {
        let failed = |source| OutputError::Write { path: name.to_owned(), source };
        match self {
            Self::File(path) => replace_with(path, failed, write),
            Self::Stream(path) => {
                stream(OpenOptions::new().write(true).open(path).map_err(failed)?, failed, write)
            }
            Self::Stdout => stream(io::stdout().lock(), failed, write),
        }
    }

    /// Returns the path by which two names of one file are equal.
    pub fn identity(&self) -> PathBuf {
        let path = match self {
            Self::Stdout => return STDOUT.into(),
            Self::Stream(path) => return path.canonicalize().unwrap_or_else(|_| path.clone()),
            Self::File(path) => path,
        };
        let directory = directory_of(path).canonicalize();
        match (directory, path.file_name()) {
            (Ok(directory), Some(name)) => directory.join(name),
            _ => path.clone(),
        }
    }
}

/// Writes the content of a file.
pub(super) trait Produce: FnOnce(&mut dyn Write) -> Result<(), OutputError> {}
impl<F: FnOnce(&mut dyn Write) -> Result<(), OutputError>> Produce for F {}

fn stream(
    stream: impl Write,
    failed: impl Fn(io::Error) -> OutputError,
    write: impl Produce,
) -> Result<(), OutputError> {
    let mut stream = BufWriter::new(stream);
    write(&mut stream)?;
    stream.flush().map_err(failed)
}

fn replace_with(
    path: &Path,
    failed: impl Fn(io::Error) -> OutputError,
    write: impl Produce,
) -> Result<(), OutputError> {
    let mut file = temporary(path)?;
    // Errors of the named file would include its temporary path.
    stream(file.as_file_mut(), &failed, write)?;
    file.as_file().sync_all().map_err(&failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Replaces a file atomically.
///
/// # Errors
/// [`OutputError`]; an existing file is unchanged.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    let failed = |source| OutputError::Write { path: path.to_owned(), source };
    replace_with(path, failed, |file: &mut dyn Write| file.write_all(bytes).map_err(failed))
}

/// Checks that [`replace`] can write a file, without touching an existing one.
///
/// # Errors
/// [`OutputError`] for a directory, or in one that is not writable.
pub fn check_writable(path: &Path) -> Result<(), OutputError> {
    if path.is_dir() {
        return Err(OutputError::IsDirectory { path: path.to_owned() });
    }
    temporary(path).map(drop)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Creates a temporary file in the same directory: on one file system, a rename is atomic.
fn temporary(path: &Path) -> Result<NamedTempFile, OutputError> {
    let directory = directory_of(path);
    tempfile::Builder::new()
        .prefix(".everytick-")
        .permissions(Permissions::from_mode(0o666)) // less the umask
        .tempfile_in(directory)
        .map_err(|source| OutputError::Directory {
            directory: directory.to_owned(),
            source: without_path(source),
        })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(name: &Path, text: &str) -> Result<(), OutputError> {
        let failed = |source| OutputError::Write { path: name.to_owned(), source };
        let target = Target::of(name);
        target.replace(name, |out: &mut dyn Write| out.write_all(text.as_bytes()).map_err(failed))
    }

    #[test]
    fn a_device_is_written_to_and_never_replaced() {
        let null = Path::new("/dev/null");
        assert_eq!(Target::of(null), Target::Stream(null.into()));
        write(null, "x").expect("written");
        assert_eq!(Target::of(null), Target::Stream(null.into()), "it is still a device");
    }

    #[test]
    fn a_symbolic_link_keeps_leading_to_its_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "old").expect("written");
        symlink(&file, &link).expect("a link");
        write(&link, "new").expect("written");
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).expect("readable"), b"new");
        assert_eq!(Target::of(&link).identity(), Target::of(&file).identity());
    }

    #[test]
    fn a_failure_leaves_the_old_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        std::fs::write(&file, "old").expect("written");
        let failed = |source| OutputError::Write { path: file.clone(), source };
        let result = Target::of(&file).replace(&file, |out: &mut dyn Write| {
            out.write_all(b"half").map_err(failed)?;
            Err(failed(io::Error::other("of the format")))
        });
        result.expect_err("it failed");
        assert_eq!(std::fs::read(&file).expect("readable"), b"old");
        assert_eq!(directory.path().read_dir().expect("readable").count(), 1);
    }
}
