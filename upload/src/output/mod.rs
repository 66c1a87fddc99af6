//! Output files of `record` and of the agent's export: SVG, pprof or folded stacks.
//!
//! An [`OutputFile`] is checked when it is created, before profiling starts, and written once. The
//! file appears whole or not at all: it is written to a temporary file beside it, then renamed.

mod flamegraph;
mod folded;

use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use profile::pprof::{self, DecodeError, SampleUnit};
use profile::{Profile, pprof::proto as pb};
use tempfile::NamedTempFile;

use crate::disk::without_path;

pub use folded::{StackRoot, folded};

/// Why a file cannot be written. Each message includes the next step.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The name has no extension of a known format.
    #[error("{path}: the name must end in one of {}", extensions())]
    Extension {
        /// The name as the caller chose it.
        path: PathBuf,
    },
    /// A directory has this name.
    #[error("{path} is a directory; choose the name of a file in it")]
    IsDirectory {
        /// The name as the caller chose it.
        path: PathBuf,
    },
    /// No file can be created in the directory.
    #[error("cannot write to the directory {directory}: {source}; choose another with -o")]
    Directory {
        /// Parent of the file to be written.
        directory: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
    /// Writing failed. No partial file remains.
    #[error("cannot write {path}: {source}{}", advice(source))]
    Write {
        /// The file to be written.
        path: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
    /// The flamegraph cannot be drawn.
    #[error("cannot draw {path}: {source}")]
    Draw {
        /// The file to be written.
        path: PathBuf,
        /// Error of the drawing library.
        source: io::Error,
    },
    /// The message is not a valid profile.
    #[error("cannot draw {path}: {source}")]
    Message {
        /// The file to be written.
        path: PathBuf,
        /// The first violation of the format.
        source: DecodeError,
    },
}

/// A file format, selected by the extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A flamegraph for a browser, with search and zoom.
    Svg,
    /// gzip-compressed pprof.
    Pprof,
    /// One line per stack, frames joined by `;`.
    Folded,
}

impl Format {
    const ALL: [(&'static str, Self); 3] =
        [(".svg", Self::Svg), (".pb.gz", Self::Pprof), (".folded", Self::Folded)];

    fn from_path(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let matches = |(extension, _): &&(&str, Self)| {
            name.len() > extension.len() && name.ends_with(extension)
        };
        Self::ALL.iter().find(matches).map(|(_, format)| *format)
    }
}

fn extensions() -> String {
    Format::ALL.map(|(extension, _)| extension).join(", ")
}

/// A file to be written.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    format: Format,
    root: StackRoot,
}

impl OutputFile {
    /// Checks that the file can be written, without touching an existing one. `root`: the outermost
    /// frames of stacks written as text.
    ///
    /// # Errors
    /// [`OutputError`] for an unknown extension or a directory that is not writable.
    pub fn new(path: PathBuf, root: StackRoot) -> Result<Self, OutputError> {
        let Some(format) = Format::from_path(&path) else {
            return Err(OutputError::Extension { path });
        };
        check_writable(&path)?;
        Ok(Self { path, format, root })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a profile.
    ///
    /// # Errors
    /// [`OutputError`]; an existing file is unchanged.
    pub fn write(&self, profile: &Profile) -> Result<(), OutputError> {
        replace(&self.path, &self.encode(profile, SampleUnit::Samples)?)
    }

    /// Writes a pprof message, converted to the format of the file.
    ///
    /// # Errors
    /// [`OutputError`], also for a malformed message; an existing file is unchanged.
    pub fn write_message(&self, message: &pb::Profile) -> Result<(), OutputError> {
        if self.format == Format::Pprof {
            return replace(&self.path, &pprof::compress_file(message));
        }
        let unit = SampleUnit::of(message);
        let profile = pprof::from_message(message, unit)
            .map_err(|source| OutputError::Message { path: self.path.clone(), source })?;
        replace(&self.path, &self.encode(&profile, unit)?)
    }

    fn encode(&self, profile: &Profile, unit: SampleUnit) -> Result<Vec<u8>, OutputError> {
        match self.format {
            Format::Pprof => Ok(pprof::encode(profile)),
            Format::Folded => Ok(folded(profile, self.root).into_bytes()),
            Format::Svg => flamegraph::draw(profile, self.root, unit.name())
                .map_err(|source| OutputError::Draw { path: self.path.clone(), source }),
        }
    }
}

/// Returns the next step after an error that a limit of the process causes.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::FileTooLarge => "; raise the limit of the size of files (`ulimit -f`)",
        _ => "",
    }
}

/// Replaces a file atomically.
///
/// # Errors
/// [`OutputError`]; an existing file is unchanged.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), OutputError> {
    let write = |source| OutputError::Write { path: path.to_owned(), source };
    let mut file = temporary(path)?;
    // Errors of the named file would include its temporary path.
    file.as_file_mut().write_all(bytes).map_err(write)?;
    file.as_file().sync_all().map_err(write)?;
    file.persist(path).map_err(|error| write(error.error))?;
    Ok(())
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

/// Creates a temporary file in the same directory: on one file system, a rename is atomic.
fn temporary(path: &Path) -> Result<NamedTempFile, OutputError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
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
    use super::*;

    fn error_for(path: &str) -> String {
        OutputFile::new(path.into(), StackRoot::Process).expect_err("not writable").to_string()
    }

    #[test]
    fn an_unknown_extension_is_an_error() {
        assert_eq!(error_for("x.txt"), "x.txt: the name must end in one of .svg, .pb.gz, .folded");
        assert_eq!(error_for(".svg"), ".svg: the name must end in one of .svg, .pb.gz, .folded");
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        assert_eq!(
            error_for("/nowhere/x.svg"),
            "cannot write to the directory /nowhere: No such file or directory (os error 2); \
             choose another with -o"
        );
    }

    #[test]
    fn checking_leaves_no_file_and_writing_leaves_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let sink =
            OutputFile::new(dir.path().join("x.folded"), StackRoot::Process).expect("writable");
        let names = || std::fs::read_dir(dir.path()).expect("readable").count();
        assert_eq!(names(), 0);
        sink.write(&Profile::default()).expect("written");
        assert_eq!(names(), 1);
    }

    #[test]
    fn a_message_is_written_like_its_profile() {
        let dir = tempfile::tempdir().expect("a directory");
        let profile = folded::tests::example();
        let message = pprof::to_message(&profile, pprof::SampleGrouping::ByThread);
        for name in ["x.folded", "x.svg", "x.pb.gz"] {
            let bytes_of = |write: &dyn Fn(&OutputFile) -> Result<(), OutputError>| {
                let sink =
                    OutputFile::new(dir.path().join(name), StackRoot::Thread).expect("writable");
                write(&sink).expect("written");
                std::fs::read(sink.path()).expect("readable")
            };
            let from_profile = bytes_of(&|sink| sink.write(&profile));
            assert!(from_profile == bytes_of(&|sink| sink.write_message(&message)), "{name}");
        }
    }
}
