//! The sink of `record`: one profile into one file, in the format that its name tells.
//!
//! A [`FileSink`] is checked when it is made, before anything is profiled, and
//! written once. The file appears complete or not at all: it is written under
//! another name beside its own, then renamed.

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

pub use folded::{By, folded};

/// Why a file cannot be or was not written. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The name tells no format.
    #[error("{path}: the name must end in one of {}", extensions())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// There is something else under this name.
    #[error("{path} is a directory; give the name of a file in it")]
    IsDirectory {
        /// The name.
        path: PathBuf,
    },
    /// Its directory takes no new file.
    #[error("cannot write to the directory {directory}: {source}; choose another with -o")]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Writing failed; nothing is left of it.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The graph could not be drawn.
    #[error("cannot draw {path}: {source}")]
    Draw {
        /// The file.
        path: PathBuf,
        /// What the drawing library answered.
        source: io::Error,
    },
    /// What was to be drawn is no profile.
    #[error("cannot draw {path}: {source}")]
    Message {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DecodeError,
    },
}

/// A format and the ending of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A flamegraph that a browser opens, with search and zoom.
    Svg,
    /// gzip-compressed pprof.
    Pprof,
    /// A line for each stack, frames joined by `;`.
    Folded,
}

impl Format {
    const ALL: [(&'static str, Self); 3] =
        [(".svg", Self::Svg), (".pb.gz", Self::Pprof), (".folded", Self::Folded)];

    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let is_it =
            |(ending, _): &&(&str, Self)| name.len() > ending.len() && name.ends_with(ending);
        Self::ALL.iter().find(is_it).map(|(_, format)| *format)
    }
}

fn extensions() -> String {
    Format::ALL.map(|(ending, _)| ending).join(", ")
}

/// One file to be written.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    format: Format,
    by: By,
}

impl FileSink {
    /// Checks that the file can be written, without touching what is there. `by`: where
    /// stacks start that are written as text.
    ///
    /// # Errors
    /// [`FileError`] for an unknown ending and for a place that takes no file.
    pub fn new(path: PathBuf, by: By) -> Result<Self, FileError> {
        let Some(format) = Format::of(&path) else { return Err(FileError::Extension { path }) };
        check_place(&path)?;
        Ok(Self { path, format, by })
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the profile.
    ///
    /// # Errors
    /// [`FileError`]; then there is no file, or still the one that was there before.
    pub fn write(&self, profile: &Profile) -> Result<(), FileError> {
        replace(&self.path, &self.encode(profile, SampleUnit::Samples)?)
    }

    /// Writes a message of pprof: as it is, or what is drawn of it.
    ///
    /// # Errors
    /// [`FileError`], also when the message makes no sense; then there is no file, or still the one that was there before.
    pub fn write_message(&self, message: &pb::Profile) -> Result<(), FileError> {
        if self.format == Format::Pprof {
            return replace(&self.path, &pprof::compress(message));
        }
        let unit = SampleUnit::of(message);
        let profile = pprof::from_message(message, unit)
            .map_err(|source| FileError::Message { path: self.path.clone(), source })?;
        replace(&self.path, &self.encode(&profile, unit)?)
    }

    fn encode(&self, profile: &Profile, unit: SampleUnit) -> Result<Vec<u8>, FileError> {
        match self.format {
            Format::Pprof => Ok(pprof::encode(profile)),
            Format::Folded => Ok(folded(profile, self.by).into_bytes()),
            Format::Svg => flamegraph::draw(profile, self.by, unit.name())
                .map_err(|source| FileError::Draw { path: self.path.clone(), source }),
        }
    }
}

/// Writes a file whole or not at all.
///
/// # Errors
/// [`FileError`]; then there is no file, or still the one that was there before.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let write = |source| FileError::Write { path: path.to_owned(), source };
    let mut file = temporary(path)?;
    file.write_all(bytes).map_err(write)?;
    file.as_file().sync_all().map_err(write)?;
    file.persist(path).map_err(|error| write(error.error))?;
    Ok(())
}

/// Checks that [`replace`] can write a file, without touching what is there.
///
/// # Errors
/// [`FileError`] for a place that takes no file.
pub fn check_place(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Err(FileError::IsDirectory { path: path.to_owned() });
    }
    temporary(path).map(drop)
}

/// Makes a file beside the one to write: the same file system, so that renaming is one step.
fn temporary(path: &Path) -> Result<NamedTempFile, FileError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    tempfile::Builder::new()
        .prefix(".everytick-")
        .permissions(Permissions::from_mode(0o666)) // less the umask
        .tempfile_in(directory)
        .map_err(|source| FileError::Directory {
            directory: directory.to_owned(),
            source: without_path(source),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(path: &str) -> String {
        FileSink::new(path.into(), By::Process).expect_err("it cannot be written").to_string()
    }

    #[test]
    fn a_name_without_a_known_ending_is_refused() {
        assert_eq!(refused("x.txt"), "x.txt: the name must end in one of .svg, .pb.gz, .folded");
        assert_eq!(refused(".svg"), ".svg: the name must end in one of .svg, .pb.gz, .folded");
    }

    #[test]
    fn a_directory_that_does_not_exist_is_refused() {
        assert_eq!(
            refused("/nowhere/x.svg"),
            "cannot write to the directory /nowhere: No such file or directory (os error 2); \
             choose another with -o"
        );
    }

    #[test]
    fn a_check_leaves_nothing_and_a_write_leaves_one_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let sink =
            FileSink::new(dir.path().join("x.folded"), By::Process).expect("it can be written");
        let names = || std::fs::read_dir(dir.path()).expect("there").count();
        assert_eq!(names(), 0);
        sink.write(&Profile::default()).expect("written");
        assert_eq!(names(), 1);
    }

    #[test]
    fn a_message_is_written_as_its_profile_would_be() {
        let dir = tempfile::tempdir().expect("a directory");
        let profile = folded::tests::example();
        let message = pprof::to_message(&profile, pprof::SampleGrouping::ByThread);
        for name in ["x.folded", "x.svg", "x.pb.gz"] {
            let written = |write: &dyn Fn(&FileSink) -> Result<(), FileError>| {
                let sink =
                    FileSink::new(dir.path().join(name), By::Thread).expect("it can be written");
                write(&sink).expect("written");
                std::fs::read(sink.path()).expect("there")
            };
            let of_profile = written(&|sink| sink.write(&profile));
            assert!(of_profile == written(&|sink| sink.write_message(&message)), "{name}");
        }
    }
}
