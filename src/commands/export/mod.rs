//! `everytick agent --export`: merges the stored windows of a time range into one file.

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use profile::pprof::proto as pb;
use profile::pprof::{MergeError, Merger};
use profile::{pluralize, thousands};
use upload::output::{OutputError, OutputFile};
use upload::sinks::directory::{self, Listing, ReadError, StoredWindow};

use super::stored_agents::{self, Copies, SameTicks, SelectedWindows};
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
    /// The file to write.
    pub output: OutputFile,
    /// Only windows of these agents, `HOST` or `HOST/INSTANCE`; of all if empty.
    pub agents: Vec<String>,
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
    /// Two agents have sampled one machine at the same time.
    #[error(
        "{first} and {second} are windows of one machine and time, of the agents {} and {}: added \
         up, their ticks would count twice; {}",
        .ticks.agents[0], .ticks.agents[1], .ticks.advice(),
        first = .ticks.files[0].display(), second = .ticks.files[1].display()
    )]
    SameTicks {
        /// The windows.
        ticks: SameTicks,
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
    request.output.check_without_times()?;
    let directory = &request.store;
    let mut listing = directory::windows_in(directory, request.from_unix_ns, request.to_unix_ns)
        .map_err(|source| ExportError::Store { directory: directory.clone(), source })?;
    let windows = std::mem::take(&mut listing.windows);
    let SelectedWindows { windows, notes } = stored_agents::select(windows, &request.agents)
        .map_err(|ticks| ExportError::SameTicks { ticks })?;
    listing.windows = windows;
    let Merged { mut message, mut summary, spans } = merge(&listing);
    summary.notes.extend(notes);
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
    request.output.write_message(&message)?;
    Ok(summary)
}

impl ExportSummary {
    /// Formats the summary, one line each. `output`: name of the file that was written.
    pub fn lines(&self, output: &str) -> Vec<String> {
        let windows = pluralize(self.windows, "window", "windows");
        let samples = pluralize(self.samples, "sample", "samples");
        let mut lines = vec![format!("everytick: {samples} of {windows} in {output}")];
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
    let mut copies = Copies::default();
    for window in &listing.windows {
        match add(&mut merger, window, &mut copies) {
            Ok(true) => spans.push((window.start_unix_ns, window.duration_ns)),
            Ok(false) => {}
            Err(error) => damaged.push(error),
        }
    }
    let windows = merger.messages();
    let message = merger.finish();
    let samples = message.sample.iter().filter_map(|sample| sample.value.first());
    let samples = samples.map(|count| (*count).max(0) as u64).sum();
    let mut notes: Vec<String> = copies.describe().into_iter().collect();
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

/// Adds a window unless it is a copy, or returns the path and why it cannot be added.
fn add(merger: &mut Merger, window: &StoredWindow, copies: &mut Copies) -> Result<bool, String> {
    let path = &window.path;
    let message = directory::read(path).map_err(|error| match error {
        ReadError::File { source, .. } => format!("{}: {source}", path.display()),
        ReadError::Damaged { source, .. } => format!("{}: {source}", path.display()),
    })?;
    if copies.is_copy(window, &message) {
        return Ok(false);
    }
    let added = merger.add(&message).map(|()| true);
    added.map_err(|error: MergeError| format!("{}: {error}", path.display()))
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
