//! The one list of metrics.
//!
//! Names are `everytick_<noun>_<unit>`, with `_total` at the end of counters; times are seconds, memory is bytes, parts are
//! ratios. A row is all there is to a metric: `text.rs` writes it, `docs/metrics.md` is made from it.

use profile::{Loss, StackEnd, TickOutcome};

use upload::Failure;
use upload::delivery::{DebugInfoCounts, FailureCounts, SinkCounts};

use super::snapshot::{Part, Snapshot, Windows};
use super::text::{Number, Out};

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rises, and begins at 0 when the agent is started.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by size.
    Histogram,
}

impl Kind {
    /// Its word in the text format.
    pub fn text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A label of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What it can be.
    pub values: Values,
}

/// What a label can be.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// One of these.
    Closed(fn() -> Vec<&'static str>),
    /// Something else, which this describes.
    Open(&'static str),
}

type Read = fn(&Snapshot, &mut Out<'_>);

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is to Prometheus.
    pub kind: Kind,
    /// One sentence, or two.
    pub help: &'static str,
    /// Its labels, in the order in which they are written.
    pub labels: &'static [Label],
    /// Writes its series.
    pub(super) read: Read,
}

const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [Label],
    read: Read,
) -> Metric {
    Metric { name, kind: Kind::Counter, help, labels, read }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [Label],
    read: Read,
) -> Metric {
    Metric { name, kind: Kind::Gauge, help, labels, read }
}

const fn closed(name: &'static str, values: fn() -> Vec<&'static str>) -> Label {
    Label { name, values: Values::Closed(values) }
}

const fn open(name: &'static str, what: &'static str) -> Label {
    Label { name, values: Values::Open(what) }
}

const OUTCOME: Label = closed("outcome", || texts(TickOutcome::ALL, TickOutcome::text));
const LOSS: Label = closed("reason", || texts(Loss::ALL, Loss::text));
const SIDE: Label = closed("side", || vec!["kernel", "user"]);
const END: Label = closed("end", || texts(StackEnd::ALL, StackEnd::text));
const CACHE: Label = closed("result", || vec!["taken", "damaged", "foreign", "unkept"]);
const LABELLED: Label = closed("source", || vec!["read", "inherited", "unknown"]);
const NAMED: Label = closed("result", || vec!["named", "unnamed"]);
const SINK: Label = open("sink", "name of the sink in the configuration");
const WINDOW_LOSS: Label =
    open("reason", "those of `everytick_batches_lost_total`, and what keeps windows from delivery");
const FAILURE: Label = closed("reason", || texts(Failure::ALL, Failure::text));
const RESULT: Label = closed("result", || vec!["delivered", "partly", "lost"]);
const UPLOAD: Label = closed("result", || vec!["held", "nothing", "postponed"]);
const PART: Label = closed("part", || vec!["agent", "symbolizer", "file_helper", "sampler"]);
const PROCESS: Label = closed("part", || vec!["agent", "symbolizer", "file_helper"]);
const RELOAD: Label = closed("result", || vec!["done", "failed"]);
const VERSION: Label = open("version", "version of everytick");
const ARCHITECTURE: Label = open("architecture", "CPU that it is built for");

/// All metrics, in the order in which they are written.
pub const TABLE: &[Metric] = &[
    // The agent.
    gauge(
        "everytick_build_info",
        "Always 1; the labels tell what runs.",
        &[VERSION, ARCHITECTURE],
        |_, out| {
            out.each(&[env!("CARGO_PKG_VERSION"), std::env::consts::ARCH], true);
        },
    ),
    gauge(
        "everytick_start_time_seconds",
        "When the agent was started, seconds since 1970.",
        &[],
        |s, out| {
            out.one(seconds(s.started_unix_ns));
        },
    ),
    gauge("everytick_healthy", "1 while /healthz answers 200.", &[], |s, out| {
        out.one(s.state.health().is_ok());
    }),
    gauge("everytick_ready", "1 while /readyz answers 200.", &[], |s, out| {
        out.one(s.state.readiness().is_ok());
    }),
    // Capture.
    counter("everytick_sampling_starts_total", "Times that sampling has begun.", &[], |s, out| {
        out.one(s.starts);
    }),
    counter(
        "everytick_ticks_due_total",
        "Ticks that the sampling clocks of all CPUs owed. due = ticks of all outcomes + missed.",
        &[],
        |s, out| out.one(s.totals.due),
    ),
    counter(
        "everytick_ticks_missed_total",
        "Ticks that were due and never came, as on a virtual CPU that sleeps.",
        &[],
        |s, out| out.one(s.totals.missed),
    ),
    counter(
        "everytick_ticks_total",
        "Ticks that came, by how each ended. Those with the outcomes delivered and ring full are samples.",
        &[OUTCOME],
        |s, out| by(out, &[], TickOutcome::ALL, TickOutcome::text, &s.totals.outcomes),
    ),
    counter("everytick_samples_total", "Samples in closed windows.", &[], |s, out| {
        out.one(s.totals.samples);
    }),
    counter(
        "everytick_samples_lost_total",
        "Samples that are in no window, by the reason.",
        &[LOSS],
        |s, out| by(out, &[], Loss::ALL, Loss::text, &s.totals.lost),
    ),
    counter(
        "everytick_stacks_total",
        "Stacks of the samples in closed windows, by how they end. A sample has one of each side.",
        &[SIDE, END],
        |s, out| {
            by(out, &["kernel"], StackEnd::ALL, StackEnd::text, &s.totals.kernel_ends);
            by(out, &["user"], StackEnd::ALL, StackEnd::text, &s.totals.user_ends);
        },
    ),
    counter(
        "everytick_samples_guessed_total",
        "Samples in closed windows with a user frame that was found by frame pointer alone.",
        &[],
        |s, out| out.one(s.totals.guessed),
    ),
    counter(
        "everytick_frames_total",
        "Frames of the samples in closed windows: each sample counts all of its frames.",
        &[],
        |s, out| out.one(s.totals.frames),
    ),
    counter(
        "everytick_stacks_finished_total",
        "User stacks that the agent finished from a stack snapshot, because the kernel did not have the tables yet.",
        &[],
        |s, out| out.one(s.session.finished),
    ),
    // Processes and unwind tables.
    gauge("everytick_processes", "Processes that are known.", &[], |s, out| {
        out.one(s.session.processes);
    }),
    gauge("everytick_executables", "Executables that are known.", &[], |s, out| {
        out.one(s.session.executables);
    }),
    counter(
        "everytick_process_events_lost_total",
        "Process events that the kernel had no room for. All processes are then looked up again.",
        &[],
        |s, out| out.one(s.session.side_band_lost),
    ),
    counter(
        "everytick_process_labels_total",
        "Processes that were labelled, by where their cgroup is known from: `read` from /proc, or, for those that were gone, \
         `inherited` from the parent or `unknown`.",
        &[LABELLED],
        |s, out| {
            let counts = s.session.labels;
            out.each(&["read"], counts.read);
            out.each(&["inherited"], counts.inherited);
            out.each(&["unknown"], counts.unknown);
        },
    ),
    gauge(
        "everytick_unwind_tables",
        "Executables with an unwind table in the kernel.",
        &[],
        |s, out| {
            out.one(s.session.tables.tables);
        },
    ),
    gauge("everytick_unwind_rows", "Rows of these tables.", &[], |s, out| {
        out.one(s.session.tables.rows);
    }),
    gauge(
        "everytick_unwind_bytes",
        "Memory for tables and mappings in the kernel.",
        &[],
        |s, out| {
            out.one(s.session.tables.slab_bytes);
        },
    ),
    counter(
        "everytick_unwind_rows_left_out_total",
        "Rows that executables have and their tables have not, because they cannot be followed.",
        &[],
        |s, out| out.one(s.session.tables.left_out),
    ),
    counter(
        "everytick_unwind_tables_evicted_total",
        "Unwind tables that made room for others.",
        &[],
        |s, out| out.one(s.session.tables.evicted),
    ),
    counter(
        "everytick_unwind_tables_refused_total",
        "Unwind tables that found no room.",
        &[],
        |s, out| out.one(s.session.tables.refused),
    ),
    gauge(
        "everytick_unwind_tables_waiting",
        "Unwind tables that are not to be read now: there is no room, or others pushed them out over and over. Their stacks are cut.",
        &[],
        |s, out| out.one(s.session.tables.waiting),
    ),
    counter(
        "everytick_unwind_files_unreadable_total",
        "Executables whose call frames could not be read.",
        &[],
        |s, out| out.one(s.session.tables.unreadable),
    ),
    counter(
        "everytick_unwind_cache_tables_total",
        "Unwind tables of earlier runs: taken from disk, damaged, those of another file, or not to be written.",
        &[CACHE],
        |s, out| {
            let cache = s.session.tables.cache;
            out.each(&["taken"], cache.taken);
            out.each(&["damaged"], cache.damaged);
            out.each(&["foreign"], cache.foreign);
            out.each(&["unkept"], cache.unkept);
        },
    ),
    counter(
        "everytick_symbol_frames_total",
        "Distinct frames of each window, by whether a name was found.",
        &[NAMED],
        |s, out| {
            out.each(&["named"], s.names.named);
            out.each(&["unnamed"], s.names.unnamed);
        },
    ),
    // Windows.
    counter(
        "everytick_windows_closed_total",
        "Windows that were closed. closed = accepted + empty + lost + those on their way.",
        &[],
        |s, out| out.one(s.windows.closed),
    ),
    counter(
        "everytick_windows_accepted_total",
        "Windows that were accepted: they are in the spool, on disk.",
        &[],
        |s, out| out.one(s.windows.accepted),
    ),
    counter(
        "everytick_windows_empty_total",
        "Windows without a sample, of which nothing is delivered.",
        &[],
        |s, out| out.one(s.windows.empty),
    ),
    counter(
        "everytick_windows_lost_total",
        "Windows that were lost before they were accepted, by the reason.",
        &[WINDOW_LOSS],
        |s, out| windows_lost(out, &s.windows, &s.delivery.refused),
    ),
    gauge(
        "everytick_window_closed_timestamp_seconds",
        "End of the last window that was closed, seconds since 1970; 0 before the first.",
        &[],
        |s, out| out.one(seconds(s.windows.last_unix_ns)),
    ),
    gauge(
        "everytick_window_accepted_timestamp_seconds",
        "End of the last window that was accepted, seconds since 1970; 0 before the first.",
        &[],
        |s, out| out.one(seconds(s.windows.accepted_unix_ns)),
    ),
    gauge("everytick_window_period_seconds", "From one window to the next.", &[], |s, out| {
        out.one(s.state.period);
    }),
    gauge("everytick_series", "Series of the last window.", &[], |s, out| out.one(s.series.last)),
    counter(
        "everytick_series_merged_total",
        "Series that were merged into one because a window had too many.",
        &[],
        |s, out| out.one(s.series.merged),
    ),
    counter(
        "everytick_series_merged_samples_total",
        "Samples of the series that were merged.",
        &[],
        |s, out| out.one(s.series.merged_samples),
    ),
    // Delivery.
    counter(
        "everytick_batches_found_total",
        "Batches that an earlier run had left in the spool for a sink.",
        &[SINK],
        |s, out| each(out, s, |sink| sink.ledger.found),
    ),
    counter(
        "everytick_batches_closed_total",
        "Windows that delivery was given for a sink. found + closed = batches of all results + pending.",
        &[SINK],
        |s, out| each(out, s, |sink| sink.ledger.closed),
    ),
    counter(
        "everytick_batches_total",
        "Batches that a sink is done with. partly: its server refused some of the samples.",
        &[SINK, RESULT],
        |s, out| {
            each_part(out, s, |SinkCounts { ledger, .. }| {
                let lost = ledger.lost.total();
                [("delivered", ledger.delivered), ("partly", ledger.partly), ("lost", lost)]
            });
        },
    ),
    counter(
        "everytick_batches_lost_total",
        "Batches that a sink will never have, by the reason, before or after the spool took them.",
        &[SINK, FAILURE],
        |s, out| failures(out, s, |sink| &sink.ledger.lost),
    ),
    counter(
        "everytick_batches_retried_total",
        "Attempts at delivery after which a batch waits for another, by the reason.",
        &[SINK, FAILURE],
        |s, out| failures(out, s, |sink| &sink.attempts.later),
    ),
    counter(
        "everytick_batches_rejected_parts_total",
        "Series or samples, whichever a server counts, that it refused of batches that it otherwise took.",
        &[SINK],
        |s, out| each(out, s, |sink| sink.rejected),
    ),
    gauge("everytick_batches_pending", "Batches that wait in the spool.", &[SINK], |s, out| {
        each(out, s, |sink| sink.ledger.pending);
    }),
    counter(
        "everytick_sent_bytes_total",
        "Bytes that were sent for the batches that a sink has.",
        &[SINK],
        |s, out| each(out, s, |sink| sink.bytes_sent),
    ),
    counter(
        "everytick_debuginfo_files_total",
        "Files whose debug info a server may want, as often as a sink has dealt with one, by whether the server has it now.",
        &[SINK, UPLOAD],
        |s, out| {
            each_part(out, s, |SinkCounts { debug_info, .. }| {
                let DebugInfoCounts { held, nothing, postponed } = *debug_info;
                [("held", held), ("nothing", nothing), ("postponed", postponed)]
            });
        },
    ),
    gauge(
        "everytick_spool_sink_bytes",
        "Bytes of the batches that wait for a sink. One that waits for several counts for each.",
        &[SINK],
        |s, out| each(out, s, |sink| sink.spool_bytes),
    ),
    gauge(
        "everytick_spool_oldest_age_seconds",
        "How long ago the oldest window began that waits for a sink; 0 when none does.",
        &[SINK],
        |s, out| each(out, s, |sink| sink.oldest_age.unwrap_or_default()),
    ),
    counter(
        "everytick_spool_damaged_total",
        "Damaged files of the spool that were moved out of the way.",
        &[SINK],
        |s, out| each(out, s, |sink| sink.quarantined),
    ),
    gauge(
        "everytick_spool_bytes",
        "Bytes that the spool takes on its disk. A batch that waits for several sinks counts once.",
        &[],
        |s, out| out.one(s.delivery.spool_bytes),
    ),
    gauge("everytick_spool_limit_bytes", "Bytes that it may take.", &[], |s, out| {
        out.one(s.delivery.spool_bytes_max);
    }),
    // Cost.
    counter(
        "everytick_cpu_seconds_total",
        "CPU time of each part of the agent. sampler is the BPF program, by its own clock.",
        &[PART],
        |s, out| {
            processes(out, s, |part| part.cpu);
            out.each(&["sampler"], s.session.sampler.total);
        },
    ),
    gauge(
        "everytick_resident_bytes",
        "Memory of each process of the agent.",
        &[PROCESS],
        |s, out| {
            processes(out, s, |part| part.resident);
        },
    ),
    gauge(
        "everytick_bpf_map_bytes",
        "Kernel memory in BPF maps, unwind tables included.",
        &[],
        |s, out| {
            out.one(s.session.map_bytes);
        },
    ),
    Metric {
        name: "everytick_sampler_tick_seconds",
        kind: Kind::Histogram,
        help: "Time that the BPF program took for a tick, by its own clock, over all CPUs.",
        labels: &[],
        read: |s, out| {
            let time = &s.session.sampler;
            out.histogram(time.below(), time.timed(), time.total.as_secs_f64());
        },
    },
    gauge(
        "everytick_sampler_tick_max_seconds",
        "Time of the longest tick since the start.",
        &[],
        |s, out| out.one(s.session.sampler.max),
    ),
    // Budget.
    gauge(
        "everytick_budget_step",
        "Steps that the budget has taken down from the full pace; 0 is the full pace.",
        &[],
        |s, out| out.one(s.budget.step),
    ),
    gauge(
        "everytick_sampling_frequency_hertz",
        "Ticks a second on each CPU that are in force; 0 while nothing is sampled.",
        &[],
        |s, out| out.one(s.budget.frequency),
    ),
    gauge(
        "everytick_sampling_user_frames_limit",
        "Frames of a user stack that the budget allows; 0 while it sets no limit.",
        &[],
        |s, out| out.one(s.budget.user_frames),
    ),
    gauge(
        "everytick_budget_cpu_ratio",
        "Part of the machine's CPU time that the agent took in the last window, BPF included.",
        &[],
        |s, out| out.one(s.budget.cpu_percent / 100.0),
    ),
    gauge("everytick_budget_cpu_limit_ratio", "Part that it may take.", &[], |s, out| {
        out.one(s.budget.cpu_percent_max / 100.0);
    }),
    gauge(
        "everytick_budget_memory_bytes",
        "Memory of the agent's processes and BPF maps together.",
        &[],
        |s, out| out.one(s.budget.memory),
    ),
    gauge("everytick_budget_memory_limit_bytes", "Memory that they may take.", &[], |s, out| {
        out.one(s.budget.memory_max);
    }),
    // Configuration.
    counter(
        "everytick_config_reloads_total",
        "Attempts to read the configuration again. After one that failed the old configuration stays.",
        &[RELOAD],
        |s, out| {
            out.each(&["done"], s.reloads.done);
            out.each(&["failed"], s.reloads.failed);
        },
    ),
    gauge(
        "everytick_config_stale",
        "1 when the last attempt to read the configuration failed.",
        &[],
        |s, out| out.one(s.reloads.is_stale),
    ),
    gauge(
        "everytick_config_read_timestamp_seconds",
        "When the configuration in force was read, seconds since 1970.",
        &[],
        |s, out| out.one(seconds(s.reloads.read_unix_ns)),
    ),
];

fn texts<T: Copy>(all: &[T], text: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|item| text(*item)).collect()
}

/// Writes a series for each item of a closed list. `before`: values of the labels before its own.
fn by<T: Copy>(
    out: &mut Out<'_>,
    before: &[&str],
    all: &[T],
    text: fn(T) -> &'static str,
    counts: &[u64],
) {
    for (item, count) in all.iter().zip(counts) {
        out.each(&[before, &[text(*item)]].concat(), *count);
    }
}

fn windows_lost(out: &mut Out<'_>, windows: &Windows, refused: &FailureCounts) {
    let mut counts = windows.lost.clone();
    for failure in Failure::ALL {
        *counts.entry(failure.text()).or_default() += refused.count(*failure);
    }
    counts.iter().for_each(|(reason, count)| out.each(&[reason], *count));
}

fn failures(out: &mut Out<'_>, snapshot: &Snapshot, counts: fn(&SinkCounts) -> &FailureCounts) {
    for (name, sink) in &snapshot.delivery.sinks {
        let counts = counts(sink);
        let count = |failure: &Failure| counts.count(*failure);
        let counts: Vec<u64> = Failure::ALL.iter().map(count).collect();
        by(out, &[name], Failure::ALL, Failure::text, &counts);
    }
}

fn each<N: Number>(out: &mut Out<'_>, snapshot: &Snapshot, value: fn(&SinkCounts) -> N) {
    snapshot.delivery.sinks.iter().for_each(|(name, sink)| out.each(&[name], value(sink)));
}

/// Each sink's count by what is said beside its name.
fn each_part<const N: usize>(
    out: &mut Out<'_>,
    snapshot: &Snapshot,
    parts: fn(&SinkCounts) -> [(&'static str, u64); N],
) {
    for (name, sink) in &snapshot.delivery.sinks {
        parts(sink).iter().for_each(|(part, count)| out.each(&[name, part], *count));
    }
}

fn processes<N: Number>(out: &mut Out<'_>, snapshot: &Snapshot, value: fn(&Part) -> N) {
    let own = &snapshot.own;
    for (name, part) in
        [("agent", &own.agent), ("symbolizer", &own.symbolizer), ("file_helper", &own.file_helper)]
    {
        out.each(&[name], value(part));
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
