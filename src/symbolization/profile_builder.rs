//! Builds the profile of a window while its executables are symbolized in any order.

use indexmap::IndexSet;
use profile::{
    CaptureLedger, Function, Line, Mapping, Profile, SampleCount, SymbolizedFrame, Timeline, Window,
};
use symbolizer::proto::SourceFunction;

use super::client::SymbolizeError;
use super::groups::ExecutableFrames;
use super::name_space::ExecutableSpace;
use super::period::Period;
use super::reason::{NameCounts, UnsymbolizedReason};
use super::window_symbolizer::WindowSymbolizer;
use crate::processes::{Executable, ExecutableOrigin};

/// The tables of a profile that symbols add to.
pub(super) struct ProfileBuilder {
    mappings: Vec<Mapping>,
    functions: IndexSet<Function>,
    /// By their indices in the window.
    frames: Vec<Option<SymbolizedFrame>>,
    pub counts: NameCounts,
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

    /// Adds the frames of an executable with what was found. `mapping`: its index; `result`: of
    /// loading its symbols; `space`: bytes for its functions.
    pub fn add_frames(
        &mut self,
        mapping: u32,
        group: &ExecutableFrames,
        executable: &Executable,
        result: &Result<(), SymbolizeError>,
        space: &mut ExecutableSpace<'_>,
        symbolizer: &mut WindowSymbolizer,
    ) {
        let not_looked_up = match result {
            Err(error) => error.into(),
            Ok(()) if matches!(executable.origin, ExecutableOrigin::Memory) => {
                UnsymbolizedReason::NoFile
            }
            Ok(()) => UnsymbolizedReason::NamesFull,
        };
        for (frame, address) in group.frames.iter().zip(&group.addresses) {
            let lines = match symbolizer.functions(group.executable, *address) {
                Some([]) => Err(UnsymbolizedReason::NoSymbol),
                Some(functions) => self.add_lines(functions, space),
                None => Err(not_looked_up),
            };
            let lines = lines.unwrap_or_else(|reason| {
                self.counts.add_unsymbolized(reason);
                Vec::new()
            });
            self.counts.symbolized += u64::from(!lines.is_empty());
            self.frames[*frame] = Some(SymbolizedFrame { mapping, address: *address, lines });
        }
    }

    fn add_lines(
        &mut self,
        functions: &[SourceFunction],
        space: &mut ExecutableSpace<'_>,
    ) -> Result<Vec<Line>, UnsymbolizedReason> {
        let named = functions.iter().map(|function| {
            let SourceFunction { name, system_name, file, line } = function.clone();
            (Function { name, system_name, file }, line, function.bytes())
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
        let stacks = window.stacks();
        Profile {
            start_unix_ns: period.start_unix_ns,
            duration_ns: period.duration_ns,
            period_ns: period.sample_ns,
            mappings: self.mappings,
            functions: self.functions.into_iter().collect(),
            frames: self.frames.into_iter().flatten().collect(), // every frame is in one group
            stacks: stacks.map(|stack| stack.iter().map(|frame| frame.0).collect()).collect(),
            tasks: window.tasks().cloned().collect(),
            samples: window
                .samples()
                .map(|(key, count)| SampleCount { key: *key, count })
                .collect(),
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
