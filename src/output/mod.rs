//! The output files of `record`.

use std::path::PathBuf;

use profile::Profile;
use upload::output::{OutputError, OutputFile, OutputOptions};

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
    pub fn open(paths: Vec<PathBuf>, options: OutputOptions) -> Result<Self, OutputError> {
        Ok(Self { files: OutputFile::all(paths, options)? })
    }

    /// Whether one of them is standard output.
    pub fn use_stdout(&self) -> bool {
        self.files.iter().any(OutputFile::is_stdout)
    }

    /// Whether one of them is made of the times of samples.
    pub fn need_times(&self) -> bool {
        self.files.iter().any(|file| file.format().needs_times())
    }

    /// Writes the profile to each file. Returns their names for people, and the results: a failure
    /// does not affect the other files.
    pub fn write(&self, profile: &Profile) -> Vec<(String, Result<(), OutputError>)> {
        self.files.iter().map(|file| (file.name(), file.write(profile))).collect()
    }
}
