//! Turns a window into a profile: addresses get functions, files and lines.
//!
//! Never fails as a whole: a frame without a symbol keeps its executable and its address.
//!
//! 1. Frames are grouped by executable, so that each file is read for all its addresses at once.
//! 2. [`WindowSymbolizer`] looks each address up in its cache; the symbolizer, a worker process,
//!    is asked for the rest.
//! 3. The functions found become the tables of a [`Profile`].

mod cache;
mod client;
mod comments;
mod window_symbolizer;

use std::collections::HashMap;

use indexmap::IndexSet;
use profile::{
    CaptureLedger, ExecutableId, FileAddr, Frame, Function, Line, Mapping, MappingKind, Profile,
    SampleCount, SymbolizedFrame, Window,
};
use symbolizer::proto::SourceFunction;

use crate::processes::{Executable, WindowExecutables};
pub use client::{SymbolizeError, TimeLimit, serve};
pub use comments::{comments, host_name, quality};
pub use window_symbolizer::{SymbolizerMemory, WindowSymbolizer};

/// When and how a window was taken.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    /// Wall-clock time of its start, nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// Its start on CLOCK_BOOTTIME, in nanoseconds.
    pub start_since_boot_ns: u64,
    /// Nanoseconds it took.
    pub duration_ns: u64,
    /// Nanoseconds of CPU time that a sample stands for.
    pub sample_ns: u64,
}

/// An executable whose frames have no symbols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsymbolizedExecutable {
    /// The executable.
    pub executable: Box<str>,
    /// Why.
    pub reason: SymbolizeError,
}

/// Symbolizes a window; also returns the executables that failed.
pub fn symbolize(
    window: &Window,
    ledger: CaptureLedger,
    period: Period,
    executables: &WindowExecutables,
    symbolizer: &mut WindowSymbolizer,
) -> (Profile, Vec<UnsymbolizedExecutable>) {
    let mut symbols = ProfileSymbols::default();
    let mut failed = Vec::new();
    let mut frames = vec![None; window.frames().len()];
    for group in group_by_executable(window) {
        let executable = executables.get(group.executable);
        let mapping = symbols.add_mapping(executable);
        if let Err(reason) = symbolizer.load(group.executable, executable, &group.addresses) {
            failed.push(UnsymbolizedExecutable { executable: executable.name.clone(), reason });
        }
        for (frame, address) in group.frames.iter().zip(&group.addresses) {
            let functions = symbolizer.functions(group.executable, *address);
            let lines = functions.iter().map(|function| symbols.add_line(function)).collect();
            frames[*frame] = Some(SymbolizedFrame { mapping, address: *address, lines });
        }
    }
    symbolizer.end_window();
    let profile = Profile {
        start_unix_ns: period.start_unix_ns,
        duration_ns: period.duration_ns,
        period_ns: period.sample_ns,
        mappings: symbols.mappings,
        functions: symbols.functions.into_iter().collect(),
        frames: frames.into_iter().flatten().collect(), // every frame is in one group
        stacks: window.stacks().map(|stack| stack.iter().map(|frame| frame.0).collect()).collect(),
        tasks: window.tasks().cloned().collect(),
        samples: window.samples().map(|(key, count)| SampleCount { key: *key, count }).collect(),
        ledger,
        comments: Vec::new(),
    };
    (profile, failed)
}

/// Returns whether a profile has kernel frames and none of them has a symbol: the kernel hides
/// them.
pub fn is_kernel_unsymbolized(profile: &Profile) -> bool {
    let is_kernel =
        |frame: &&SymbolizedFrame| profile.mapping_of(frame).kind == MappingKind::Kernel;
    let mut frames = profile.frames.iter().filter(is_kernel).peekable();
    frames.peek().is_some() && frames.all(|frame| frame.lines.is_empty())
}

/// The frames of a window that lie in one executable.
struct ExecutableFrames {
    executable: ExecutableId,
    /// Their indices in the window.
    frames: Vec<usize>,
    /// Their addresses, in the same order.
    addresses: Vec<FileAddr>,
    /// Samples with their leaf in this executable.
    leaf_samples: u64,
}

/// Groups frames by executable: those with most leaf samples first, because readers of pprof take
/// the first mapping for the program; the kernel last.
fn group_by_executable(window: &Window) -> Vec<ExecutableFrames> {
    let frames: Vec<&Frame> = window.frames().collect();
    let stacks: Vec<_> = window.stacks().collect();
    let mut groups: HashMap<ExecutableId, ExecutableFrames> = HashMap::new();
    for (index, frame) in frames.iter().enumerate() {
        let executable = frame.executable;
        let group = groups.entry(executable).or_insert_with(|| ExecutableFrames {
            executable,
            frames: Vec::new(),
            addresses: Vec::new(),
            leaf_samples: 0,
        });
        group.frames.push(index);
        group.addresses.push(frame.address);
    }
    for (key, count) in window.samples() {
        let leaf = stacks[key.stack.0 as usize].first().map(|leaf| frames[leaf.0 as usize]);
        if let Some(group) = leaf.and_then(|leaf| groups.get_mut(&leaf.executable)) {
            group.leaf_samples += count;
        }
    }
    let mut groups: Vec<ExecutableFrames> = groups.into_values().collect();
    groups.sort_by_key(|group| {
        let is_kernel = group.executable == ExecutableId::KERNEL;
        (is_kernel, u64::MAX - group.leaf_samples, group.executable)
    });
    groups
}

/// The tables of a profile that symbols add to.
#[derive(Default)]
struct ProfileSymbols {
    mappings: Vec<Mapping>,
    functions: IndexSet<Function>,
}

impl ProfileSymbols {
    /// Adds a mapping and returns its index.
    fn add_mapping(&mut self, executable: &Executable) -> u32 {
        self.mappings.push(Mapping {
            name: executable.name.to_string(),
            build_id: executable.build_id.clone(),
            kind: executable.kind(),
        });
        self.mappings.len() as u32 - 1
    }

    fn add_line(&mut self, function: &SourceFunction) -> Line {
        let SourceFunction { name, system_name, file, line } = function.clone();
        let (index, _) = self.functions.insert_full(Function { name, system_name, file });
        Line { function: index as u32, line }
    }
}
