//! What a true stack is, and which share of a program's samples have one.
//!
//! A chain reads from the outermost frame inwards: `_start @libc.so.6{2} main > a b{2} c|d`. Each word is a
//! frame: a function by name, or by how its name begins, `runtime.~`, or with `@` any function of a file,
//! whatever its version. Words between `|` are alternatives; `{2}` means two of them, `*` any number. Before `>`
//! all must be there; after it the thread got as far as it got. On top of that may lie any number of frames of
//! the truth's `tops`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use profile::pprof::proto::{Profile, Sample};

/// Of so many samples of the programs of a story one may be wrong.
const ONE_OF: u64 = 1000;
/// Samples that each program must have: with fewer it has not been seen.
const LEAST: u64 = 100;

/// One frame as pprof tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frame {
    /// Empty when it has no name.
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
    /// Why it is not complete.
    pub cut: Option<String>,
    pub is_guessed: bool,
}

/// Reads all stacks of a profile.
pub fn stacks(profile: &Profile) -> Vec<Stack> {
    profile.sample.iter().map(|sample| stack(profile, sample)).collect()
}

fn stack(profile: &Profile, sample: &Sample) -> Stack {
    let text = |place: i64| profile.string_table[place as usize].clone();
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
        // The last line is the function itself, those before are inlined into it.
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

/// Gives frames of a stripped file the names that it had: `unstripped` is the file before.
pub fn name(stacks: &mut [Stack], file: &str, unstripped: &Path) {
    let output =
        Command::new("nm").args(["-n", "--defined-only"]).arg(unstripped).output().unwrap();
    let symbols: BTreeMap<u64, String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            words.next().filter(|kind| "tTwW".contains(kind))?;
            Some((address, words.next()?.to_owned()))
        })
        .collect();
    for frame in stacks.iter_mut().flat_map(|stack| &mut stack.frames) {
        if frame.file == file {
            assert_eq!(frame.function, "", "{file} is stripped");
            let found = symbols.range(..=frame.address).next_back();
            frame.function = found.map(|(_, name)| name.clone()).unwrap_or_default();
        }
    }
}

/// What a program's stacks can be.
#[derive(Clone, Copy, Debug)]
pub struct Truth<'a> {
    pub chains: &'a [&'a str],
    /// What may lie on top, in the form of one word of a chain; nothing when it is empty.
    pub tops: &'a str,
    /// Stacks with such a frame may go on from there by its frame pointer; also a word, or empty.
    pub guessed: &'a str,
}

/// What came of one program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub all: u64,
    pub good: u64,
    /// Those that reach the end of a chain.
    pub whole: u64,
}

impl Truth<'_> {
    /// Counts the samples that are true; the others are given in words.
    pub fn judge<'s>(&self, stacks: impl Iterator<Item = &'s Stack>) -> (Share, Vec<String>) {
        let (mut share, mut wrong) = (Share::default(), Vec::new());
        for stack in stacks {
            let may_be = stack.cut.is_none() && (!stack.is_guessed || self.may_guess(stack));
            let fits = if may_be { self.fit(&stack.frames) } else { None };
            share.all += stack.count;
            share.good += if fits.is_some() { stack.count } else { 0 };
            share.whole += if fits == Some(Fit::Whole) { stack.count } else { 0 };
            if fits.is_none() {
                wrong.push(in_words(stack));
            }
        }
        (share, wrong)
    }

    fn may_guess(&self, stack: &Stack) -> bool {
        let word = Word::read(self.guessed);
        stack.frames.iter().any(|frame| word.is(frame))
    }

    fn fit(&self, frames: &[Frame]) -> Option<Fit> {
        let tops = Word::read(self.tops);
        self.chains.iter().filter_map(|chain| fit(&words(chain), &tops, frames)).max()
    }
}

/// Says whether programs that were profiled together keep the promise: 99.9 % of their samples are true, each
/// has enough of them, and a fifth of those reach the end of a chain. One program alone has too few samples to
/// tell one in a thousand.
pub fn are_kept(shares: &[Share]) -> bool {
    let all: u64 = shares.iter().map(|share| share.all).sum();
    let good: u64 = shares.iter().map(|share| share.good).sum();
    let are_seen = shares.iter().all(|share| share.all > LEAST && share.whole * 5 >= share.all);
    are_seen && (all - good) * ONE_OF <= all
}

fn in_words(stack: &Stack) -> String {
    let frames: Vec<String> = stack.frames.iter().map(Frame::text).collect();
    let cut = stack.cut.as_ref().map(|why| format!(" [cut: {why}]")).unwrap_or_default();
    let guessed = if stack.is_guessed { " [guessed]" } else { "" };
    format!("{} x{cut}{guessed} {}", stack.count, shortened(&frames).join(" "))
}

/// A thousand frames of the same function are told in one word.
fn shortened(frames: &[String]) -> Vec<String> {
    let runs = frames.chunk_by(|a, b| a == b);
    runs.map(
        |run| if run.len() == 1 { run[0].clone() } else { format!("{}{{{}}}", run[0], run.len()) },
    )
    .collect()
}

/// How far into its chain a stack goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Part,
    Whole,
}

#[derive(Clone, Debug)]
struct Word {
    /// Function or `@file`.
    names: Vec<String>,
    least: usize,
    most: usize,
    /// Whether a stack may end before it.
    is_open: bool,
}

impl Word {
    fn read(text: &str) -> Self {
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

    fn is(&self, frame: &Frame) -> bool {
        self.names.iter().any(|name| match (name.strip_prefix('@'), name.strip_suffix('~')) {
            (Some(file), _) => is_file(file, &frame.file),
            (None, Some(beginning)) => frame.function.starts_with(beginning),
            (None, None) => *name == frame.function,
        })
    }
}

/// Says whether a file has this name, perhaps with a version behind it.
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
            words.push(Word { is_open, ..Word::read(text) });
        }
    }
    words
}

fn fit(words: &[Word], tops: &Word, frames: &[Frame]) -> Option<Fit> {
    let Some((word, rest)) = words.split_first() else {
        return frames.iter().all(|frame| tops.is(frame)).then_some(Fit::Whole);
    };
    let most = frames.iter().take(word.most).take_while(|frame| word.is(frame)).count();
    let on = (word.least..=most).filter_map(|taken| fit(rest, tops, &frames[taken..])).max();
    // It may also end within this word.
    let ends = |taken: &usize| frames[*taken..].iter().all(|frame| tops.is(frame));
    on.or_else(|| (word.is_open && (0..=most).any(|taken| ends(&taken))).then_some(Fit::Part))
}

#[test]
fn the_judge_tells_true_from_false() {
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
    is("_start libc:x libc:y main a b b b d", Some(Fit::Whole));
    is("_start libc:x libc:y main a b b b c ld:z ld:z", Some(Fit::Whole));
    is("_start libc.so:x libc:y main", Some(Fit::Part));
    is("_start libcxx:x libc:y main", None);
    is("_start libc:x libc:y main a runs", Some(Fit::Part));
    is("_start libc:x libc:y main a b b", Some(Fit::Part));
    is("_start libc:x libc:y main ld:z", Some(Fit::Part));
    is("_start libc:x libc:y", None);
    is("_start libc:x main", None);
    is("libc:x libc:y main a", None);
    is("_start libc:x libc:y main b b b c", None);
    is("_start libc:x libc:y main a b b c", None);
    is("_start libc:x libc:y main a b b b b c", None);
    is("_start libc:x libc:y main a ld:z b", None);
}
