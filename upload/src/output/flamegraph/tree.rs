//! All stacks of a profile as one tree of calls.

use std::borrow::Cow;
use std::collections::HashMap;

use indexmap::IndexSet;
use profile::{Mapping, MappingKind, Profile, SampleCount, SymbolizedFrame};

use super::kind::FrameKind;
use super::repeats::without_repeats;
use crate::output::folded::{StackRoot, root_names};
use crate::output::named_frame::{GUESSED, cuts, with_place};

/// What makes two frames with the same callers one: kind, name and module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FrameKey {
    pub kind: FrameKind,
    /// Index of its name in the tree's texts.
    name: u32,
    /// Index of the name of its mapping in the tree's texts.
    module: Option<u32>,
}

/// A place in source code: index of the file in the tree's texts, and line from 1.
type SourceLine = (u32, u32);

/// A frame with all its callers.
#[derive(Debug)]
pub(super) struct CallNode {
    pub key: FrameKey,
    /// Count of all samples through this frame.
    pub total: u64,
    /// Count of the samples that end in this frame.
    pub own: u64,
    /// How many times in a row the frames from here repeat, at most.
    pub times: u32,
    /// Number of frames that repeat.
    pub period: u32,
    /// Indices of the nodes that it calls.
    pub children: Vec<u32>,
    line: Option<SourceLine>,
}

/// The tree. The node at index 0 is all stacks together.
#[derive(Debug)]
pub(super) struct CallTree<'a> {
    pub nodes: Vec<CallNode>,
    /// Count of the samples with a cut stack.
    pub cut: u64,
    /// Count of the samples with a guessed frame.
    pub guessed: u64,
    texts: IndexSet<Cow<'a, str>>,
}

/// A frame on its way into the tree.
#[derive(Clone, Copy)]
struct PathFrame {
    key: FrameKey,
    line: Option<SourceLine>,
}

impl PartialEq for PathFrame {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// The tables that only building needs.
#[derive(Default)]
struct Lookup {
    children: HashMap<(u32, FrameKey), u32>,
    lines: HashMap<(u32, SourceLine), u64>,
}

impl<'a> CallTree<'a> {
    /// Builds the tree of a profile. `root`: its outermost frames.
    pub fn new(profile: &'a Profile, root: StackRoot) -> Self {
        let all = FrameKey { kind: FrameKind::Task, name: 0, module: None };
        let texts = IndexSet::from(["all".into()]);
        let mut tree = Self { nodes: vec![node(all)], cut: 0, guessed: 0, texts };
        let mut lookup = Lookup::default();
        for sample in &profile.samples {
            tree.add(profile, sample, root, &mut lookup);
        }
        tree.choose_lines(&lookup.lines);
        tree
    }

    /// Adds time without a task below the root.
    pub fn add_idle(&mut self, count: u64) {
        let key = self.marker(FrameKind::Idle, "idle".into());
        self.nodes[0].total += count;
        let idle = self.nodes.len() as u32;
        self.nodes[0].children.push(idle);
        self.nodes.push(CallNode { total: count, own: count, ..node(key) });
    }

    /// Returns the name of a frame.
    pub fn name_of(&self, node: &CallNode) -> &str {
        self.text(node.key.name)
    }

    /// Returns the name of the mapping that a frame is in.
    pub fn module_of(&self, node: &CallNode) -> Option<&str> {
        node.key.module.map(|module| self.text(module))
    }

    /// Returns the source file of a frame, and its line with most samples.
    pub fn line_of(&self, node: &CallNode) -> Option<(&str, u32)> {
        node.line.map(|(file, line)| (self.text(file), line))
    }

    fn text(&self, index: u32) -> &str {
        self.texts.get_index(index as usize).map_or("", AsRef::as_ref)
    }

    fn intern(&mut self, text: Cow<'a, str>) -> u32 {
        self.texts.insert_full(text).0 as u32
    }

    /// Returns the key of a frame that is no code.
    fn marker(&mut self, kind: FrameKind, name: Cow<'a, str>) -> FrameKey {
        FrameKey { kind, name: self.intern(name), module: None }
    }

    fn add(
        &mut self,
        profile: &'a Profile,
        sample: &SampleCount,
        root: StackRoot,
        lookup: &mut Lookup,
    ) {
        let path = self.path(profile, sample, root);
        let is_cut = sample.key.user_end.is_cut() || sample.key.kernel_end.is_cut();
        self.cut += if is_cut { sample.count } else { 0 };
        self.guessed += if sample.key.guessed { sample.count } else { 0 };
        self.nodes[0].total += sample.count;
        let mut at = 0;
        for repeated in without_repeats(&path) {
            let PathFrame { key, line } = path[repeated.index];
            at = *lookup.children.entry((at, key)).or_insert_with(|| {
                let child = self.nodes.len() as u32;
                self.nodes[at as usize].children.push(child);
                self.nodes.push(node(key));
                child
            });
            let node = &mut self.nodes[at as usize];
            node.total += sample.count;
            if repeated.times > node.times {
                (node.times, node.period) = (repeated.times, repeated.period);
            }
            if let Some(line) = line {
                *lookup.lines.entry((at, line)).or_default() += sample.count;
            }
        }
        self.nodes[at as usize].own += sample.count;
    }

    /// Returns the frames of a sample, outermost first.
    fn path(
        &mut self,
        profile: &'a Profile,
        sample: &SampleCount,
        root: StackRoot,
    ) -> Vec<PathFrame> {
        let mut path = Vec::new();
        for name in root_names(profile, sample, root) {
            let key = self.marker(FrameKind::Task, name);
            path.push(PathFrame { key, line: None });
        }
        for cut in cuts(sample) {
            let key = self.marker(FrameKind::Cut, cut.into());
            path.push(PathFrame { key, line: None });
        }
        if sample.key.guessed {
            let key = self.marker(FrameKind::Guessed, GUESSED.into());
            path.push(PathFrame { key, line: None });
        }
        for frame in profile.frames_of(sample).rev() {
            self.push_functions(profile, frame, &mut path);
        }
        path
    }

    /// Appends the function of a frame, then those inlined into it.
    fn push_functions(
        &mut self,
        profile: &'a Profile,
        frame: &SymbolizedFrame,
        path: &mut Vec<PathFrame>,
    ) {
        let mapping = profile.mapping_of(frame);
        let module = Some(self.intern(mapping.name.as_str().into()));
        for (depth, line) in frame.lines.iter().rev().enumerate() {
            let function = &profile.functions[line.function as usize];
            if function.name.is_empty() {
                continue;
            }
            let kind = FrameKind::of_function(mapping.kind, depth > 0);
            let file = function.file.as_str();
            let name = with_place(&function.name, file, line.line, mapping.kind);
            let key = FrameKey { kind, name: self.intern(name), module };
            let line = (!file.is_empty()).then(|| (self.intern(file.into()), line.line));
            path.push(PathFrame { key, line });
        }
        let is_named =
            |line: &profile::Line| !profile.functions[line.function as usize].name.is_empty();
        if !frame.lines.iter().any(is_named) {
            let kind = FrameKind::of_unnamed(mapping.kind);
            let name = self.intern(unnamed(mapping).into());
            path.push(PathFrame { key: FrameKey { kind, name, module }, line: None });
        }
    }

    /// Sets the source line of each node: the one with most samples; of several, the first.
    fn choose_lines(&mut self, lines: &HashMap<(u32, SourceLine), u64>) {
        let mut best: HashMap<u32, (u64, std::cmp::Reverse<SourceLine>)> = HashMap::new();
        for ((node, line), count) in lines {
            let candidate = (*count, std::cmp::Reverse(*line));
            let best = best.entry(*node).or_insert(candidate);
            *best = (*best).max(candidate);
        }
        for (node, (_, line)) in best {
            self.nodes[node as usize].line = Some(line.0);
        }
    }
}

fn node(key: FrameKey) -> CallNode {
    CallNode { key, total: 0, own: 0, times: 1, period: 1, children: Vec::new(), line: None }
}

/// Returns the name of code without a symbol. All such code of a module is one frame: where one
/// function ends and the next begins is not known.
fn unnamed(mapping: &Mapping) -> String {
    let file = mapping.path().rsplit('/').next().unwrap_or_default();
    match mapping.kind {
        MappingKind::Kernel => "[kernel code without a symbol]".into(),
        MappingKind::Memory => "[JIT code without a name]".into(),
        MappingKind::Unknown => "[code of no known mapping]".into(),
        MappingKind::Interpreted(language) => format!("[{} code without a name]", language.name()),
        MappingKind::File | MappingKind::Interpreter | MappingKind::Vdso => {
            format!("[{file}, no symbol]")
        }
    }
}
