//! `everytick agent --export`: merges the stored windows of a time range into one file.

use std::io;
use std::path::{Path, PathBuf};

use profile::pprof::proto as pb;
use profile::pprof::{MergeError, Merger};
use profile::{pluralize, thousands};
use upload::output::{OutputError, OutputFile, StackRoot};
use upload::sinks::directory::{self, Listing, ReadError};

use super::unsampled::{Span, describe_gaps, describe_ticks};

/// Maximum number of damaged windows that are listed.
const DAMAGED_LISTED_MAX: usize = 5;

/// What to export, and where to.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    /// Directory of the stored windows.
    pub store: PathBuf,
    /// Start of the range, nanoseconds since 1970. Windows belong to the range if they started in
    /// it.
    pub from_unix_ns: u64,
    /// End of the range, exclusive.
    pub to_unix_ns: u64,
    /// The file to write. Its extension selects the format.
    pub output: PathBuf,
    /// Root frames of stacks in flamegraphs and folded text.
    pub by: StackRoot,
}

/// Result of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportSummary {
    /// Windows merged.
    pub windows: u64,
    /// Samples of these windows.
    pub samples: u64,
    /// What the file lacks, one line each.
    pub notes: Vec<String>,
}

/// Why nothing was exported, with the next step.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The range ends before it starts.
    #[error("the range to export is empty; give FROM..TO with FROM before TO")]
    Range,
    /// The store does not exist or is not readable.
    #[error(
        "cannot read the store {directory}: {source}; check that the agent's configuration has the \
         same directory"
    )]
    Store {
        /// The directory.
        directory: PathBuf,
        /// Error of the system call.
        source: io::Error,
    },
    /// The range has no readable window.
    #[error("no readable window in {directory} started in this range; {available}")]
    Empty {
        /// The directory.
        directory: PathBuf,
        /// The windows that the store has.
        available: String,
    },
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] OutputError),
}

/// Merges the windows of a range and writes the file. Damaged windows are left out, with a note.
///
/// # Errors
/// [`ExportError`]; the output file is then unchanged.
pub fn export(request: &ExportRequest) -> Result<ExportSummary, ExportError> {
    if request.from_unix_ns >= request.to_unix_ns {
        return Err(ExportError::Range);
    }
    let sink = OutputFile::new(request.output.clone(), request.by)?;
    let directory = &request.store;
    let listing = directory::windows_in(directory, request.from_unix_ns, request.to_unix_ns)
        .map_err(|source| ExportError::Store { directory: directory.clone(), source })?;
    let Merged { mut message, mut summary, spans } = merge(&listing);
    if summary.windows == 0 {
        summary.notes.push(describe_store(directory));
        let available = summary.notes.join("; ");
        return Err(ExportError::Empty { directory: directory.clone(), available });
    }
    if message.period == 0 {
        let note = "the sampling frequency changed within the range: stacks are weighted by CPU \
                    time, not by samples";
        summary.notes.push(note.into());
    }
    let mut unsampled: Vec<String> = describe_ticks(&message).into_iter().collect();
    unsampled.extend(describe_gaps(&spans, request.from_unix_ns, request.to_unix_ns));
    unsampled.iter().for_each(|note| add_comment(&mut message, note));
    summary.notes.extend(unsampled);
    sink.write_message(&message)?;
    Ok(summary)
}

impl ExportSummary {
    /// Formats the summary, one line each. `output`: the file that was written.
    pub fn lines(&self, output: &Path) -> Vec<String> {
        let windows = pluralize(self.windows, "window", "windows");
        let samples = pluralize(self.samples, "sample", "samples");
        let mut lines = vec![format!("everytick: {samples} of {windows} in {}", output.display())];
        lines.extend(self.notes.iter().map(|note| format!("  note          {note}")));
        lines
    }
}

fn add_comment(message: &mut pb::Profile, comment: &str) {
    message.comment.push(message.string_table.len() as i64);
    message.string_table.push(comment.to_owned());
}

/// The sum of the readable windows of a listing.
struct Merged {
    message: pb::Profile,
    summary: ExportSummary,
    /// The windows that it has.
    spans: Vec<Span>,
}

fn merge(listing: &Listing) -> Merged {
    let (mut merger, mut spans) = (Merger::default(), Vec::new());
    let not_windows = listing.damaged.iter();
    let mut damaged: Vec<String> =
        not_windows.map(|path| format!("{}: not a window", path.display())).collect();
    for window in &listing.windows {
        match add(&mut merger, &window.path) {
            Ok(()) => spans.push((window.start_unix_ns, window.duration_ns)),
            Err(error) => damaged.push(error),
        }
    }
    let windows = merger.messages();
    let message = merger.finish();
    let samples = message.sample.iter().filter_map(|sample| sample.value.first());
    let samples = samples.map(|count| (*count).max(0) as u64).sum();
    let mut notes = Vec::new();
    if !damaged.is_empty() {
        let count = pluralize(damaged.len() as u64, "damaged window", "damaged windows");
        damaged.truncate(DAMAGED_LISTED_MAX);
        notes.push(format!("{count} left out: {}", damaged.join("; ")));
    }
    if listing.left_out > 0 {
        let count = thousands(listing.left_out);
        notes.push(format!("the last {count} windows are left out; export a shorter range"));
    }
    Merged { message, summary: ExportSummary { windows, samples, notes }, spans }
}

/// Adds a window, or returns the path and why it cannot be added.
fn add(merger: &mut Merger, path: &Path) -> Result<(), String> {
    let message = directory::read(path).map_err(|error| match error {
        ReadError::File { source, .. } => format!("{}: {source}", path.display()),
        ReadError::Damaged { source, .. } => format!("{}: {source}", path.display()),
    })?;
    merger.add(&message).map_err(|error: MergeError| format!("{}: {error}", path.display()))
}

/// Describes which windows a store has, by the names of their files.
fn describe_store(directory: &Path) -> String {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let starts = names.filter_map(|name| Some(name.strip_suffix(".pb.gz")?.to_owned()));
    let starts: Vec<String> = starts.collect();
    match starts.iter().min().zip(starts.iter().max()) {
        Some((first, last)) => format!("its windows started from {first} to {last}"),
        None => "it has no windows yet".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use profile::pprof::{SampleGrouping, compress, decode, to_message};
    use profile::{
        FileAddr, Function, Labels, Line, Mapping, MappingKind, Pid, Profile, SampleCount,
        SampleKey, StackEnd, StackId, SymbolizedFrame, Task, TaskId, Tid,
    };

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Returns a window of one second in which `app` was sampled in `main`.
    fn window(start: u64, period_ns: u64, count: u64) -> pb::Profile {
        let labels = Labels::from([("comm", "app"), ("node", "n")]);
        let (task, stack) = (TaskId(0), StackId(0));
        let (kernel_end, user_end) = (StackEnd::Absent, StackEnd::Complete);
        let key = SampleKey { task, stack, kernel_end, user_end, guessed: false };
        let profile = Profile {
            start_unix_ns: start * SECOND,
            duration_ns: SECOND,
            period_ns,
            mappings: vec![Mapping {
                name: "/bin/app".into(),
                build_id: None,
                kind: MappingKind::File,
            }],
            functions: vec![Function { name: "main".into(), ..Function::default() }],
            frames: vec![SymbolizedFrame {
                mapping: 0,
                address: FileAddr(start),
                lines: vec![Line { function: 0, line: 1 }],
            }],
            stacks: vec![Box::new([0])],
            tasks: vec![Task {
                pid: Pid(1),
                tid: Tid(1),
                comm: "app".into(),
                thread: "app".into(),
                cgroup_id: 1,
                labels: labels.into(),
            }],
            samples: vec![SampleCount { key, count }],
            ..Profile::default()
        };
        to_message(&profile, SampleGrouping::BySeries)
    }

    /// Creates a store with a window each second from 0 on, with 1, 2, 3... samples.
    fn store(windows: u64) -> tempfile::TempDir {
        let store = tempfile::tempdir().expect("a directory");
        for start in 0..windows {
            put(&store, start, &compress(&window(start, 10_000_000, start + 1)));
        }
        store
    }

    fn put(store: &tempfile::TempDir, start: u64, bytes: &[u8]) {
        let name = format!("19700101T0000{start:02}.000Z.pb.gz");
        fs::write(store.path().join(name), bytes).expect("a file");
    }

    fn request(store: &Path, from: u64, to: u64, name: &str) -> ExportRequest {
        ExportRequest {
            store: store.to_owned(),
            from_unix_ns: from * SECOND,
            to_unix_ns: to * SECOND,
            output: store.join(name),
            by: StackRoot::Process,
        }
    }

    #[test]
    fn range_is_the_sum_of_its_windows_in_each_format() {
        let store = store(9);
        let of = |name| {
            let request = request(store.path(), 2, 5, name);
            let summary = export(&request).expect("there are windows");
            assert_eq!((summary.windows, summary.samples), (3, 3 + 4 + 5));
            assert_eq!(
                summary.lines(Path::new("x.svg")),
                ["everytick: 12 samples of 3 windows in x.svg"]
            );
            fs::read(&request.output).expect("it was written")
        };
        assert_eq!(String::from_utf8_lossy(&of("x.folded")), "app;main 12\n");
        assert!(String::from_utf8_lossy(&of("x.svg")).contains("main (12 samples, 100"));
        let message = decode(&of("x.pb.gz"), 1 << 20).expect("pprof");
        assert_eq!((message.time_nanos, message.duration_nanos), (2_000_000_000, 3_000_000_000));
        assert_eq!(message.sample.iter().map(|sample| sample.value[1]).sum::<i64>(), 120_000_000);
    }

    #[test]
    fn damaged_windows_are_listed_and_left_out() {
        let store = store(3);
        put(&store, 1, b"no gzip at all");
        let mut other = window(2, 10_000_000, 7);
        other.string_table[1] = "bytes".into();
        put(&store, 2, &compress(&other));
        let summary = export(&request(store.path(), 0, 9, "x.folded")).expect("one is left");
        assert_eq!((summary.windows, summary.samples, summary.notes.len()), (1, 1, 1));
        let note = &summary.notes[0];
        assert!(note.starts_with("2 damaged windows left out: "), "{note}");
        assert!(note.contains("01.000Z.pb.gz: not a window"), "{note}");
        assert!(note.contains("02.000Z.pb.gz: the profile counts bytes/count"), "{note}");
    }

    #[test]
    fn frequency_change_is_noted_and_time_is_drawn() {
        let store = store(1);
        put(&store, 1, &compress(&window(1, 50_000_000, 1)));
        let summary = export(&request(store.path(), 0, 9, "x.svg")).expect("two windows");
        assert!(summary.notes[0].starts_with("the sampling frequency changed"), "{summary:?}");
        let svg = fs::read_to_string(store.path().join("x.svg")).expect("it was written");
        assert!(svg.contains("main (60,000 microseconds of CPU time, 100"), "{svg}");
    }

    #[test]
    fn ticks_not_sampled_and_gaps_are_notes_and_comments() {
        let store = store(2);
        let mut last = window(40, 10_000_000, 3);
        let texts = [
            "due 100 = ticks 3 + missed 1 + not sampled 96 (budget: 90, gap: 6)",
            "ticks 3 = emitted 3 + skipped 0",
            "emitted 3 = aggregated 3 + lost 0",
        ];
        let ledger = last.comment.len() - texts.len();
        for (index, text) in last.comment.split_off(ledger).into_iter().zip(texts) {
            last.string_table[index as usize] = text.to_owned();
            last.comment.push(index);
        }
        put(&store, 40, &compress(&last));
        let request = request(store.path(), 0, 80, "x.pb.gz");
        let summary = export(&request).expect("three windows");
        let expected = [
            "96 of 100 due ticks were not sampled (budget 90, gap 6): 96.0 % of 3 s, as if 3 s \
             were blind",
            "no profiles between 1970-01-01T00:00:02Z and 1970-01-01T00:00:40Z (38 s)",
            "no profiles between 1970-01-01T00:00:41Z and 1970-01-01T00:01:20Z (39 s)",
        ];
        assert_eq!(summary.notes, expected);
        let bytes = fs::read(&request.output).expect("it was written");
        let message = decode(&bytes, 1 << 20).expect("pprof");
        let comments: Vec<&str> =
            message.comment.iter().map(|at| &*message.string_table[*at as usize]).collect();
        assert!(expected.iter().all(|note| comments.contains(note)), "{comments:?}");
    }

    #[test]
    fn errors_are_one_sentence_with_the_next_step() {
        let store = store(3);
        let error_of = |request: &ExportRequest| {
            let text = export(request).expect_err("nothing to export").to_string();
            assert!(!request.output.exists(), "{text}");
            text.replace(store.path().to_str().expect("UTF-8"), "STORE")
        };
        let empty = request(store.path(), 5, 5, "x.svg");
        let expected = "the range to export is empty; give FROM..TO with FROM before TO";
        assert_eq!(error_of(&empty), expected);
        assert_eq!(
            error_of(&request(store.path(), 50, 60, "x.svg")),
            "no readable window in STORE started in this range; its windows started from \
             19700101T000000.000Z to 19700101T000002.000Z"
        );
        assert_eq!(
            error_of(&ExportRequest {
                store: "/nowhere".into(),
                ..request(store.path(), 0, 9, "x.svg")
            }),
            "cannot read the store /nowhere: No such file or directory (os error 2); check that \
             the agent's configuration has the same directory"
        );
        assert_eq!(
            error_of(&request(store.path(), 0, 9, "x.txt")),
            "STORE/x.txt: the name must end in one of .svg, .pb.gz, .folded"
        );
    }
}
