//! Names the interpreted frames of samples.
//!
//! The kernel side sends each code object once, with the first tick that sees it. A frame is named
//! when its sample is resolved, so a process that exits later takes nothing away.

use std::collections::HashSet;
use std::ops::Range;

use profile::{ExecutableId, InterpretedLanguage, Pid};

use super::code_names::CodeName;
use super::code_objects::ProcessCode;
use super::mappings::AddressSpace;
use super::process_runtime::KnownInterpreter;
use super::process_table::Processes;
use crate::events::{CodeRecord, InterpreterFrame, InterpreterStack};
use crate::kernel::abi::InterpreterEnd;

/// The interpreted frames of a sample, named.
#[derive(Clone, Debug, PartialEq)]
pub struct InterpretedStack {
    /// The language of its functions.
    pub language: InterpretedLanguage,
    /// The file of the interpreter.
    pub interpreter: ExecutableId,
    /// Functions and entries, innermost first.
    pub elements: Vec<InterpretedElement>,
    /// Why they end.
    pub end: InterpreterEnd,
    /// Addresses of the evaluation loop, by which frames without entries find their native frames.
    pub eval_loop: Range<u64>,
}

/// One element of an [`InterpretedStack`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterpretedElement {
    /// A function; `None` if its name did not arrive.
    Function(Option<CodeName>),
    /// The evaluation loop of the functions before it, up to the entry before.
    Entry {
        /// An address on its stack.
        anchor: u64,
        /// The number of its native frame, 0 for the innermost, once that is known.
        native_frame: Option<usize>,
    },
}

impl InterpretedStack {
    /// Sets the native frames of entries that the kernel's walk did not reach. `first`: number of
    /// the frame that the first CFA is of; `sp`: its stack pointer.
    pub fn match_anchors(&mut self, first: usize, sp: u64, cfas: &[u64]) {
        for element in &mut self.elements {
            let InterpretedElement::Entry { anchor, native_frame: native @ None } = element else {
                continue;
            };
            if *anchor >= sp {
                *native = cfas.iter().position(|cfa| cfa > anchor).map(|index| first + index);
            }
        }
    }
}

impl Processes {
    /// Adds a code object of a process with a known interpreter.
    pub fn add_code_object(&mut self, record: &CodeRecord) {
        let pid = record.pid;
        self.refresh(pid);
        let memory = self.address_space(pid);
        let version = self.known_interpreter(pid, &memory).map(|known| known.runtime.version);
        let Some(version) = version.filter(|version| version.kind() == record.runtime) else {
            self.interpreters.lossy.insert(pid);
            return;
        };
        let owner = self.owner_of(pid);
        let code = self.interpreters.code.entry(pid).or_insert_with(|| ProcessCode::new(version));
        if !code.is_of(version) {
            *code = ProcessCode::new(version); // of a process that had the number before
        }
        if !code.add(record, owner, self.perf_maps.pool()) {
            self.interpreters.lossy.insert(pid);
        }
    }

    /// Takes the processes of which code objects were lost, now and then: they have to be sent
    /// again.
    pub fn take_lossy_code(&mut self) -> HashSet<Pid> {
        self.interpreters.take_lossy()
    }

    /// Names the interpreted frames of a sample; `None` if the interpreter is not known any more.
    /// `memory`: the mappings at its time.
    pub fn interpreted_stack(
        &mut self,
        stack: &InterpreterStack,
        memory: &AddressSpace,
    ) -> Option<InterpretedStack> {
        let known = self.known_interpreter(stack.pid, memory)?;
        let (interpreter, eval_loop) = (known.file, known.runtime.eval_loop.clone());
        let version = known.runtime.version;
        if version.kind() != stack.runtime {
            return None;
        }
        let code = self.interpreters.code.get(&stack.pid);
        // A function that calls itself has the same name in each frame.
        let mut last: Option<(InterpreterFrame, Option<InterpretedElement>)> = None;
        let elements = stack.frames.iter().filter_map(|frame| {
            if let Some((known, element)) = &last
                && known == frame
            {
                return element.clone();
            }
            let element = named(frame, code);
            last = Some((*frame, element.clone()));
            element
        });
        let elements = elements.collect();
        let (language, end) = (version.language(), stack.end);
        Some(InterpretedStack { language, interpreter, elements, end, eval_loop })
    }

    /// Returns the interpreter of a process with these mappings.
    fn known_interpreter(&mut self, pid: Pid, memory: &AddressSpace) -> Option<&KnownInterpreter> {
        let is_known = |known: &KnownInterpreter| known.memory.is_unchanged(memory);
        if !self.interpreters.by_pid.get(&pid).is_some_and(is_known) {
            let (runtime, file) = self.executables.interpreter_of(memory)?.ok()?;
            let memory = memory.clone();
            self.interpreters.by_pid.insert(pid, KnownInterpreter { memory, runtime, file });
        }
        self.interpreters.by_pid.get(&pid)
    }
}

/// Returns an element with its name; `None` if it is no function.
fn named(frame: &InterpreterFrame, code: Option<&ProcessCode>) -> Option<InterpretedElement> {
    match *frame {
        InterpreterFrame::Code { code: address, fingerprint, position } => {
            let named = code.and_then(|code| code.get(address.0, fingerprint));
            let is_function = named.is_none_or(|named| named.is_function());
            let name = named.and_then(|named| named.name_at(position));
            is_function.then_some(InterpretedElement::Function(name))
        }
        InterpreterFrame::Entry { anchor, native_frame } => Some(InterpretedElement::Entry {
            anchor: anchor.0,
            native_frame: native_frame.map(|number| number as usize),
        }),
    }
}
