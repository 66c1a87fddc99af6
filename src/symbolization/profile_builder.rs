//! Builds the profile of a window while its executables are symbolized in any order.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexSet;
use profile::{
    CaptureLedger, FileAddr, Frame, FrameId, Function, Line, Mapping, MappingKind, Profile,
    SampleCount, SampleKey, StackId, SymbolizedFrame, Timeline, Window,
};
use symbolizer::proto::SourceFunction;

use super::client::SymbolizeError;
use super::groups::ExecutableFrames;
use super::name_space::ExecutableSpace;
use super::period::Period;
use super::reason::{NameCounts, UnsymbolizedReason};
use super::window_symbolizer::WindowSymbolizer;
use crate::processes::{CodeName, CodeNameGap, Executable, ExecutableOrigin};

/// The tables of a profile that symbols add to.
pub(super) struct ProfileBuilder {
    mappings: Vec<Mapping>,
    /// Indices of the mappings of each group: of its machinery, and of its other frames.
    mappings_of: Vec<GroupMappings>,
    functions: IndexSet<Function>,
    /// By their indices in the window.
    frames: Vec<Option<SymbolizedFrame>>,
    pub counts: NameCounts,
}

/// What was found for the frames of one executable.
pub(super) struct GroupNames<'a> {
    pub executable: &'a Executable,
    /// The names that frames refer to, or why there are none, in the order of the frames.
    pub code_names: &'a [Option<Result<&'a CodeName, CodeNameGap>>],
    /// Frames of the kernel without such a name are not in a known BPF program.
    pub knows_kernel_code: bool,
    /// Of loading its symbols.
    pub result: &'a Result<(), SymbolizeError>,
}

impl GroupNames<'_> {
    /// Returns why a frame without a name has none, if it does not depend on its address.
    fn unnamed(&self, gap: Option<CodeNameGap>) -> Option<UnsymbolizedReason> {
        match (self.executable.kind(), gap) {
            (MappingKind::Memory, gap) => gap.map(Into::into),
            (MappingKind::Interpreted(_), Some(CodeNameGap::NoSpace)) => {
                Some(UnsymbolizedReason::NamesFull)
            }
            (MappingKind::Interpreted(_), gap) => {
                Some(gap.unwrap_or(CodeNameGap::NotReceived).into())
            }
            _ => None,
        }
    }

    /// Returns why an address was not looked up.
    fn not_looked_up(&self) -> UnsymbolizedReason {
        match self.result {
            Err(error) => error.into(),
            Ok(()) if matches!(self.executable.origin, ExecutableOrigin::Memory) => {
                UnsymbolizedReason::NoFile
            }
            Ok(()) => UnsymbolizedReason::NamesFull,
        }
    }
}

/// Returns the name of BPF programs without a symbol: filters of sockets and of system calls.
fn unnamed_bpf() -> CodeName {
    CodeName::from(Arc::from("[bpf]"))
}

/// Returns whether the kernel's list of symbols has a name for a BPF program: its hash, and perhaps
/// a name. Of code that is not in a known program, it is the name of the program before.
fn is_bpf_program(name: &str) -> bool {
    let hash = name.strip_prefix("bpf_prog_").and_then(|rest| rest.get(..16));
    hash.is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns the function of a name.
fn function_of(name: &CodeName) -> SourceFunction {
    let CodeName { name, file, line, start_line } = name;
    SourceFunction {
        name: name.to_string(),
        system_name: name.to_string(),
        file: file.to_string(),
        line: *line,
        start_line: *start_line,
    }
}

/// The indices of a group's mappings in the profile, if it has such frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct GroupMappings {
    own: u32,
    machinery: u32,
}

impl ProfileBuilder {
    /// Returns a profile with these groups of frames, each of an executable, and no frames yet.
    pub fn new<'a>(
        window: &Window,
        groups: impl Iterator<Item = (&'a ExecutableFrames, &'a Executable)>,
    ) -> Self {
        let (mut mappings, mut mappings_of) = (Vec::new(), Vec::new());
        for (group, executable) in groups {
            let Executable { name, build_id, .. } = executable;
            let own = Mapping::new(name, build_id.clone(), executable.kind());
            let mut of_group = GroupMappings::default();
            let machinery = group.has(true).then(|| own.machinery());
            if group.has(false) {
                of_group.own = mappings.len() as u32;
                mappings.push(own);
            }
            if let Some(machinery) = machinery {
                of_group.machinery = mappings.len() as u32;
                mappings.push(machinery);
            }
            mappings_of.push(of_group);
        }
        Self {
            mappings,
            mappings_of,
            functions: IndexSet::new(),
            frames: vec![None; window.frames().len()],
            counts: NameCounts::default(),
        }
    }

    /// Adds the frames of a group with what was found. `index`: of the group; `space`: bytes for
    /// its functions.
    pub fn add_frames(
        &mut self,
        index: usize,
        group: &ExecutableFrames,
        found: &GroupNames<'_>,
        space: &mut ExecutableSpace<'_>,
        symbolizer: &mut WindowSymbolizer,
    ) {
        let is_memory = found.executable.kind() == MappingKind::Memory;
        let mappings = self.mappings_of[index];
        for ((frame_index, frame), name) in group.frames.iter().zip(found.code_names) {
            let lines = self.lines_of(frame, *name, found, space, symbolizer);
            let lines = lines.unwrap_or_else(|reason| {
                self.counts.add_unsymbolized(reason);
                Vec::new()
            });
            self.counts.symbolized += u64::from(!lines.is_empty());
            // An address without a name in memory that is gone says nothing.
            let address = if is_memory && lines.is_empty() { FileAddr(0) } else { frame.address };
            let mapping = if frame.is_machinery { mappings.machinery } else { mappings.own };
            self.frames[*frame_index] = Some(SymbolizedFrame { mapping, address, lines });
        }
    }

    /// Returns the functions of a frame, or why it has none. `name`: the one that it refers to.
    fn lines_of(
        &mut self,
        frame: &Frame,
        name: Option<Result<&CodeName, CodeNameGap>>,
        found: &GroupNames<'_>,
        space: &mut ExecutableSpace<'_>,
        symbolizer: &mut WindowSymbolizer,
    ) -> Result<Vec<Line>, UnsymbolizedReason> {
        if let Some(Ok(name)) = name {
            return self.add_lines(&[function_of(name)], space);
        }
        if let Some(reason) = found.unnamed(name.and_then(Result::err)) {
            return Err(reason);
        }
        match symbolizer.functions(frame.executable, frame.address) {
            Some([]) => Err(UnsymbolizedReason::NoSymbol),
            Some([listed])
                if found.knows_kernel_code && name.is_none() && is_bpf_program(&listed.name) =>
            {
                self.add_lines(&[function_of(&unnamed_bpf())], space)
            }
            Some(functions) => self.add_lines(functions, space),
            None => Err(found.not_looked_up()),
        }
    }

    fn add_lines(
        &mut self,
        functions: &[SourceFunction],
        space: &mut ExecutableSpace<'_>,
    ) -> Result<Vec<Line>, UnsymbolizedReason> {
        let named = functions.iter().map(|function| {
            let SourceFunction { name, system_name, file, line, start_line } = function.clone();
            (Function { name, system_name, file, start_line }, line, function.bytes())
        });
        let named: Vec<_> = named.collect();
        let new = named.iter().filter(|(function, ..)| !self.functions.contains(function));
        if !space.take(new.map(|(.., bytes)| bytes).sum()) {
            return Err(UnsymbolizedReason::NamesFull);
        }
        let line = |(function, line, _)| {
            let (index, _) = self.functions.insert_full(function);
            Line { function: index as u32, line }
        };
        Ok(named.into_iter().map(line).collect())
    }

    /// Returns the profile, once all frames were added.
    pub fn finish(self, window: &Window, ledger: CaptureLedger, period: Period) -> Profile {
        // Frames that differ only in addresses that say nothing are one, and so are their stacks.
        let (mut frames, mut stacks) = (FrameTable::default(), IndexSet::new());
        let frame_ids: Vec<u32> =
            self.frames.into_iter().flatten().map(|f| frames.add(f)).collect();
        let stack_of = |stack: &[FrameId]| -> Box<[u32]> {
            stack.iter().map(|frame| frame_ids[frame.0 as usize]).collect()
        };
        let stack_ids: Vec<StackId> = window
            .stacks()
            .map(|stack| StackId(stacks.insert_full(stack_of(stack)).0 as u32))
            .collect();
        let sample = |(key, count): (&SampleKey, u64)| {
            let key = SampleKey { stack: stack_ids[key.stack.0 as usize], ..*key };
            SampleCount { key, count }
        };
        Profile {
            start_unix_ns: period.start_unix_ns,
            duration_ns: period.duration_ns,
            period_ns: period.sample_ns,
            mappings: self.mappings,
            functions: self.functions.into_iter().collect(),
            frames: frames.frames,
            stacks: stacks.into_iter().collect(),
            tasks: window.tasks().cloned().collect(),
            samples: window.samples().map(sample).collect(),
            ledger,
            comments: Vec::new(),
            timeline: window.times().map(|times| {
                let mut times = times.clone();
                times.sort();
                Timeline { start_ns: period.start_monotonic_ns, times }
            }),
        }
    }
}

/// The frames of a profile. Those in memory without a name are one for each mapping.
#[derive(Default)]
struct FrameTable {
    frames: Vec<SymbolizedFrame>,
    /// Indices of the frames without name and address, by mapping.
    unnamed: HashMap<u32, u32>,
}

impl FrameTable {
    /// Adds a frame. Returns its index.
    fn add(&mut self, frame: SymbolizedFrame) -> u32 {
        let next = self.frames.len() as u32;
        if frame.lines.is_empty() && frame.address == FileAddr(0) {
            let index = *self.unnamed.entry(frame.mapping).or_insert(next);
            if index != next {
                return index;
            }
        }
        self.frames.push(frame);
        next
    }
}
