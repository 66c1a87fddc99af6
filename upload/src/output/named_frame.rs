//! The frames of a sample with their names, one for each inlined function.

use std::borrow::Cow;

use profile::{Mapping, MappingKind, Profile, SampleCount, StackEnd, SymbolizedFrame, printable};

/// Longest name in an output, in bytes: as the symbolizer cuts names, and pprof texts.
const NAME_MAX: usize = 4096;
/// What a name that was cut ends with.
const CUT: &str = "...[cut]";
/// The frame that says that another one was found by its frame pointer alone.
pub(super) const GUESSED: &str = "[guessed: frame pointers]";

/// A function of a stack, or an address without one.
#[derive(Clone, Copy)]
pub(super) struct NamedFrame<'a> {
    /// Name of the function; `None` if the address has no symbol.
    pub name: Option<&'a str>,
    /// Source file; empty if unknown.
    pub file: &'a str,
    /// Source line; 0 if unknown.
    pub line: u32,
    /// Whether the function is inlined into the next outer one.
    pub is_inlined: bool,
    /// Address of the frame.
    pub address: u64,
    /// Executable of the frame.
    pub mapping: &'a Mapping,
    /// Index of its executable.
    pub mapping_index: u32,
}

/// Returns the name of a function as it is shown. One that an interpreter runs has its place, as
/// programs have many functions of one name.
pub(super) fn with_place<'a>(
    name: &'a str,
    file: &str,
    line: u32,
    mapping: MappingKind,
) -> Cow<'a, str> {
    let base_name = file.rsplit('/').next().unwrap_or_default();
    match (mapping, base_name, line) {
        (MappingKind::Interpreted(_), "", _) => name.into(),
        (MappingKind::Interpreted(_), file, 0) => format!("{name} ({file})").into(),
        (MappingKind::Interpreted(_), file, line) => format!("{name} ({file}:{line})").into(),
        _ => name.into(),
    }
}

/// Returns the functions of a frame, the innermost first.
pub(super) fn functions_of<'a>(
    profile: &'a Profile,
    frame: &'a SymbolizedFrame,
) -> impl DoubleEndedIterator<Item = NamedFrame<'a>> {
    let unnamed = NamedFrame {
        name: None,
        file: "",
        line: 0,
        is_inlined: false,
        address: frame.address.0,
        mapping: profile.mapping_of(frame),
        mapping_index: frame.mapping,
    };
    let last = frame.lines.len().saturating_sub(1);
    let named = frame.lines.iter().enumerate().map(move |(index, line)| {
        let function = &profile.functions[line.function as usize];
        NamedFrame {
            name: Some(&function.name),
            file: &function.file,
            line: line.line,
            is_inlined: index < last,
            ..unnamed
        }
    });
    named.chain(frame.lines.is_empty().then_some(unnamed))
}

impl NamedFrame<'_> {
    /// Returns the name as it is shown; `None` if the address has no symbol.
    pub fn name_with_place(&self) -> Option<Cow<'_, str>> {
        self.name.map(|name| with_place(name, self.file, self.line, self.mapping.kind))
    }

    /// Returns the name, or module and address, fit to be shown.
    pub fn text(&self) -> Cow<'_, str> {
        match self.name_with_place() {
            Some(Cow::Borrowed(name)) => shown(name),
            Some(Cow::Owned(name)) => shown(&name).into_owned().into(),
            None => shown(&self.mapping.unnamed(self.address)).into_owned().into(),
        }
    }
}

/// Returns the name of an executable without its directory.
pub(super) fn module_name(mapping: &Mapping) -> &str {
    mapping.name.rsplit('/').next().unwrap_or_default()
}

/// Returns what the stack of a sample lacks, as frames show it: why its parts are cut, and that a
/// caller may be missing.
pub(super) fn markers(sample: &SampleCount) -> impl Iterator<Item = String> {
    cuts(sample).chain(sample.key.guessed.then(|| GUESSED.to_owned()))
}

/// Returns why the parts of a stack are cut, as frames show it: the kernel's part last.
pub(super) fn cuts(sample: &SampleCount) -> impl Iterator<Item = String> {
    let ends = [("user", sample.key.user_end), ("kernel", sample.key.kernel_end)];
    let cut = ends.into_iter().filter(|(_, end)| end.is_cut());
    cut.map(|(part, end)| format!("[cut: {}]", cut_reason(part, end)))
}

/// Returns why a stack is cut. Only the depth limit applies to either part.
fn cut_reason(part: &str, end: StackEnd) -> String {
    match end {
        StackEnd::Depth => format!("{part} {}", end.text()),
        _ => end.text().to_owned(),
    }
}

/// Returns a text in one line, of bounded length, that does nothing but show itself.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    if text.is_empty() {
        return Cow::Borrowed("[unnamed]");
    }
    if text.len() <= NAME_MAX {
        return printable(text);
    }
    let start = &text[..text.floor_char_boundary(NAME_MAX - CUT.len())];
    Cow::Owned(format!("{}{CUT}", printable(start)))
}
