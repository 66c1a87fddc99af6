//! The details of a recording: every tick, how stacks ended, unwind tables and overhead.

use std::fmt::Write;
use std::time::{Duration, Instant};

use profile::{ClockScope, Profile, pluralize, printable, thousands};

use super::super::load_diagnostics::setcap_command;
use super::super::progress::percent_of_capacity;
use crate::debuginfod::DownloadCounts;
use crate::host::TaskAccess;
use crate::processes::{Executables, WindowExecutables};
use crate::session::{CpuCounts, SamplerTime, SessionCounts};
use crate::symbolization::{
    SymbolizeError, UnsymbolizedExecutable, WindowNames, is_kernel_unsymbolized, quality,
};
use crate::tables::TableCounts;
use crate::workers::Usage;

/// Executables without symbols that are named.
const EXECUTABLES_MAX: usize = 5;

/// The recording's own overhead.
pub(in crate::commands) struct Overhead {
    pub counts: SessionCounts,
    /// From the first tick on until all samples were resolved.
    pub recording: RecordingUsage,
    pub symbolizer: Usage,
}

/// What this process has used while it recorded.
#[derive(Clone, Copy)]
pub(in crate::commands) struct RecordingUsage {
    own_cpu: Duration,
    pub elapsed: Duration,
}

impl RecordingUsage {
    /// Returns the use since a time. `own_cpu`: CPU time of this process at that time.
    pub fn since(start: Instant, own_cpu: Duration) -> Self {
        Self { own_cpu: Usage::own().cpu.saturating_sub(own_cpu), elapsed: start.elapsed() }
    }
}

/// What the profile lacks.
pub(in crate::commands) struct Quality<'a> {
    pub names: &'a WindowNames,
    pub executables: &'a Executables,
    /// The executables that the profile has frames in.
    pub profiled: &'a WindowExecutables,
    /// Processes read from /proc again after the start.
    pub processes_refreshed: u64,
    /// What may be sampled, if not everything.
    pub access: Option<TaskAccess>,
    /// Lookups of debug info at servers.
    pub downloads: Option<DownloadCounts>,
    /// How a server failed last.
    pub download_failure: Option<String>,
}

impl Overhead {
    /// Returns the CPU time of everything that profiled, with the start, names and files.
    pub fn cpu(&self) -> Duration {
        let SessionCounts { sampler, file_helper, .. } = &self.counts;
        Usage::own().cpu + file_helper.cpu + sampler.total + self.symbolizer.cpu
    }

    /// Returns the CPU time while it recorded: what the profiled programs could notice.
    pub fn while_recording(&self) -> Duration {
        let SessionCounts { sampler, file_helper, .. } = &self.counts;
        self.recording.own_cpu + file_helper.cpu + sampler.total
    }
}

/// Formats the ledger, how stacks ended, unwind tables and overhead.
pub(super) fn details(profile: &Profile, overhead: &Overhead) -> String {
    let mut text = String::new();
    for line in quality(&profile.ledger) {
        let _ = writeln!(text, "  {line}");
    }
    for line in profile.ledger.to_string().lines() {
        let _ = writeln!(text, "  ticks         {line}");
    }
    text.push_str(&unwinding(&overhead.counts));
    text.push_str(&runtimes(&overhead.counts));
    let elapsed = Duration::from_nanos(profile.duration_ns);
    text.push_str(&overhead_lines(overhead, profile.ledger.clocks, elapsed));
    text
}

/// Returns notes about what the profile lacks.
pub(super) fn notes(
    profile: &Profile,
    quality: &Quality<'_>,
    session: &SessionCounts,
) -> Vec<String> {
    let mut notes: Vec<String> = quality.access.map(access_note).into_iter().collect();
    notes.extend(symbol_notes(profile, quality.names));
    notes.extend(quality.downloads.iter().flat_map(DownloadCounts::describe));
    notes.extend(quality.download_failure.iter().map(|failure| format!("debuginfod: {failure}")));
    if session.side_band_lost > 0 {
        notes.push(format!(
            "{} process events lost; {} read from /proc again, stacks in between may lack frames",
            thousands(session.side_band_lost),
            pluralize(quality.processes_refreshed, "process", "processes"),
        ));
    }
    notes.extend(cpu_note(&session.cpus));
    notes.extend(runtime_notes(session));
    notes.extend(table_notes(&session.tables));
    let executables = quality.executables;
    notes.extend(counts_above_zero([
        (session.tasks.throttled, "times the kernel stopped a clock for a while; lower -F"),
        (
            session.tasks.maybe_missing,
            "threads may be missing: they began while everytick attached to their process",
        ),
        (session.not_followed, "child processes are missing: there were too many to follow"),
        (executables.unopened(), "executables could not be opened in time"),
        (executables.unanswered(), "of these are on a file system that did not answer"),
    ]));
    notes
}

/// Returns a note about what a user without capabilities may not sample.
fn access_note(access: TaskAccess) -> String {
    let missing = match access.samples_kernel {
        true => "other processes are",
        false => "kernel code and other processes are",
    };
    let command = setcap_command();
    format!("{missing} not sampled without capabilities; use sudo, or once `{command}`")
}

/// Returns a note about CPUs that came and went.
fn cpu_note(cpus: &CpuCounts) -> Option<String> {
    let CpuCounts { came_online, went_offline, .. } = *cpus;
    (came_online + went_offline > 0).then(|| {
        format!(
            "CPUs came online {}, went offline {}; ticks were due while they were online",
            pluralize(came_online, "time", "times"),
            pluralize(went_offline, "time", "times"),
        )
    })
}

fn symbol_notes(profile: &Profile, names: &WindowNames) -> Vec<String> {
    let mut notes = Vec::new();
    let is_hidden = |reason: &SymbolizeError| matches!(reason, SymbolizeError::KernelHidden(_));
    let (kernel, unsymbolized): (Vec<_>, Vec<_>) =
        names.failed.iter().partition(|failed| is_hidden(&failed.reason));
    match kernel.first() {
        Some(kernel) => notes.push(format!("no symbols in the kernel: {}", kernel.reason)),
        None if is_kernel_unsymbolized(profile) => notes.push("no symbols in the kernel".into()),
        None => {}
    }
    for (reason, frames) in names.counts.refused_perf_maps() {
        let frames = pluralize(frames, "frame", "frames");
        notes.push(format!("no name for {frames} of a JIT compiler: {}", reason.text()));
    }
    if names.counts.cut > 0 {
        let cut = pluralize(names.counts.cut, "name was", "names were");
        notes.push(format!("{cut} cut, because they are too long"));
    }
    if names.counts.without_debug_info > 0 {
        let files = pluralize(names.counts.without_debug_info, "executable", "executables");
        notes.push(format!("debug info of {files} not read: it takes too much or is malformed"));
    }
    for UnsymbolizedExecutable { executable, reason } in unsymbolized.iter().take(EXECUTABLES_MAX) {
        notes.push(format!("no symbols in {}: {reason}", printable(executable)));
    }
    let more = unsymbolized.len().saturating_sub(EXECUTABLES_MAX);
    if more > 0 {
        notes.push(format!("no symbols in {more} more executables"));
    }
    notes
}

fn unwinding(session: &SessionCounts) -> String {
    let SessionCounts { tables, finished, .. } = session;
    let from_cache = match tables.cache.loaded {
        0 => String::new(),
        taken => format!(", {} from the cache", thousands(taken)),
    };
    format!(
        "  unwinding     {} with {}{from_cache}; {} finished in user space\n",
        pluralize(tables.tables, "table", "tables"),
        pluralize(tables.rows, "row", "rows"),
        pluralize(*finished, "stack", "stacks"),
    )
}

/// Returns which interpreters processes run; nothing if there are none.
fn runtimes(session: &SessionCounts) -> String {
    let walked: Vec<String> = session
        .runtimes
        .walked()
        .map(|(runtime, count)| {
            format!("{runtime} in {}", pluralize(count, "process", "processes"))
        })
        .collect();
    if walked.is_empty() {
        String::new()
    } else {
        format!("  runtimes      {}\n", walked.join(", "))
    }
}

/// Returns notes about interpreters whose functions have no frames.
fn runtime_notes(session: &SessionCounts) -> impl Iterator<Item = String> {
    session.runtimes.refused().map(|(error, count)| {
        let processes = pluralize(count, "process", "processes");
        format!("no functions of the interpreter of {processes}: {}", error.text())
    })
}

/// Returns notes about unwind tables that are missing.
fn table_notes(tables: &TableCounts) -> Vec<String> {
    let cause = tables.cache.error().to_string();
    let not_stored = format!("tables could not be written to the cache: {}", printable(&cause));
    counts_above_zero([
        (tables.evicted, "tables were evicted: see --unwind-memory"),
        (tables.refused, "tables do not fit into --unwind-memory: their stacks are cut"),
        (tables.unreadable, "executables have unreadable call frame information"),
        (tables.cache.damaged, "damaged files in the cache were removed, and their tables rebuilt"),
        (tables.cache.store_failed, not_stored.as_str()),
    ])
    .collect()
}

fn counts_above_zero<'a>(
    counts: impl IntoIterator<Item = (u64, &'a str)>,
) -> impl Iterator<Item = String> {
    let present = counts.into_iter().filter(|(count, _)| *count > 0);
    present.map(|(count, meaning)| format!("{} {meaning}", thousands(count)))
}

/// Describes how long ticks took.
fn ticks_overhead(sampler: &SamplerTime, clocks: ClockScope) -> String {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    match clocks {
        ClockScope::Cpus => format!(
            "{:.1} us per tick, 99.9 % up to {:.0} us, at most {:.0} us",
            us(sampler.per_tick()),
            us(sampler.p999),
            us(sampler.max),
        ),
        ClockScope::Tasks => "perf, which does not measure its time in ticks".into(),
    }
}

fn overhead_lines(overhead: &Overhead, clocks: ClockScope, elapsed: Duration) -> String {
    let Overhead { counts, symbolizer, .. } = overhead;
    let SessionCounts { sampler, file_helper, map_bytes, .. } = counts;
    let (agent, cpu) = (Usage::own(), overhead.cpu());
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let mib = |kib: u64| kib as f64 / 1024.0;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "  own CPU       {:.0} ms, {:.2} % of total CPU capacity (agent {:.0}, file helper {:.0}, \
         symbolizer {:.0}, sampler {:.1})",
        ms(cpu),
        percent_of_capacity(cpu, elapsed),
        ms(agent.cpu),
        ms(file_helper.cpu),
        ms(symbolizer.cpu),
        ms(sampler.total),
    );
    let _ = writeln!(text, "  sampler       {}", ticks_overhead(sampler, clocks));
    let _ = writeln!(
        text,
        "  own memory    {:.1} MiB agent, {:.1} MiB file helper, {:.1} MiB symbolizer, \
         {:.1} MiB kernel maps",
        mib(agent.peak_rss_kib),
        mib(file_helper.peak_rss_kib),
        mib(symbolizer.peak_rss_kib),
        mib(map_bytes >> 10),
    );
    text
}
