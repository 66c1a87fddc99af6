//! Station 6: a profile goes to its sinks.

use std::path::PathBuf;

use profile::Profile;
use upload::output::{OutputError, OutputFile, StackRoot};

/// Where a recording goes.
#[derive(Debug)]
pub struct Outputs {
    sinks: Vec<OutputFile>,
}

impl Outputs {
    /// Checks every file before anything is profiled.
    ///
    /// # Errors
    /// The first that cannot be written.
    pub fn open(paths: Vec<PathBuf>, by: StackRoot) -> Result<Self, OutputError> {
        let sinks = paths.into_iter().map(|path| OutputFile::new(path, by));
        Ok(Self { sinks: sinks.collect::<Result<_, _>>()? })
    }

    /// Writes the profile to each; one that fails keeps none of the others from being written.
    pub fn write(&self, profile: &Profile) -> Vec<(PathBuf, Result<(), OutputError>)> {
        self.sinks.iter().map(|sink| (sink.path().to_owned(), sink.write(profile))).collect()
    }
}
