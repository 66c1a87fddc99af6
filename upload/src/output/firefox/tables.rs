//! The tables of a profile of the Firefox Profiler that all threads share.

use std::collections::HashMap;

use indexmap::IndexSet;
use profile::{InterpretedLanguage, MappingKind, Profile, SampleCount};
use serde_json::{Value, json};

use super::super::named_frame::{NamedFrame, functions_of, markers, module_name, shown};

/// What kind of code a frame is.
pub(super) struct Category {
    pub name: &'static str,
    pub color: &'static str,
}

/// The categories, up to those of languages. The viewer takes the first grey one for frames without
/// any.
const CATEGORIES: [Category; 7] = [
    Category { name: "Other", color: "grey" },
    Category { name: "Kernel", color: "orange" },
    Category { name: "Native", color: "lightblue" },
    Category { name: "Inlined", color: "yellow" },
    Category { name: "JIT", color: "green" },
    Category { name: "Unnamed", color: "darkgrey" },
    Category { name: "Cut", color: "red" },
];

const OTHER: u32 = 0;
const CUT: u32 = 6;
const FIRST_LANGUAGE: u32 = 7;

/// Returns all categories: one for each interpreted language, and that of interpreters after them.
pub(super) fn categories() -> impl Iterator<Item = Category> {
    let languages = InterpretedLanguage::all();
    let languages = languages.map(|one| Category { name: one.name(), color: "purple" });
    let interpreter = Category { name: "Interpreter", color: "blue" };
    CATEGORIES.into_iter().chain(languages).chain([interpreter])
}

fn category_of(function: &NamedFrame<'_>) -> u32 {
    match function.mapping.kind {
        MappingKind::Kernel => 1,
        MappingKind::Memory => 4,
        MappingKind::Interpreted(language) => FIRST_LANGUAGE + language as u32,
        MappingKind::Interpreter => FIRST_LANGUAGE + InterpretedLanguage::all().count() as u32,
        _ if function.name.is_none() => 5,
        _ if function.is_inlined => 3,
        MappingKind::File | MappingKind::Vdso | MappingKind::Unknown => 2,
    }
}

/// A function: name, executable (index plus 1; 0 for none), source file.
type Function = (u32, u32, Option<u32>);

/// A frame of a function.
#[derive(PartialEq, Eq, Hash)]
struct Frame {
    function: u32,
    category: u32,
    line: u32,
    inline_depth: u32,
    address: Option<u64>,
}

/// The distinct strings, functions, frames and stacks; indices refer to each other.
#[derive(Default)]
pub(super) struct Tables {
    strings: IndexSet<String>,
    /// Source files, as strings.
    sources: IndexSet<u32>,
    functions: IndexSet<Function>,
    frames: IndexSet<Frame>,
    /// Index of the caller's stack, and frame.
    stacks: IndexSet<(Option<u32>, u32)>,
    /// Stacks by their stack in the profile, its ends, and whether a frame is guessed.
    known: HashMap<(u32, [u8; 2], bool), u32>,
    /// Executables of the profile that functions are in, as strings.
    executables: IndexSet<u32>,
}

impl Tables {
    /// Adds the stack of a sample. Returns its index.
    pub fn add_stack(&mut self, profile: &Profile, sample: &SampleCount) -> u32 {
        let ends = [sample.key.user_end as u8, sample.key.kernel_end as u8];
        let key = (sample.key.stack.0, ends, sample.key.guessed);
        if let Some(stack) = self.known.get(&key) {
            return *stack;
        }
        let mut stack = None;
        for marker in markers(sample) {
            stack = Some(self.add_marker(stack, &marker, CUT));
        }
        for frame in profile.frames_of(sample).rev() {
            for (depth, function) in functions_of(profile, frame).rev().enumerate() {
                stack = Some(self.add_function(stack, &function, depth as u32));
            }
        }
        // The viewer does not count a sample without a stack.
        let stack = stack.unwrap_or_else(|| self.add_marker(None, "[unknown]", OTHER));
        self.known.insert(key, stack);
        stack
    }

    fn add_marker(&mut self, caller: Option<u32>, name: &str, category: u32) -> u32 {
        let function = (self.add_string(name), 0, None);
        let function = self.functions.insert_full(function).0 as u32;
        let frame = Frame { function, category, line: 0, inline_depth: 0, address: None };
        self.add_frame(caller, frame)
    }

    fn add_function(
        &mut self,
        caller: Option<u32>,
        function: &NamedFrame<'_>,
        inline_depth: u32,
    ) -> u32 {
        let name = self.add_string(&function.text());
        let source = (!function.file.is_empty()).then(|| {
            let file = self.add_string(&shown(function.file));
            self.sources.insert_full(file).0 as u32
        });
        let key = (name, self.executables.insert_full(function.mapping_index).0 as u32 + 1, source);
        let frame = Frame {
            function: self.functions.insert_full(key).0 as u32,
            category: category_of(function),
            line: function.line,
            inline_depth,
            address: Some(function.address),
        };
        self.add_frame(caller, frame)
    }

    fn add_frame(&mut self, caller: Option<u32>, frame: Frame) -> u32 {
        let frame = self.frames.insert_full(frame).0 as u32;
        self.stacks.insert_full((caller, frame)).0 as u32
    }

    fn add_string(&mut self, text: &str) -> u32 {
        match self.strings.get_index_of(text) {
            Some(index) => index as u32,
            None => self.strings.insert_full(text.to_owned()).0 as u32,
        }
    }

    /// Returns the executables that functions are in.
    pub fn libs(&self, profile: &Profile) -> Vec<Value> {
        let lib = |mapping: &u32| {
            let mapping = &profile.mappings[*mapping as usize];
            let (name, path) = (shown(module_name(mapping)).into_owned(), shown(&mapping.name));
            let build_id = mapping.build_id.as_ref().map(ToString::to_string);
            json!({
                "arch": "x86_64", "name": name, "path": path, "debugName": name,
                "debugPath": path, "breakpadId": "", "codeId": build_id,
            })
        };
        self.executables.iter().map(lib).collect()
    }

    /// Returns the tables as the format has them: each column is an array.
    pub fn shared(mut self, profile: &Profile) -> Value {
        let modules = self
            .executables
            .iter()
            .map(|mapping| shown(module_name(&profile.mappings[*mapping as usize])).into_owned());
        let modules: Vec<String> = modules.collect();
        let modules: Vec<u32> = modules.iter().map(|name| self.add_string(name)).collect();
        json!({
            "stackTable": self.stack_table(),
            "frameTable": self.frame_table(),
            "funcTable": self.func_table(),
            "resourceTable": {
                "length": modules.len(),
                "lib": (0..modules.len()).collect::<Vec<_>>(),
                "host": vec![Value::Null; modules.len()],
                "type": vec![LIBRARY; modules.len()],
                "name": modules,
            },
            "nativeSymbols":
                { "length": 0, "libIndex": [], "address": [], "name": [], "functionSize": [] },
            "sources": {
                "length": self.sources.len(),
                "id": vec![Value::Null; self.sources.len()],
                "filename": self.sources.iter().collect::<Vec<_>>(),
            },
            "stringArray": self.strings.iter().collect::<Vec<_>>(),
        })
    }

    fn stack_table(&self) -> Value {
        json!({
            "length": self.stacks.len(),
            "prefix": column(&self.stacks, |(caller, _)| *caller),
            "frame": column(&self.stacks, |(_, frame)| *frame),
        })
    }

    fn frame_table(&self) -> Value {
        let length = self.frames.len();
        json!({
            "length": length,
            "address": column(&self.frames, |frame| frame.address.map_or(-1, exact)),
            "inlineDepth": column(&self.frames, |frame| frame.inline_depth),
            "category": column(&self.frames, |frame| frame.category),
            "subcategory": vec![0; length],
            "func": column(&self.frames, |frame| frame.function),
            "nativeSymbol": vec![Value::Null; length],
            "innerWindowID": vec![0; length],
            "line": column(&self.frames, |frame| (frame.line > 0).then_some(frame.line)),
            "column": vec![Value::Null; length],
        })
    }

    fn func_table(&self) -> Value {
        let length = self.functions.len();
        json!({
            "length": length,
            "name": column(&self.functions, |(name, ..)| *name),
            "isJS": vec![false; length],
            "relevantForJS": vec![false; length],
            "resource": column(&self.functions, |(_, executable, _)| i64::from(*executable) - 1),
            "source": column(&self.functions, |(.., source)| *source),
            "lineNumber": vec![Value::Null; length],
            "columnNumber": vec![Value::Null; length],
        })
    }
}

/// The type of a resource that is a library or program.
const LIBRARY: u32 = 1;

/// Returns an address, or -1 (no address) if JavaScript cannot represent it.
fn exact(address: u64) -> i64 {
    const EXACT_MAX: i64 = 1 << 53;
    i64::try_from(address).ok().filter(|address| *address <= EXACT_MAX).unwrap_or(-1)
}

fn column<T, V>(table: &IndexSet<T>, value: impl Fn(&T) -> V) -> Vec<V> {
    table.iter().map(value).collect()
}
