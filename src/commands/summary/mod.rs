//! The summary that `record` prints at the end: the machine, the functions, the health of the
//! profile, what was written, and what helps; the full ledger on request.

mod debug_packages;
mod details;
#[cfg(test)]
mod example;
mod hints;
mod jit_names;
mod json;
mod top_functions;

use std::collections::HashSet;
use std::fmt::Write;
use std::time::Duration;

use profile::{CaptureContext, ClockScope, Mapping, Profile, pluralize, printable, thousands};

use super::progress::percent_of_capacity;
use super::recording_loss::RecordingLoss;
use crate::debuginfod::DownloadCounts;
use debug_packages::debug_packages;
pub(super) use details::{Overhead, Quality, RecordingUsage};
use hints::Hints;
use top_functions::{TopFunction, table};

/// In shorter recordings the end is most of the overhead, and a share of time means nothing.
const SHORT: Duration = Duration::from_secs(1);

/// Longest line with names of files, in characters before they are escaped.
const LINE_MAX: usize = 1000;

/// What is known about a recording at its end.
pub(super) struct Summary<'a> {
    profile: &'a Profile,
    context: &'a CaptureContext,
    overhead: &'a Overhead,
    functions: Vec<TopFunction>,
    /// What the profile lacks.
    notes: Vec<String>,
    hints: Vec<String>,
    /// Lookups of debug info at servers.
    downloads: Option<DownloadCounts>,
    /// Files that were written.
    files: Vec<String>,
}

impl<'a> Summary<'a> {
    /// `files`: those that were written.
    pub fn new(
        profile: &'a Profile,
        context: &'a CaptureContext,
        overhead: &'a Overhead,
        quality: &Quality<'_>,
        files: Vec<String>,
    ) -> Self {
        let mut notes: Vec<String> =
            RecordingLoss::of(&profile.ledger).describe().into_iter().collect();
        notes.extend(details::notes(profile, quality, &overhead.counts));
        let functions = top_functions::top_functions(profile);
        let packages = |files: &[&Mapping]| debug_packages(files, quality.profiled);
        let hints = Hints { profile, context, names: quality.names, debug_packages: &packages };
        let (hints, downloads) = (hints.all(), quality.downloads);
        Self { profile, context, overhead, functions, notes, hints, downloads, files }
    }

    /// Formats the summary in lines. `is_verbose`: with every tick, and the overhead in parts.
    pub fn text(&self, is_verbose: bool) -> String {
        let mut text = self.title();
        text.push_str(&table(&self.functions, self.profile.ledger.aggregated));
        let _ = writeln!(text, "  health        {}", self.health());
        if is_verbose {
            text.push_str(&details::details(self.profile, self.overhead));
        }
        for (title, lines) in [("wrote", &self.files), ("note", &self.notes), ("hint", &self.hints)]
        {
            for line in lines {
                let _ = writeln!(text, "  {title:<13} {}", bounded(line));
            }
        }
        text
    }

    /// Returns how busy the machine was, and what was recorded of it.
    fn title(&self) -> String {
        let (profile, frequency) = (self.profile, self.context.frequency);
        let cpus = self.context.cpus_text();
        let busy = profile.busy_share().map_or(String::new(), |share| format!(": {share}"));
        let processes: HashSet<_> = profile.tasks.iter().map(|task| task.pid).collect();
        format!(
            "everytick: {cpus} in {:.1} s at {frequency} Hz{busy}; {} of {}\n",
            self.elapsed().as_secs_f64(),
            pluralize(profile.ledger.aggregated, "sample", "samples"),
            pluralize(processes.len() as u64, "process", "processes"),
        )
    }

    /// Returns the quality of the profile, and what it has cost, in one line.
    fn health(&self) -> String {
        let complete = match self.complete_share() {
            Some(share) => format!("{:.1} % of stacks complete", 100.0 * share),
            None => "no stacks".into(),
        };
        let lost = thousands(self.profile.ledger.lost_total());
        let overhead = match self.elapsed() < SHORT {
            true => format!("{} ms of CPU time", self.overhead.while_recording().as_millis()),
            false => format!("{:.2} %", self.overhead_percent()),
        };
        let of_perf = match self.profile.ledger.clocks {
            ClockScope::Cpus => "",
            ClockScope::Tasks => " without perf's",
        };
        format!("{complete}, {lost} lost, overhead {overhead}{of_perf}")
    }

    /// Returns the part of samples whose stacks are complete; `None` without a sample.
    fn complete_share(&self) -> Option<f64> {
        let is_complete = |key: &profile::SampleKey| {
            !key.user_end.is_cut() && !key.kernel_end.is_cut() && !key.guessed
        };
        let samples = self.profile.samples.iter();
        let (all, complete) = samples.fold((0, 0), |(all, complete), sample| {
            let count = sample.count;
            (all + count, complete + if is_complete(&sample.key) { count } else { 0 })
        });
        (all > 0).then(|| complete as f64 / all as f64)
    }

    /// Returns the overhead while it recorded, in percent of the capacity of all CPUs.
    fn overhead_percent(&self) -> f64 {
        percent_of_capacity(self.overhead.while_recording(), self.overhead.recording.elapsed)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.profile.duration_ns)
    }
}

/// Returns the start of a line, fit for a terminal: a path has up to 4,096 bytes.
fn bounded(line: &str) -> String {
    match line.char_indices().nth(LINE_MAX) {
        Some((end, _)) => format!("{}...", printable(&line[..end])),
        None => printable(line).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_names_of_files_are_bounded_and_escaped() {
        assert_eq!(bounded("/a\n\u{202e}b"), "/a\\n\\u{202e}b");
        let long = bounded(&format!("/{}", "\u{1b}/".repeat(2_000)));
        assert!(long.len() < 4_096 && long.ends_with("..."), "{long}");
        assert!(!long.contains('\u{1b}'), "{long}");
    }
}
