//! Builds the profile of a window while its executables are symbolized in any order.

use std::collections::HashMap;

use indexmap::IndexSet;
use profile::{
    CaptureLedger, FileAddr, FrameId, Function, Line, Mapping, MappingKind, Profile, SampleCount,
    SampleKey, StackId, SymbolizedFrame, Timeline, Window,
};
use symbolizer::proto::SourceFunction;

use super::client::SymbolizeError;
use super::groups::ExecutableFrames;
use super::name_space::ExecutableSpace;
use super::period::Period;
use super::reason::{NameCounts, UnsymbolizedReason};
use super::window_symbolizer::WindowSymbolizer;
use crate::processes::{Executable, ExecutableOrigin, JitNameGap};

/// The tables of a profile that symbols add to.
pub(super) struct ProfileBuilder {
    mappings: Vec<Mapping>,
    functions: IndexSet<Function>,
    /// By their indices in the window.
    frames: Vec<Option<SymbolizedFrame>>,
    pub counts: NameCounts,
}

/// What was found for the frames of one executable.
pub(super) struct GroupNames<'a> {
    pub executable: &'a Executable,
    /// Names in code of a JIT compiler or in BPF programs, or why there are none, in the order of
    /// the frames.
    pub jit_names: &'a [Option<Result<&'a str, JitNameGap>>],
    /// Frames of the kernel without such a name are not in a known BPF program.
    pub knows_kernel_code: bool,
    /// Of loading its symbols.
    pub result: &'a Result<(), SymbolizeError>,
}

impl GroupNames<'_> {
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

/// Code of BPF programs without a symbol: filters of sockets and of system calls.
const UNNAMED_BPF: &str = "[bpf]";

/// Returns whether the kernel's list of symbols has a name for a BPF program: its hash, and perhaps
/// a name. Of code that is not in a known program, it is the name of the program before.
fn is_bpf_program(name: &str) -> bool {
    let hash = name.strip_prefix("bpf_prog_").and_then(|rest| rest.get(..16));
    hash.is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Returns a function as a perf map names it.
fn jit_function(name: &str) -> SourceFunction {
    SourceFunction { name: name.into(), system_name: name.into(), ..SourceFunction::default() }
}

impl ProfileBuilder {
    /// Returns a profile with these executables and no frames yet.
    pub fn new<'a>(window: &Window, executables: impl Iterator<Item = &'a Executable>) -> Self {
        let mapping = |executable: &Executable| Mapping {
            name: executable.name.to_string(),
            build_id: executable.build_id.clone(),
            kind: executable.kind(),
        };
        Self {
            mappings: executables.map(mapping).collect(),
            functions: IndexSet::new(),
            frames: vec![None; window.frames().len()],
            counts: NameCounts::default(),
        }
    }

    /// Adds the frames of an executable with what was found. `mapping`: its index; `space`: bytes
    /// for its functions.
    pub fn add_frames(
        &mut self,
        mapping: u32,
        group: &ExecutableFrames,
        found: &GroupNames<'_>,
        space: &mut ExecutableSpace<'_>,
        symbolizer: &mut WindowSymbolizer,
    ) {
        let is_memory = found.executable.kind() == MappingKind::Memory;
        let not_looked_up = found.not_looked_up();
        let frames = group.frames.iter().zip(&group.addresses).zip(found.jit_names);
        for ((frame, address), jit_name) in frames {
            let lines = match jit_name {
                Some(Ok(name)) => self.add_lines(&[jit_function(name)], space),
                Some(Err(gap)) if is_memory => Err((*gap).into()),
                _ => match symbolizer.functions(group.executable, *address) {
                    Some([]) => Err(UnsymbolizedReason::NoSymbol),
                    Some([listed])
                        if found.knows_kernel_code
                            && jit_name.is_none()
                            && is_bpf_program(&listed.name) =>
                    {
                        self.add_lines(&[jit_function(UNNAMED_BPF)], space)
                    }
                    Some(functions) => self.add_lines(functions, space),
                    None => Err(not_looked_up),
                },
            };
            let lines = lines.unwrap_or_else(|reason| {
                self.counts.add_unsymbolized(reason);
                Vec::new()
            });
            self.counts.symbolized += u64::from(!lines.is_empty());
            // An address without a name in memory that is gone says nothing.
            let address = if is_memory && lines.is_empty() { FileAddr(0) } else { *address };
            self.frames[*frame] = Some(SymbolizedFrame { mapping, address, lines });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_without_name_and_address_are_one_for_each_mapping() {
        let frame = |mapping, address| SymbolizedFrame {
            mapping,
            address: FileAddr(address),
            lines: Vec::new(),
        };
        let named = SymbolizedFrame { lines: vec![Line { function: 0, line: 0 }], ..frame(0, 0) };
        let mut table = FrameTable::default();
        let frames = [frame(0, 0), frame(1, 0), frame(0, 0), frame(0, 7), named, frame(1, 0)];
        let indices = frames.map(|frame| table.add(frame));
        assert_eq!((indices, table.frames.len()), ([0, 1, 0, 2, 3, 1], 4));
    }
}
