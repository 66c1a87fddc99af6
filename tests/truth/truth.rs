//! Describes the correct stacks of a program, and scores the stacks of its samples.
//!
//! A call chain reads from the outermost frame inwards: `_start @libc.so.6{2} main > a b{2} c|d`.
//! Each word matches a frame: by function name; by prefix, as in `runtime.~`, or suffix, `~@plt`;
//! or, with `@`, any function of a file, in whatever version. `|` separates alternatives; `{2}`
//! matches two frames, and `*` any number. Every frame before `>` must be there; after it, the
//! stack may end anywhere.
//! Any number of frames that match the truth's `tops` may follow.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use profile::pprof::proto::{Profile, Sample};

/// One of this many samples of the programs of a test may be wrong.
const ONE_OF: u64 = 1000;
/// Samples that each program must have.
const SAMPLES_MIN: u64 = 100;

/// One frame of a pprof file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame {
    /// Empty if it has no name.
    pub function: String,
    /// Name of the executable, without directories.
    pub file: String,
    pub address: u64,
}

impl Frame {
    fn text(&self) -> String {
        match self.function.as_str() {
            "" => format!("{}+{:#x}", self.file, self.address),
            name => name.to_owned(),
        }
    }
}

/// Samples with the same stack.
#[derive(Clone, Debug)]
pub struct Stack {
    pub pid: String,
    pub comm: String,
    /// Outermost first.
    pub frames: Vec<Frame>,
    pub count: u64,
    /// Why the stack is cut, if it is.
    pub cut: Option<String>,
    pub is_guessed: bool,
}

/// Reads all stacks of a profile.
pub fn stacks(profile: &Profile) -> Vec<Stack> {
    profile.sample.iter().map(|sample| stack(profile, sample)).collect()
}

fn stack(profile: &Profile, sample: &Sample) -> Stack {
    let text = |index: i64| profile.string_table[index as usize].clone();
    let labels: BTreeMap<String, String> = sample
        .label
        .iter()
        .map(|label| {
            let value = if label.str == 0 { label.num.to_string() } else { text(label.str) };
            (text(label.key), value)
        })
        .collect();
    let frame = |id: &u64| {
        let location = &profile.location[*id as usize - 1];
        let mapping = &profile.mapping[location.mapping_id as usize - 1];
        // The last line is the function itself; functions inlined into it come first.
        let function = location
            .line
            .last()
            .map(|line| text(profile.function[line.function_id as usize - 1].name));
        let file = text(mapping.filename).rsplit('/').next().unwrap_or_default().to_owned();
        Frame { function: function.unwrap_or_default(), file, address: location.address }
    };
    Stack {
        pid: labels["pid"].clone(),
        comm: labels["comm"].clone(),
        frames: sample.location_id.iter().rev().map(frame).collect(),
        count: sample.value[0] as u64,
        cut: labels.get("cut").cloned(),
        is_guessed: labels.contains_key("guessed"),
    }
}

/// Names the frames of a stripped file by the symbols of the unstripped file. It may have kept the
/// names of what it exports.
pub fn name_frames(stacks: &mut [Stack], file: &str, unstripped: &Path) {
    let output =
        Command::new("nm").args(["-n", "--defined-only"]).arg(unstripped).output().unwrap();
    let symbols: BTreeMap<u64, String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            words.next().filter(|kind| "tTwW".contains(kind))?;
            let name = words.next().filter(|name| !is_start_of_code(name))?;
            Some((address, name.strip_suffix(".abi0").unwrap_or(name).to_owned()))
        })
        .collect();
    let mut is_stripped = false;
    for frame in stacks.iter_mut().flat_map(|stack| &mut stack.frames) {
        if frame.file == file {
            is_stripped |= frame.function == format!("{file}+{:#x}", frame.address);
            let found = symbols.range(..=frame.address).next_back();
            frame.function = found.map(|(_, name)| name.clone()).unwrap_or_default();
        }
    }
    assert!(is_stripped, "{file} is stripped");
}

/// The correct stacks of a program.
#[derive(Clone, Copy, Debug)]
pub struct Truth<'a> {
    pub chains: &'a [&'a str],
    /// Frames that may follow a chain: one word, or empty for none.
    pub tops: &'a str,
    /// Frames from which the walk may continue by frame pointer: one word, or empty for none.
    pub guessed: &'a str,
}

/// The samples of one program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    pub all: u64,
    pub correct: u64,
    /// Correct samples that reach the end of a chain.
    pub complete: u64,
}

impl Truth<'_> {
    /// Counts correct samples; also returns descriptions of the wrong stacks.
    pub fn score<'s>(&self, stacks: impl Iterator<Item = &'s Stack>) -> (Score, Vec<String>) {
        let (mut score, mut wrong) = (Score::default(), Vec::new());
        for stack in stacks {
            let is_valid = stack.cut.is_none() && (!stack.is_guessed || self.may_guess(stack));
            let fit = if is_valid { self.fit(&stack.frames) } else { None };
            score.all += stack.count;
            score.correct += if fit.is_some() { stack.count } else { 0 };
            score.complete += if fit == Some(Fit::Complete) { stack.count } else { 0 };
            if fit.is_none() {
                wrong.push(describe(stack));
            }
        }
        (score, wrong)
    }

    fn may_guess(&self, stack: &Stack) -> bool {
        let word = Word::parse(self.guessed);
        stack.frames.iter().any(|frame| word.matches(frame))
    }

    fn fit(&self, frames: &[Frame]) -> Option<Fit> {
        let tops = Word::parse(self.tops);
        self.chains.iter().filter_map(|chain| fit(&words(chain), &tops, frames)).max()
    }
}

/// Returns whether programs that were profiled together pass: 99.9 % of their samples are correct,
/// each program has enough samples, and a fifth of those reach the end of a chain. The first limit
/// is for all together, because one program has too few samples for one in a thousand.
pub fn all_pass(scores: &[Score]) -> bool {
    let all: u64 = scores.iter().map(|score| score.all).sum();
    let correct: u64 = scores.iter().map(|score| score.correct).sum();
    let is_sampled = |score: &Score| score.all > SAMPLES_MIN && score.complete * 5 >= score.all;
    // In fewer samples one may be wrong: a tick can fall between a mapping and its event.
    scores.iter().all(is_sampled) && (all - correct) * ONE_OF <= all.max(ONE_OF)
}

/// Returns whether a symbol of Go's linker says where the text or the C code of a package begins.
fn is_start_of_code(name: &str) -> bool {
    name == "runtime.text" || name.ends_with("(.text)")
}

fn describe(stack: &Stack) -> String {
    let frames: Vec<String> = stack.frames.iter().map(Frame::text).collect();
    let cut = stack.cut.as_ref().map(|why| format!(" [cut: {why}]")).unwrap_or_default();
    let guessed = if stack.is_guessed { " [guessed]" } else { "" };
    format!("{} x{cut}{guessed} {}", stack.count, shortened(&frames).join(" "))
}

/// Writes a run of frames of the same function as one word.
fn shortened(frames: &[String]) -> Vec<String> {
    let runs = frames.chunk_by(|a, b| a == b);
    runs.map(
        |run| if run.len() == 1 { run[0].clone() } else { format!("{}{{{}}}", run[0], run.len()) },
    )
    .collect()
}

/// How far into a chain a stack goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Partial,
    Complete,
}

#[derive(Clone, Debug)]
struct Word {
    /// Alternatives: function, prefix or `@file`.
    names: Vec<String>,
    least: usize,
    most: usize,
    /// Whether a stack may end before this word.
    is_open: bool,
}

impl Word {
    fn parse(text: &str) -> Self {
        let (names, least, most) = match text.strip_suffix('*') {
            Some(names) => (names, 0, usize::MAX),
            None => match text.strip_suffix('}').and_then(|text| text.rsplit_once('{')) {
                Some((names, count)) => (names, count.parse().unwrap(), count.parse().unwrap()),
                None => (text, 1, 1),
            },
        };
        let names = names.split('|').map(str::to_owned).collect();
        Self { names, least, most, is_open: false }
    }

    fn matches(&self, frame: &Frame) -> bool {
        self.names.iter().any(|name| {
            if let Some(file) = name.strip_prefix('@') {
                is_file(file, &frame.file)
            } else if let Some(beginning) = name.strip_suffix('~') {
                frame.function.starts_with(beginning)
            } else if let Some(ending) = name.strip_prefix('~') {
                frame.function.ends_with(ending)
            } else {
                *name == frame.function
            }
        })
    }
}

/// Returns whether a file has this name, with or without a version behind it.
fn is_file(name: &str, file: &str) -> bool {
    file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn words(chain: &str) -> Vec<Word> {
    let mut is_open = false;
    let mut words = Vec::new();
    for text in chain.split(' ') {
        if text == ">" {
            is_open = true;
        } else {
            words.push(Word { is_open, ..Word::parse(text) });
        }
    }
    words
}

fn fit(words: &[Word], tops: &Word, frames: &[Frame]) -> Option<Fit> {
    let Some((word, rest)) = words.split_first() else {
        return frames.iter().all(|frame| tops.matches(frame)).then_some(Fit::Complete);
    };
    let most = frames.iter().take(word.most).take_while(|frame| word.matches(frame)).count();
    let on = (word.least..=most).filter_map(|taken| fit(rest, tops, &frames[taken..])).max();
    // The stack may also end within this word.
    let ends = |taken: &usize| frames[*taken..].iter().all(|frame| tops.matches(frame));
    on.or_else(|| (word.is_open && (0..=most).any(|taken| ends(&taken))).then_some(Fit::Partial))
}

#[test]
fn matches_stacks_with_chains() {
    let read = |text: &str| -> Vec<Frame> {
        let frame = |word: &str| {
            let (file, function) = word.split_once(':').unwrap_or(("program", word));
            Frame { function: function.into(), file: file.into(), address: 0 }
        };
        text.split(' ').map(frame).collect()
    };
    let chains = ["_start @libc{2} main > a b{3} c|d"];
    let truth = Truth { chains: &chains, tops: "@ld|run~", guessed: "" };
    let is = |text: &str, fit: Option<Fit>| assert_eq!(truth.fit(&read(text)), fit, "{text}");
    is("_start libc:x libc:y main a b b b d", Some(Fit::Complete));
    is("_start libc:x libc:y main a b b b c ld:z ld:z", Some(Fit::Complete));
    is("_start libc.so:x libc:y main", Some(Fit::Partial));
    is("_start libcxx:x libc:y main", None);
    is("_start libc:x libc:y main a runs", Some(Fit::Partial));
    is("_start libc:x libc:y main a b b", Some(Fit::Partial));
    is("_start libc:x libc:y main ld:z", Some(Fit::Partial));
    is("_start libc:x libc:y", None);
    is("_start libc:x main", None);
    is("libc:x libc:y main a", None);
    is("_start libc:x libc:y main b b b c", None);
    is("_start libc:x libc:y main a b b c", None);
    is("_start libc:x libc:y main a b b b b c", None);
    is("_start libc:x libc:y main a ld:z b", None);
}
