//! Text as `perf script` prints it: a block of lines for each sample, the innermost frame first.
//!
//! It is read by stackcollapse-perf.pl of FlameGraph, inferno, speedscope and the Firefox Profiler.
//! None of them specifies the format. What is written here is what each of the four parsers reads
//! in full: names are escaped where one of them would take a part for something else.
//!
//! - A line that begins with `#` is a comment, wherever it is.
//! - The name of a thread ends at the first number or slash that follows white space.
//! - An offset such as `+0x1f` at the end of a name is omitted.
//! - A frame whose name begins with `(` is omitted, `->` separates inlined functions, and a module
//!   ends at white space.
//! - A sample without a frame does not count.
//! - The Firefox Profiler ignores periods, so that each sample has a block of its own.
//! - speedscope ignores periods too: a sample weighs half the time to the sample before it and half
//!   the time to the one after it, in the same thread.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use profile::{Cpu, Profile, SampleCount, Task, TimedSample, Timeline};

use super::named_frame::{NamedFrame, functions_of, markers, shown};

/// Writes the samples of a profile, with their times if it has them. Without, the samples of each
/// thread follow each other as if it had run without a pause.
///
/// # Errors
/// Those of `out`.
pub(super) fn write(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    header(profile, out)?;
    match &profile.timeline {
        Some(timeline) => write_timed(profile, timeline, out),
        None => write_counted(profile, out),
    }
}

fn header(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# ========")?; // by which the Firefox Profiler recognizes the format
    for comment in &profile.comments {
        writeln!(out, "# {}", shown(comment))?;
    }
    writeln!(out, "# each sample stands for {} ns of CPU time", profile.period_ns)?;
    match &profile.timeline {
        Some(Timeline { times, .. }) if times.left_out() > 0 => {
            writeln!(out, "# {} samples are missing: their times did not fit", times.left_out())?;
        }
        Some(_) => {}
        None => writeln!(
            out,
            "# the times of samples were not kept: in each thread, samples follow each other"
        )?,
    }
    writeln!(out, "# ========")
}

fn write_counted(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let threads = Threads::of(profile);
    let mut written: HashMap<(u32, u32), u64> = HashMap::new();
    for sample in &profile.samples {
        let task = sample.key.task.0 as usize;
        let stack = stack(profile, sample);
        let before = written.entry(threads.numbers[task]).or_default();
        for _ in 0..sample.count {
            let time_ns = *before * profile.period_ns;
            *before += 1;
            threads.write_event(task, None, time_ns, out)?;
            out.write_all(stack.as_bytes())?;
        }
    }
    Ok(())
}

fn write_timed(profile: &Profile, timeline: &Timeline, out: &mut dyn Write) -> io::Result<()> {
    let threads = Threads::of(profile);
    for TimedSample { time_ns, cpu, sample } in timeline.times.iter() {
        let Some(sample) = profile.samples.get(sample.0 as usize) else { continue };
        threads.write_event(sample.key.task.0 as usize, Some(*cpu), *time_ns, out)?;
        out.write_all(stack(profile, sample).as_bytes())?;
    }
    Ok(())
}

/// Name and numbers of each thread.
struct Threads {
    /// What has ticked.
    event: &'static str,
    names: Vec<String>,
    numbers: Vec<(u32, u32)>,
}

impl Threads {
    fn of(profile: &Profile) -> Self {
        let tasks = profile.tasks.iter().zip(1..);
        let numbers = |(task, number): (&Task, u32)| match is_series(task) {
            // A series has no number, but readers tell threads apart by theirs.
            true => (0, number),
            false => (task.pid.0, task.tid.0),
        };
        Self {
            event: profile.ledger.clocks.perf_event(),
            names: profile.tasks.iter().map(thread_name).collect(),
            numbers: tasks.map(numbers).collect(),
        }
    }

    /// Writes the first line of a sample's block.
    fn write_event(
        &self,
        task: usize,
        cpu: Option<Cpu>,
        time_ns: u64,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let (name, (pid, tid)) = (&self.names[task], self.numbers[task]);
        // The second space is for names of one letter.
        write!(out, "{name}  {pid}/{tid} ")?;
        if let Some(Cpu(cpu)) = cpu {
            write!(out, "[{cpu:03}] ")?;
        }
        let (seconds, nanoseconds) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
        writeln!(out, "{seconds}.{nanoseconds:09}: {}: ", self.event)
    }
}

/// Whether a task is a series of the agent, which has neither process nor thread.
fn is_series(task: &Task) -> bool {
    (task.pid.0, task.tid.0) == (0, 0) && task.thread.is_empty()
}

/// Returns the name of a thread as no reader takes it for anything else.
fn thread_name(task: &Task) -> String {
    let name = if task.thread.is_empty() { &task.comm } else { &task.thread };
    let mut text = String::new();
    for c in shown(name).chars() {
        match (text.chars().last(), c) {
            (None, '#' | '{') => text.extend(['_', c]), // a comment; JSON
            (_, ';') => text.push(':'),                 // between frames
            (None, c) if c.is_whitespace() => text.push('_'),
            (Some(last), c) if last.is_whitespace() && (c.is_numeric() || c == '/') => {
                text.pop();
                text.push('_');
                text.push(c);
            }
            _ => text.push(c),
        }
    }
    text
}

/// Formats the frames of a sample, a line each, and the empty line at the end of its block.
fn stack(profile: &Profile, sample: &SampleCount) -> String {
    let mut text = String::new();
    for frame in profile.frames_of(sample) {
        for function in functions_of(profile, frame) {
            let _ = write!(text, "\t{:16x} ", function.address);
            let _ = writeln!(text, "{} ({})", function_name(&function), module(&function));
        }
    }
    let mut markers: Vec<String> = markers(sample).collect();
    if text.is_empty() && markers.is_empty() {
        markers.push(UNKNOWN.into());
    }
    for marker in markers.iter().rev() {
        let _ = writeln!(text, "\t{:16x} {marker} ({UNKNOWN})", 0);
    }
    text.push('\n');
    text
}

/// The name that perf gives to functions and modules without one.
const UNKNOWN: &str = "[unknown]";

/// Returns the name of a function as each reader takes it in full.
fn function_name(function: &NamedFrame<'_>) -> String {
    let Some(name) = function.name_with_place() else { return UNKNOWN.into() };
    let name = shown(&name).trim().replace("->", "- >").replace(';', ":");
    let mut name = match name.chars().next() {
        None => UNKNOWN.into(),
        Some('(') => format!("::{name}"), // C++ for the namespace that all others are in
        Some(_) => name,
    };
    while ends_in_offset(&name) || !is_boundary(&name) {
        name.push('_');
    }
    name
}

/// Whether readers take the end of a name for an offset, and omit it.
fn ends_in_offset(name: &str) -> bool {
    let offset = name.rsplit_once("+0x").map(|(_, offset)| offset);
    offset.is_some_and(|offset| offset.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Whether no character lies across the place where inferno searches for the hash of Rust's names:
/// it panics at one.
fn is_boundary(name: &str) -> bool {
    const HASH_BYTES: usize = 17;
    name.len() < HASH_BYTES || name.is_char_boundary(name.len() - HASH_BYTES)
}

fn module(function: &NamedFrame<'_>) -> String {
    if function.is_inlined {
        return "inlined".into();
    }
    let name = shown(&function.mapping.name);
    let one = |c: char| match c {
        '(' => '[',
        ')' => ']',
        c if c.is_whitespace() => '_',
        c => c,
    };
    name.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use profile::{SampleId, SampleTimes};

    use super::super::folded::tests::example;
    use super::super::runtime_frames::tests::python_example;
    use super::*;

    fn text(profile: &Profile) -> String {
        let mut text = Vec::new();
        write(profile, &mut text).expect("written");
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn samples_without_times_follow_each_other() {
        let text = text(&example());
        let expected = [
            "# ========",
            "# each sample stands for 10101010 ns of CPU time",
            "# the times of samples were not kept: in each thread, samples follow each other",
            "# ========",
            "worker  1/2 0.000000000: cpu-clock: ",
            "\t               1 vfs_read ([kernel.kallsyms])",
            "\t               2 inner (inlined)",
            "\t               2 outer (/usr/bin/app)",
            "\t            1234 [unknown] (/usr/bin/app)",
            "",
            "worker  1/2 0.010101010: cpu-clock: ",
            "\t            1234 [unknown] (/usr/bin/app)",
            "\t               0 [cut: no unwind row] ([unknown])",
            "",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn python_functions_have_their_place_and_machinery_its_file() {
        let text = text(&python_example());
        let stack: Vec<&str> = text.lines().skip(5).take(6).collect();
        let expected = [
            "\t              40 encode (/lib/speedups.so)",
            "\t               0 App.work (app.py:5) ([python])",
            "\t              10 run_eval (/usr/bin/python3_[interpreter])",
            "\t               0 <module> (app.py:9) ([python])",
            "\t              20 run_eval (/usr/bin/python3_[interpreter])",
            "\t              30 [unknown] (/usr/bin/python3_[interpreter])",
        ];
        assert_eq!(stack, expected);
    }

    #[test]
    fn samples_with_times_are_in_their_order() {
        let mut times = SampleTimes::new(1 << 10);
        for (time_ns, cpu, sample) in [(1_500_000_000, 1, 1), (1_700_000_001, 10, 0)] {
            times.add(TimedSample { time_ns, cpu: Cpu(cpu), sample: SampleId(sample) });
        }
        let profile =
            Profile { timeline: Some(Timeline { start_ns: 1_000_000_000, times }), ..example() };
        let text = text(&profile);
        let events: Vec<&str> = text.lines().filter(|line| line.contains("cpu-clock")).collect();
        assert_eq!(
            events,
            [
                "worker  1/2 [001] 1.500000000: cpu-clock: ",
                "worker  1/2 [010] 1.700000001: cpu-clock: "
            ]
        );
    }

    #[test]
    fn names_that_a_reader_takes_for_something_else_are_escaped() {
        let check = |name: &str, expected: &str| {
            let mut profile = example();
            profile.tasks.iter_mut().for_each(|task| task.thread = name.into());
            assert_eq!(Threads::of(&profile).names[0], expected);
        };
        check("V8 WorkerThread", "V8 WorkerThread");
        check("Thread 1", "Thread_1");
        check("a / b: c;d", "a_/ b: c:d");
        check("#comment", "_#comment");
        check(" x 2 3.5: y", "_x_2_3.5: y");
        check("a\n\nb 1", "a\\n\\nb_1");
    }

    #[test]
    fn functions_keep_their_whole_name() {
        let check = |name: &str, expected: &str| {
            let mut profile = example();
            profile.functions.iter_mut().for_each(|function| function.name = name.into());
            let text = text(&profile);
            let line = text.lines().find(|line| line.contains("(inlined)")).expect("a line");
            assert_eq!(line, format!("\t               2 {expected} (inlined)"));
        };
        check("f(int)", "f(int)");
        check("(anonymous namespace)::f(int)", "::(anonymous namespace)::f(int)");
        check("ptr::operator->() const", "ptr::operator- >() const");
        check("f+0x12", "f+0x12_");
        check(" ", "[unknown]");
        check("größe λ 漢字 🦀", "größe λ 漢字 🦀_");
    }
}
