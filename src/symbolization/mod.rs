//! Station 5: a window becomes a profile.
//!
//! Each executable's addresses are asked for at once. What has no name keeps its
//! executable and address; nothing here fails as a whole.

mod comments;
mod window_symbolizer;

use std::collections::HashMap;

use indexmap::IndexSet;
use profile::{
    CaptureLedger, ExecutableId, FileAddr, Frame, Function, Line, Mapping, MappingKind, Profile,
    SampleCount, SymbolizedFrame, Window,
};
use symbolizer::{Failure, Name};

use crate::processes::{Executable, WindowExecutables};
pub use comments::{comments, host_name, quality};
pub use window_symbolizer::{SymbolizerMemory, WindowSymbolizer};

/// When and how a window was taken.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    /// Wall-clock time of its start, nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// Nanoseconds it took.
    pub duration_ns: u64,
    /// Nanoseconds of CPU time that a sample stands for.
    pub sample_ns: u64,
}

/// An executable whose frames have no names, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsymbolizedExecutable {
    /// The executable.
    pub executable: Box<str>,
    /// The reason.
    pub reason: Failure,
}

/// Names what has a name.
pub fn symbolize(
    window: &Window,
    ledger: CaptureLedger,
    period: Period,
    executables: &WindowExecutables,
    symbolizer: &mut WindowSymbolizer,
) -> (Profile, Vec<UnsymbolizedExecutable>) {
    let mut naming = Naming::default();
    let mut frames = vec![None; window.frames().len()];
    for group in groups(window) {
        let executable = executables.get(group.executable);
        let mapping = naming.mapping(executable);
        if let Err(reason) = symbolizer.learn(group.executable, executable, &group.addresses) {
            naming
                .unnamed
                .push(UnsymbolizedExecutable { executable: executable.name.clone(), reason });
        }
        for (place, address) in group.places.iter().zip(&group.addresses) {
            let names = symbolizer.names(group.executable, *address);
            let lines = names.iter().map(|name| naming.line(name)).collect();
            frames[*place] = Some(SymbolizedFrame { mapping, address: *address, lines });
        }
    }
    symbolizer.end_window();
    let profile = Profile {
        start_unix_ns: period.start_unix_ns,
        duration_ns: period.duration_ns,
        period_ns: period.sample_ns,
        mappings: naming.mappings,
        functions: naming.functions.into_iter().collect(),
        frames: frames.into_iter().flatten().collect(), // every frame is in one group
        stacks: window.stacks().map(|stack| stack.iter().map(|frame| frame.0).collect()).collect(),
        tasks: window.tasks().cloned().collect(),
        samples: window.samples().map(|(key, count)| SampleCount { key: *key, count }).collect(),
        ledger,
        comments: Vec::new(),
    };
    (profile, naming.unnamed)
}

/// The frames of one executable: their places in the window and their addresses.
struct Group {
    executable: ExecutableId,
    places: Vec<usize>,
    addresses: Vec<FileAddr>,
    samples: u64,
}

/// Sorts frames by executable: those with most samples at their leaf first, because readers
/// take the first for the program; the kernel last.
fn groups(window: &Window) -> Vec<Group> {
    let frames: Vec<&Frame> = window.frames().collect();
    let stacks: Vec<_> = window.stacks().collect();
    let mut by_executable: HashMap<ExecutableId, Group> = HashMap::new();
    for (place, frame) in frames.iter().enumerate() {
        let group = by_executable.entry(frame.executable).or_insert_with(|| Group {
            executable: frame.executable,
            places: Vec::new(),
            addresses: Vec::new(),
            samples: 0,
        });
        group.places.push(place);
        group.addresses.push(frame.address);
    }
    for (key, count) in window.samples() {
        let leaf = stacks[key.stack.0 as usize].first().map(|leaf| frames[leaf.0 as usize]);
        if let Some(group) = leaf.and_then(|leaf| by_executable.get_mut(&leaf.executable)) {
            group.samples += count;
        }
    }
    let mut groups: Vec<Group> = by_executable.into_values().collect();
    let order =
        |g: &Group| (g.executable == ExecutableId::KERNEL, u64::MAX - g.samples, g.executable);
    groups.sort_by_key(order);
    groups
}

/// What a profile's names are made of.
#[derive(Default)]
struct Naming {
    mappings: Vec<Mapping>,
    functions: IndexSet<Function>,
    unnamed: Vec<UnsymbolizedExecutable>,
}

impl Naming {
    fn mapping(&mut self, executable: &Executable) -> u32 {
        self.mappings.push(Mapping {
            name: executable.name.to_string(),
            build_id: executable.build_id.clone(),
            kind: executable.kind(),
        });
        self.mappings.len() as u32 - 1
    }

    fn line(&mut self, name: &Name) -> Line {
        let Name { function, system_name, file, line } = name.clone();
        let function = Function { name: function, system_name, file };
        Line { function: self.functions.insert_full(function).0 as u32, line }
    }
}

/// Says what kernel frames lack when the kernel hides its symbols.
pub fn is_kernel_unsymbolized(profile: &Profile) -> bool {
    let of_kernel =
        |frame: &&SymbolizedFrame| profile.mapping_of(frame).kind == MappingKind::Kernel;
    let mut kernel = profile.frames.iter().filter(of_kernel).peekable();
    kernel.peek().is_some() && kernel.all(|frame| frame.lines.is_empty())
}
