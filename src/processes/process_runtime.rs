//! The runtimes of processes, by the files that they have mapped.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use profile::{ExecutableId, FileOffset, Pid, VirtAddr};

use super::code_objects::ProcessCode;
use super::executables::Executables;
use super::mappings::{AddressSpace, Mapping};
use crate::runtimes::{RecognitionError, RuntimeProcess};

/// How often code objects that were lost are sent again.
const RESEND_INTERVAL: Duration = Duration::from_secs(10);

/// What is known of the interpreters of sampled processes.
#[derive(Debug)]
pub(super) struct Interpreters {
    pub by_pid: HashMap<Pid, KnownInterpreter>,
    /// Code objects that the kernel side has sent.
    pub code: HashMap<Pid, ProcessCode>,
    /// Processes of which code objects were lost.
    pub lossy: HashSet<Pid>,
    /// When lost code objects may be sent again.
    next_resend: Instant,
}

impl Default for Interpreters {
    fn default() -> Self {
        Self {
            by_pid: HashMap::new(),
            code: HashMap::new(),
            lossy: HashSet::new(),
            next_resend: Instant::now(),
        }
    }
}

impl Interpreters {
    /// Takes the processes of which code objects were lost, if the last ones are long enough ago.
    pub fn take_lossy(&mut self) -> HashSet<Pid> {
        if self.lossy.is_empty() || self.next_resend > Instant::now() {
            return HashSet::new();
        }
        self.next_resend = Instant::now() + RESEND_INTERVAL;
        std::mem::take(&mut self.lossy)
    }

    /// Forgets a process: it exits, or executes another program.
    pub fn remove(&mut self, pid: Pid) {
        self.by_pid.remove(&pid);
        self.code.remove(&pid);
        self.lossy.remove(&pid);
    }

    /// Forgets all processes but some.
    pub fn retain(&mut self, is_retained: impl Fn(&Pid) -> bool) {
        self.by_pid.retain(|pid, _| is_retained(pid));
        self.code.retain(|pid, _| is_retained(pid));
        self.lossy.retain(&is_retained);
    }
}

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
