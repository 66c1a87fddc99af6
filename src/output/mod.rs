//! The output files of `record`.

use std::path::PathBuf;

use profile::Profile;
use upload::output::{OutputError, OutputFile, StackRoot};

/// The files that a recording is written to.
#[derive(Debug)]
pub struct Outputs {
    files: Vec<OutputFile>,
}

impl Outputs {
    /// Checks, before anything is profiled, that every file can be written.
    ///
    /// # Errors
    /// That of the first file that cannot be written.
    pub fn open(paths: Vec<PathBuf>, by: StackRoot) -> Result<Self, OutputError> {
        let files = paths.into_iter().map(|path| OutputFile::new(path, by));
        Ok(Self { files: files.collect::<Result<_, _>>()? })
    }

    /// Writes the profile to each file. A failure does not affect the other files.
    pub fn write(&self, profile: &Profile) -> Vec<(PathBuf, Result<(), OutputError>)> {
        self.files.iter().map(|file| (file.path().to_owned(), file.write(profile))).collect()
    }
}
