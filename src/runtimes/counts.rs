//! How many processes have which runtime.

use super::cpython::CpythonVersion;
use super::recognition_error::RecognitionError;

/// Minor versions of CPython that are counted apart.
const MINORS: usize = 32;
/// Reasons for which frames are not walked.
const ERRORS: usize = RecognitionError::ALL.len();

/// Processes by their runtime: version, or why its frames are not walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuntimeCounts {
    /// CPython, by minor version.
    cpython: [u64; MINORS],
    refused: [u64; ERRORS],
}

impl RuntimeCounts {
    /// Counts a process. `runtime`: the version of its interpreter.
    pub fn add(&mut self, runtime: Result<CpythonVersion, RecognitionError>) {
        match runtime {
            Ok(version) => self.cpython[version.minor() as usize % MINORS] += 1,
            Err(error) => self.refused[error as usize] += 1,
        }
    }

    /// Returns the runtimes whose frames are walked, with their processes.
    pub fn walked(&self) -> impl Iterator<Item = (String, u64)> {
        let counts = (0..).zip(self.cpython).filter(|(_, count)| *count > 0);
        counts.map(|(minor, count): (u32, u64)| (format!("CPython 3.{minor}"), count))
    }

    /// Returns why frames of other processes are not walked, with these processes.
    pub fn refused(&self) -> impl Iterator<Item = (RecognitionError, u64)> {
        let errors = RecognitionError::ALL.iter().copied().zip(self.refused);
        errors.filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_counted_by_version_and_by_reason() {
        let mut counts = RuntimeCounts::default();
        let version = |hex| CpythonVersion::from_hex(hex).expect("a known version");
        for runtime in [
            Ok(version(0x030b_02f0)),
            Ok(version(0x030d_00f0)),
            Ok(version(0x030b_07f0)),
            Err(RecognitionError::UnknownLayout),
        ] {
            counts.add(runtime);
        }
        let walked: Vec<_> = counts.walked().collect();
        assert_eq!(walked, [("CPython 3.11".into(), 2), ("CPython 3.13".into(), 1)]);
        let refused: Vec<_> = counts.refused().collect();
        assert_eq!(refused, [(RecognitionError::UnknownLayout, 1)]);
    }
}
