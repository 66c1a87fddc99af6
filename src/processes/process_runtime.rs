//! The runtime of a process, by the files that it has mapped.

use profile::{ExecutableId, FileOffset, VirtAddr};

use super::executables::Executables;
use super::mappings::{AddressSpace, Mapping};
use crate::runtimes::{RecognitionError, RuntimeProcess};

/// The interpreter of a process, as long as its mappings do not change.
#[derive(Debug)]
pub(super) struct KnownInterpreter {
    pub memory: AddressSpace,
    pub runtime: RuntimeProcess,
    /// The file that contains it.
    pub file: ExecutableId,
}

impl Executables {
    /// Returns the runtime of a process, or why its frames are not walked; `None` if it has mapped
    /// none. Of several, the one that is known at the lowest address counts.
    pub fn runtime_of(
        &self,
        address_space: &AddressSpace,
    ) -> Option<Result<RuntimeProcess, RecognitionError>> {
        let found = self.interpreter_of(address_space);
        found.map(|found| found.map(|(runtime, _)| runtime))
    }

    /// Returns the runtime of a process with the file that contains it, as [`Self::runtime_of`].
    pub(super) fn interpreter_of(
        &self,
        address_space: &AddressSpace,
    ) -> Option<Result<(RuntimeProcess, ExecutableId), RecognitionError>> {
        let recognitions = || {
            let mappings = address_space.iter();
            mappings.filter_map(|mapping| {
                Some((mapping, self.get(mapping.executable).recognition.as_ref()?))
            })
        };
        let runtimes = recognitions()
            .filter_map(|(mapping, recognition)| Some((mapping, recognition.runtime.as_ref()?)));
        let libraries = recognitions().filter_map(|(_, recognition)| recognition.libc);
        let libc = { libraries }.find_map(Result::ok);
        let mut first_error = None;
        for (mapping, runtime) in runtimes {
            let process = match runtime {
                Ok(file) => RuntimeProcess::new(file, self.load_bias(mapping), libc),
                Err(error) => Err(*error),
            };
            match process {
                Ok(process) => return Some(Ok((process, mapping.executable))),
                Err(error) => first_error = first_error.or(Some(Err(error))),
            }
        }
        first_error
    }

    /// Returns what is added to the addresses in the file of a mapping of code.
    fn load_bias(&self, mapping: &Mapping) -> u64 {
        let executable = self.get(mapping.executable);
        let (offset, start) = (FileOffset(mapping.offset), VirtAddr(mapping.start));
        mapping.start.wrapping_sub(executable.address_of(offset, start).0)
    }
}
