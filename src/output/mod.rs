//! Station 6: a profile goes to its sinks.

use std::path::PathBuf;

use profile::Profile;
use upload::output::{By, FileError, FileSink};

/// Where a recording goes.
#[derive(Debug)]
pub struct Outputs {
    sinks: Vec<FileSink>,
}

impl Outputs {
    /// Checks every file before anything is profiled.
    ///
    /// # Errors
    /// The first that cannot be written.
    pub fn open(paths: Vec<PathBuf>, by: By) -> Result<Self, FileError> {
        let sinks = paths.into_iter().map(|path| FileSink::new(path, by));
        Ok(Self { sinks: sinks.collect::<Result<_, _>>()? })
    }

    /// Writes the profile to each; one that fails keeps none of the others from being written.
    pub fn write(&self, profile: &Profile) -> Vec<(PathBuf, Result<(), FileError>)> {
        self.sinks.iter().map(|sink| (sink.path().to_owned(), sink.write(profile))).collect()
    }
}
