//! How many processes have which runtime.

use super::recognition_error::RecognitionError;
use super::runtime::RuntimeVersion;

/// Versions that are counted: more than there are, of all runtimes.
const VERSIONS: usize = 32;
/// Reasons for which frames are not walked.
const ERRORS: usize = RecognitionError::ALL.len();

/// Processes by their runtime: version, or why its frames are not walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuntimeCounts {
    walked: [Option<(RuntimeVersion, u64)>; VERSIONS],
    refused: [u64; ERRORS],
}

impl RuntimeCounts {
    /// Counts a process. `runtime`: the version of its interpreter.
    pub fn add(&mut self, runtime: Result<RuntimeVersion, RecognitionError>) {
        let version = match runtime {
            Ok(version) => version.counted(),
            Err(error) => {
                self.refused[error as usize] += 1;
                return;
            }
        };
        let is_free_or_same =
            |slot: &&mut Option<_>| slot.is_none_or(|(counted, _)| counted == version);
        if let Some(slot) = self.walked.iter_mut().find(is_free_or_same) {
            slot.get_or_insert((version, 0)).1 += 1;
        }
    }

    /// Returns the runtimes whose frames are walked, with their processes.
    pub fn walked(&self) -> impl Iterator<Item = (String, u64)> {
        let mut counts: Vec<_> = self.walked.into_iter().flatten().collect();
        counts.sort_by_key(|(version, _)| (version.kind() as u8, version.number()));
        counts.into_iter().map(|(version, count)| (version.to_string(), count))
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
    use crate::runtimes::cpython::Cpython;

    #[test]
    fn processes_are_counted_by_version_and_by_reason() {
        let mut counts = RuntimeCounts::default();
        let version = |number| RuntimeVersion::new(&Cpython, number);
        for runtime in [
            Ok(version(0x030d_00f0)),
            Ok(version(0x030b_02f0)),
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
