//! Stacks that programs of Python have written, and their comparison with samples.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use profile::pprof::proto::{Location, Profile, Sample};

use super::python::source;

/// File names of the mappings of interpreted frames.
const INTERPRETED_MAPPINGS: [&str; 2] = ["[python]", "[toy]"];
/// Files with functions that run between windows.
const HARNESS_FILES: [&str; 2] = ["known.py", "known.toy"];
/// Functions of these files that run between windows.
const HARNESS: [&str; 7] =
    ["<module>", "window", "write_stack", "between", "warm_up", "wait", "rest"];
/// Bytes that are read of a text, in the width of its widest character.
const TEXT_BYTES_MAX: usize = 256;

/// A frame of a sample or of a known stack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Frame {
    /// A frame of an interpreter, be it of Python or of `toy.c`.
    Python { name: String, file: String, first_line: i64, line: i64 },
    /// Another frame: its function, and the base name of its file.
    Native { function: String, file: String },
}

impl Frame {
    fn is_python(&self) -> bool {
        matches!(self, Self::Python { .. })
    }

    /// Returns whether a native frame is in a file whose name begins with a word, or is a function
    /// of this name.
    pub fn matches(&self, word: &str) -> bool {
        match self {
            Self::Python { .. } => false,
            Self::Native { function, file } => function == word || file.starts_with(word),
        }
    }

    /// Returns whether this is the frame that a program has written.
    fn is(&self, known: &Self) -> bool {
        match (self, known) {
            (
                Self::Python { name, file, first_line, line },
                Self::Python { name: n, file: f, first_line: first, line: l },
            ) => {
                first_line == first
                    && (line == l || (*line == 0 && is_beyond_table(n)))
                    && *name == beginning(n)
                    && *file == end(f)
            }
            _ => false,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Python { name, file, line, .. } => {
                let base = file.rsplit('/').next().unwrap();
                format!("{name:.40} ({base:.40}:{line})")
            }
            Self::Native { function, file } if function.is_empty() => format!("[{file}]"),
            Self::Native { function, .. } => format!("[{function}]"),
        }
    }
}

/// Returns whether a function may be in a position that no line is known of: only the first bytes
/// of a line table are read. `names.py` has such functions.
fn is_beyond_table(name: &str) -> bool {
    name.ends_with("beyond_table")
}

/// Returns a name as it is shown: of a long one its beginning.
fn beginning(text: &str) -> String {
    match shown_characters(text) {
        Ok(()) => text.to_owned(),
        Err((shown, bytes)) => {
            let part: String = text.chars().take(shown).collect();
            format!("{part}...[{bytes} bytes]")
        }
    }
}

/// Returns a file name as it is shown: of a long one its end.
fn end(text: &str) -> String {
    match shown_characters(text) {
        Ok(()) => text.to_owned(),
        Err((shown, bytes)) => {
            let part: String = text.chars().skip(text.chars().count() - shown).collect();
            format!("[{bytes} bytes]...{part}")
        }
    }
}

/// Returns how many characters of a text are shown, and the bytes that the interpreter has it in,
/// if these are too many.
fn shown_characters(text: &str) -> Result<(), (usize, usize)> {
    let width = match text.chars().max() {
        None | Some(..='\u{ff}') => 1,
        Some(..='\u{ffff}') => 2,
        Some(_) => 4,
    };
    let bytes = text.chars().count() * width;
    if bytes > TEXT_BYTES_MAX { Err((TEXT_BYTES_MAX / width, bytes)) } else { Ok(()) }
}

/// A stack that a program has written.
#[derive(Clone, Debug)]
pub struct KnownStack {
    pub window: String,
    /// Whether it is so deep that its native part may be cut.
    is_deep: bool,
    /// Native frames: the number of Python frames inside of each, and its file or function.
    natives: Vec<(usize, String)>,
    /// Innermost first.
    frames: Vec<Frame>,
}

impl KnownStack {
    /// Parses a line of a program: see `known.py`. Returns its pid and tid, too.
    fn parse(line: &str) -> ((u32, u32), Self) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [pid, tid, window, natives] = fields[..4] else { panic!("{line}") };
        let native = |word: &str| {
            let (at, what) = word.split_once(':')?;
            Some((at.parse().unwrap(), what.to_owned()))
        };
        let frame = |frame: &[&str]| Frame::Python {
            name: frame[0].into(),
            file: frame[1].into(),
            first_line: frame[2].parse().unwrap(),
            line: frame[3].parse().unwrap(),
        };
        let stack = Self {
            window: window.to_owned(),
            is_deep: natives == "deep",
            natives: natives.split(' ').filter_map(native).collect(),
            frames: fields[4..].chunks(4).map(frame).collect(),
        };
        ((pid.parse().unwrap(), tid.parse().unwrap()), stack)
    }

    /// Returns whether the Python frames of a sample are those of this stack.
    fn has_python_frames_of(&self, stack: &Stack) -> bool {
        let found = stack.python();
        found.len() == self.frames.len() && found.iter().zip(&self.frames).all(|(a, b)| a.is(b))
    }

    /// Returns what is wrong with the native frames of a sample, if anything is.
    fn native_fault(&self, stack: &Stack) -> Option<String> {
        if self.is_deep {
            return None;
        }
        if let Some(why) = &stack.cut {
            return Some(format!("cut: {why}"));
        }
        if stack.frames.last().is_some_and(Frame::is_python) {
            return Some("the outermost frame is Python".into());
        }
        for (at, natives) in (0..).zip(stack.native_runs()) {
            let mut rest = natives.iter();
            let expected = self.natives.iter().filter(|(place, _)| *place == at && at > 0);
            for (_, word) in expected.clone() {
                if !rest.any(|frame| frame.matches(word)) {
                    return Some(format!("{word} is not outside of {at} Python frames"));
                }
            }
            let is_between = at > 0 && at < self.frames.len();
            let is_libc = natives.iter().any(|frame| frame.matches("libc.so"));
            if is_between && is_libc && expected.count() == 0 {
                return Some(format!("libc is outside of {at} Python frames"));
            }
        }
        None
    }

    /// Returns the file that most samples of this window end in.
    pub fn leaf(&self) -> Option<&str> {
        self.natives.iter().find(|(at, _)| *at == 0).map(|(_, file)| file.as_str())
    }
}

/// Returns the stack of which a sample is, and what is wrong with the sample, if anything is.
pub fn compare<'a>(
    stack: &Stack,
    all: &'a [KnownStack],
) -> (Option<&'a KnownStack>, Option<String>) {
    let known = all.iter().find(|known| known.has_python_frames_of(stack));
    let fault = match known {
        None => Some("Python frames".to_owned()),
        Some(known) => known.native_fault(stack),
    };
    (known, fault)
}

/// Stacks of each process and thread.
pub type KnownStacks = BTreeMap<(u32, u32), Vec<KnownStack>>;

/// Reads what programs have written.
pub fn known_stacks(path: &Path) -> KnownStacks {
    let mut all = KnownStacks::new();
    for line in fs::read_to_string(path).unwrap().lines() {
        let (task, stack) = KnownStack::parse(line);
        let others = all.entry(task).or_default();
        // Windows with the same stack are one.
        if !stack.frames.is_empty() && others.iter().all(|other| other.frames != stack.frames) {
            others.push(stack);
        }
    }
    all
}

/// Samples with the same stack.
#[derive(Clone, Debug)]
pub struct Stack {
    pub pid: u32,
    pub tid: u32,
    pub comm: String,
    pub cut: Option<String>,
    /// Innermost first.
    pub frames: Vec<Frame>,
    pub count: u64,
}

impl Stack {
    fn read(profile: &Profile, sample: &Sample) -> Self {
        let text = |index: i64| profile.string_table[index as usize].as_str();
        let label = |key: &str| sample.label.iter().find(|label| text(label.key) == key);
        let number = |key: &str| label(key).map_or(0, |label| label.num as u32);
        let string = |key: &str| label(key).map(|label| text(label.str).to_owned());
        let frame = |id: &u64| frame(profile, &profile.location[*id as usize - 1]);
        Self {
            pid: number("pid"),
            tid: number("tid"),
            comm: string("comm").unwrap_or_default(),
            cut: string("cut"),
            frames: sample.location_id.iter().map(frame).collect(),
            count: sample.value[0] as u64,
        }
    }

    /// Returns the Python frames, innermost first.
    pub fn python(&self) -> Vec<&Frame> {
        self.frames.iter().filter(|frame| frame.is_python()).collect()
    }

    /// Returns the native frames inside of the innermost Python frame, between this one and the
    /// next, and so on, up to those outside of the outermost.
    pub fn native_runs(&self) -> Vec<&[Frame]> {
        self.frames.split(Frame::is_python).collect()
    }

    /// Returns whether the program was between windows.
    pub fn is_harness(&self) -> bool {
        self.frames.iter().any(|frame| match frame {
            Frame::Python { name, file, .. } => {
                let is_harness = HARNESS_FILES.iter().any(|harness| file.ends_with(harness));
                is_harness && HARNESS.contains(&name.as_str())
            }
            Frame::Native { .. } => false,
        })
    }

    /// Returns whether a Python frame has a function whose name begins with this.
    pub fn has_function(&self, beginning: &str) -> bool {
        self.frames.iter().any(|frame| match frame {
            Frame::Python { name, .. } => name.starts_with(beginning),
            Frame::Native { .. } => false,
        })
    }

    /// Returns whether the innermost Python frame is in one of the programs.
    pub fn is_in_program(&self) -> bool {
        let directory = source("");
        let directory = directory.to_str().unwrap();
        match self.python().first() {
            Some(Frame::Python { file, .. }) => {
                file.starts_with(directory) || !(file.contains('/') || file.contains("<frozen"))
            }
            _ => false,
        }
    }
}

fn frame(profile: &Profile, location: &Location) -> Frame {
    let text = |index: i64| profile.string_table[index as usize].as_str();
    let mapping = profile.mapping.get((location.mapping_id as usize).wrapping_sub(1));
    let file = mapping.map_or("", |mapping| text(mapping.filename));
    // The last line is the function itself; functions inlined into it come first.
    let line = location.line.last();
    let function = line.map(|line| &profile.function[line.function_id as usize - 1]);
    let name = function.map_or("", |function| text(function.name)).to_owned();
    if !INTERPRETED_MAPPINGS.contains(&file) {
        return Frame::Native { function: name, file: file.rsplit('/').next().unwrap().into() };
    }
    assert!(location.line.len() <= 1, "a Python frame has one line: {location:?}");
    // A function whose name is not known has one that says so, and no name in the interpreter.
    let system_name = function.map_or("", |function| text(function.system_name));
    assert!(system_name == name || system_name.is_empty(), "{name}: {system_name}");
    Frame::Python {
        name: system_name.to_owned(),
        file: function.map_or("", |function| text(function.filename)).to_owned(),
        first_line: function.map_or(0, |function| function.start_line),
        line: line.map_or(0, |line| line.line),
    }
}

/// Reads all stacks of a profile.
pub fn stacks(profile: &Profile) -> Vec<Stack> {
    profile.sample.iter().map(|sample| Stack::read(profile, sample)).collect()
}

/// Describes a wrong stack in a line: innermost frame first, equal ones as one.
pub fn describe(stack: &Stack, fault: &str) -> String {
    let frames: Vec<String> = stack.frames.iter().map(Frame::text).collect();
    let runs = frames.chunk_by(|a, b| a == b).map(|run| match run.len() {
        1 => run[0].clone(),
        length => format!("{}{{{length}}}", run[0]),
    });
    format!("{fault}: {}", runs.collect::<Vec<_>>().join(" < "))
}
