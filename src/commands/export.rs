//! `everytick agent --export`: the windows of a range of time, added up into one file.

use std::io;
use std::path::{Path, PathBuf};

use profile::pprof::proto as pb;
use profile::pprof::{MergeError, Merger};
use profile::{counted, thousands};
use upload::output::{OutputError, OutputFile, StackRoot};
use upload::sinks::directory::{self, Listing, ReadError};

/// Damaged windows that are named.
const NAMED_MAX: usize = 5;

/// What to export, and where to.
#[derive(Clone, Debug)]
pub struct Export {
    /// The directory that windows are in.
    pub store: PathBuf,
    /// Windows that began at or after this, nanoseconds since 1970...
    pub from_unix_ns: u64,
    /// ...and before this.
    pub to_unix_ns: u64,
    /// The file, whose ending tells the format.
    pub output: PathBuf,
    /// What stacks start with that are written as text.
    pub by: StackRoot,
}

/// What became of an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Windows that were added up.
    pub windows: u64,
    /// Their samples.
    pub samples: u64,
    /// What is not in it, and what else there is to say, a line each.
    pub notes: Vec<String>,
}

/// Why nothing was exported. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It ends before it begins.
    #[error("the range to export is empty; give FROM..TO with a FROM that is before TO")]
    Range,
    /// There is no store, or it may not be read.
    #[error(
        "cannot read the store {directory}: {source}; see whether the agent has the same directory in its configuration"
    )]
    Store {
        /// The directory.
        directory: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// No window can be exported.
    #[error("no window that began in this range can be read in {directory}; {there}")]
    Nothing {
        /// The directory.
        directory: PathBuf,
        /// What is there.
        there: String,
    },
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] OutputError),
}

/// Adds up the windows of a range and writes the file. Windows that are damaged are left out, and named.
///
/// # Errors
/// [`ExportError`]; then there is no file, or still the one that was there before.
pub fn export(what: &Export) -> Result<Exported, ExportError> {
    if what.from_unix_ns >= what.to_unix_ns {
        return Err(ExportError::Range);
    }
    let sink = OutputFile::new(what.output.clone(), what.by)?;
    let directory = &what.store;
    let unreadable = |source| ExportError::Store { directory: directory.clone(), source };
    let listing = directory::windows_in(directory, what.from_unix_ns, what.to_unix_ns);
    let (message, mut exported) = merge(&listing.map_err(unreadable)?);
    if exported.windows == 0 {
        exported.notes.push(extent(directory));
        let there = exported.notes.join("; ");
        return Err(ExportError::Nothing { directory: directory.clone(), there });
    }
    if message.period == 0 {
        let note = "the sampling frequency changed meanwhile: stacks are compared by CPU time, not by samples";
        exported.notes.push(note.into());
    }
    sink.write_message(&message)?;
    Ok(exported)
}

impl Exported {
    /// Says it in lines for a person.
    pub fn lines(&self, output: &Path) -> Vec<String> {
        let windows = counted(self.windows, "window", "windows");
        let samples = counted(self.samples, "sample", "samples");
        let mut lines = vec![format!("everytick: {samples} of {windows} in {}", output.display())];
        lines.extend(self.notes.iter().map(|note| format!("  note          {note}")));
        lines
    }
}

fn merge(listing: &Listing) -> (pb::Profile, Exported) {
    let mut merger = Merger::default();
    let mut damaged: Vec<String> =
        listing.damaged.iter().map(|path| format!("{}: it is no window", path.display())).collect();
    for window in &listing.windows {
        if let Err(error) = add(&mut merger, &window.path) {
            damaged.push(error);
        }
    }
    let windows = merger.messages();
    let message = merger.finish();
    let samples = message.sample.iter().filter_map(|sample| sample.value.first());
    let samples = samples.map(|count| (*count).max(0) as u64).sum();
    let mut notes = Vec::new();
    if !damaged.is_empty() {
        let left_out = counted(damaged.len() as u64, "window is", "windows are");
        damaged.truncate(NAMED_MAX);
        notes.push(format!("{left_out} damaged and left out: {}", damaged.join("; ")));
    }
    if listing.left_out > 0 {
        let left_out = thousands(listing.left_out);
        notes.push(format!("the last {left_out} windows are left out; export a shorter range"));
    }
    (message, Exported { windows, samples, notes })
}

/// Adds a window; says why not.
fn add(merger: &mut Merger, path: &Path) -> Result<(), String> {
    let message = directory::read(path).map_err(|error| match error {
        ReadError::File { source, .. } => format!("{}: {source}", path.display()),
        ReadError::Damaged { source, .. } => format!("{}: {source}", path.display()),
    })?;
    let in_words = |error: MergeError| format!("{}: {error}", path.display());
    merger.add(&message).map_err(in_words)
}

/// Says which windows a store has, as their files are named.
fn extent(directory: &Path) -> String {
    let entries = directory.read_dir().into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let begins = names.filter_map(|name| Some(name.strip_suffix(".pb.gz")?.to_owned()));
    let begins: Vec<String> = begins.collect();
    match begins.iter().min().zip(begins.iter().max()) {
        Some((first, last)) => format!("the windows there began from {first} to {last}"),
        None => "it holds no window yet".into(),
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

    /// A window of one second in which `app` was sampled in `main`.
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

    /// A store with a window each second from 0 on, with 1, 2, 3... samples.
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

    fn what(store: &Path, from: u64, to: u64, name: &str) -> Export {
        Export {
            store: store.to_owned(),
            from_unix_ns: from * SECOND,
            to_unix_ns: to * SECOND,
            output: store.join(name),
            by: StackRoot::Process,
        }
    }

    #[test]
    fn a_range_is_the_sum_of_its_windows_in_each_format() {
        let store = store(9);
        let of = |name| {
            let what = what(store.path(), 2, 5, name);
            let exported = export(&what).expect("there are windows");
            assert_eq!((exported.windows, exported.samples), (3, 3 + 4 + 5));
            assert_eq!(
                exported.lines(Path::new("x.svg")),
                ["everytick: 12 samples of 3 windows in x.svg"]
            );
            fs::read(&what.output).expect("it was written")
        };
        assert_eq!(String::from_utf8_lossy(&of("x.folded")), "app;main 12\n");
        assert!(String::from_utf8_lossy(&of("x.svg")).contains("main (12 samples, 100"));
        let message = decode(&of("x.pb.gz"), 1 << 20).expect("pprof");
        assert_eq!((message.time_nanos, message.duration_nanos), (2_000_000_000, 3_000_000_000));
        assert_eq!(message.sample.iter().map(|sample| sample.value[1]).sum::<i64>(), 120_000_000);
    }

    #[test]
    fn damaged_windows_are_named_and_left_out() {
        let store = store(3);
        put(&store, 1, b"no gzip at all");
        let mut other = window(2, 10_000_000, 7);
        other.string_table[1] = "bytes".into();
        put(&store, 2, &compress(&other));
        let exported = export(&what(store.path(), 0, 9, "x.folded")).expect("one is left");
        assert_eq!((exported.windows, exported.samples, exported.notes.len()), (1, 1, 1));
        let note = &exported.notes[0];
        assert!(note.starts_with("2 windows are damaged and left out: "), "{note}");
        assert!(note.contains("01.000Z.pb.gz: it is no window"), "{note}");
        assert!(note.contains("02.000Z.pb.gz: the profile counts bytes/count"), "{note}");
    }

    #[test]
    fn a_changed_frequency_is_told_and_time_is_drawn() {
        let store = store(1);
        put(&store, 1, &compress(&window(1, 50_000_000, 1)));
        let exported = export(&what(store.path(), 0, 9, "x.svg")).expect("two windows");
        assert!(exported.notes[0].starts_with("the sampling frequency changed"), "{exported:?}");
        let svg = fs::read_to_string(store.path().join("x.svg")).expect("it was written");
        assert!(svg.contains("main (60,000 microseconds of CPU time, 100"), "{svg}");
    }

    #[test]
    fn what_cannot_be_exported_is_told_in_a_sentence() {
        let store = store(3);
        let refused = |what: &Export| {
            let text = export(what).expect_err("nothing to export").to_string();
            assert!(!what.output.exists(), "{text}");
            text.replace(store.path().to_str().expect("UTF-8"), "STORE")
        };
        let range = what(store.path(), 5, 5, "x.svg");
        let expected = "the range to export is empty; give FROM..TO with a FROM that is before TO";
        assert_eq!(refused(&range), expected);
        assert_eq!(
            refused(&what(store.path(), 50, 60, "x.svg")),
            "no window that began in this range can be read in STORE; the windows there began from \
             19700101T000000.000Z to 19700101T000002.000Z"
        );
        assert_eq!(
            refused(&Export { store: "/nowhere".into(), ..what(store.path(), 0, 9, "x.svg") }),
            "cannot read the store /nowhere: No such file or directory (os error 2); see whether the \
             agent has the same directory in its configuration"
        );
        assert_eq!(
            refused(&what(store.path(), 0, 9, "x.txt")),
            "STORE/x.txt: the name must end in one of .svg, .pb.gz, .folded"
        );
    }
}
