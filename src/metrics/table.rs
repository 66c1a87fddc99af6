//! The one list of metrics.
//!
//! Names are `everytick_<noun>_<unit>`, with `_total` for counters. Times are in seconds, memory is
//! in bytes, shares are ratios. Adding a metric takes a row here, and regenerating
//! `docs/metrics.md`.

use profile::{Loss, NotSampled, StackEnd, TickOutcome};
use upload::Failure;
use upload::delivery::{DebugInfoCounts, FailureCounts, SinkCounts};

use crate::budget::Cause;

use super::metric::{Label, Metric, MetricKind, WriteSeries};
use super::series_writer::{MetricValue, SeriesWriter};
use super::server::Refusal;
use super::snapshot::{LossReason, ProcessUsage, SeriesLimit, Snapshot, WindowCounts};
use crate::debuginfod::DownloadOutcome;
use crate::host::LimitationReason;
use crate::processes::TrackingLimit;
use crate::session::NoClockReason;
use crate::symbolization::UnsymbolizedReason;

const OUTCOME: Label = Label::closed("outcome", || texts(TickOutcome::ALL, TickOutcome::text));
const LOSS: Label = Label::closed("reason", || texts(Loss::ALL, Loss::text));
const NOT_SAMPLED: Label = Label::closed("reason", || texts(NOT_SAMPLED_REASONS, NotSampled::text));
const NO_CLOCK: Label = Label::closed("reason", || texts(&NoClockReason::ALL, NoClockReason::text));
const CPU_CHANGE: Label = Label::closed("change", || vec!["online", "offline"]);
const SIDE: Label = Label::closed("side", || vec!["kernel", "user"]);
const END: Label = Label::closed("end", || texts(StackEnd::ALL, StackEnd::text));
const CACHE: Label =
    Label::closed("result", || vec!["loaded", "damaged", "mismatched", "not_stored"]);
const LABEL_SOURCE: Label = Label::closed("source", || vec!["read", "inherited", "unknown"]);
const PROCESS_LIMIT: Label =
    Label::closed("limit", || texts(TrackingLimit::ALL, TrackingLimit::text));
const UNSYMBOLIZED: Label =
    Label::closed("reason", || texts(UnsymbolizedReason::ALL, UnsymbolizedReason::text));
const DOWNLOAD: Label =
    Label::closed("result", || texts(DownloadOutcome::ALL, DownloadOutcome::text));
const SYMBOL: Label = Label::closed("result", || vec!["symbolized", "unsymbolized"]);
const SERIES_LIMIT: Label = Label::closed("limit", || texts(&SeriesLimit::ALL, SeriesLimit::text));
const SINK: Label = Label::open("sink", "name of the sink in the configuration");
const WINDOW_LOSS: Label = Label::closed("reason", || {
    [texts(&LossReason::ALL, LossReason::text), texts(Failure::ALL, Failure::text)].concat()
});
const FAILURE: Label = Label::closed("reason", || texts(Failure::ALL, Failure::text));
const DELIVERY: Label = Label::closed("result", || vec!["delivered", "partly", "lost"]);
const RESPONSE: Label =
    Label::open("code", "status of HTTP or name of gRPC's code, as in `503` or `UNAVAILABLE`");
const UPLOAD: Label = Label::closed("result", || vec!["stored", "no_debug_info", "postponed"]);
const PART: Label = Label::closed("part", || vec!["agent", "symbolizer", "file_helper", "sampler"]);
const PROCESS: Label = Label::closed("part", || vec!["agent", "symbolizer", "file_helper"]);
const CAUSE: Label = Label::closed("cause", || texts(&Cause::ALL, Cause::text));
const LOWERED: Label = Label::closed("cause", lowered_causes);
const RELOAD: Label = Label::closed("result", || vec!["applied", "rejected"]);
const LIMITATION: Label =
    Label::closed("reason", || texts(LimitationReason::ALL, LimitationReason::text));
const HTTP: Label = Label::closed("reason", || texts(&Refusal::ALL, Refusal::text));
const LOG: Label = Label::closed("result", || vec!["written", "dropped", "suppressed"]);
const VERSION: Label = Label::open("version", "version of everytick");
const ARCHITECTURE: Label = Label::open("architecture", "CPU architecture of the binary");

/// Why due ticks of an agent are not sampled: the first of all reasons. The rest is for clocks of
/// tasks.
const NOT_SAMPLED_REASONS: &[NotSampled] =
    &[NotSampled::Budget, NotSampled::Memory, NotSampled::NoClock, NotSampled::Gap];

/// All metrics, in the order in which they are written.
pub const TABLE: &[Metric] = &[
    // Agent.
    gauge(
        "everytick_build_info",
        "Constant 1; the labels identify the binary.",
        &[VERSION, ARCHITECTURE],
        |_, out| out.labelled(&[env!("CARGO_PKG_VERSION"), std::env::consts::ARCH], true),
    ),
    gauge(
        "everytick_start_time_seconds",
        "Start time of the agent in seconds since 1970.",
        &[],
        |s, out| out.value(seconds(s.started_unix_ns)),
    ),
    gauge("everytick_healthy", "1 while /healthz answers 200, else 0.", &[], |s, out| {
        out.value(s.health.check_health().is_ok());
    }),
    gauge("everytick_ready", "1 while /readyz answers 200, else 0.", &[], |s, out| {
        out.value(s.health.check_readiness().is_ok());
    }),
    gauge(
        "everytick_tick_age_seconds",
        "Time since the last tick of the online CPU that has gone longest without one.",
        &[],
        |s, out| {
            let longest = s.health.longest_without_tick.map(|(_, silence)| silence);
            out.value(longest.unwrap_or_default());
        },
    ),
    // Capture.
    gauge("everytick_cpus_sampled", "CPUs with a sampling clock.", &[], |s, out| {
        out.value(s.session.cpus.sampled);
    }),
    gauge(
        "everytick_cpus_without_clock",
        "Online CPUs without a sampling clock, by reason. Their time is not sampled.",
        &[NO_CLOCK],
        |s, out| {
            let counts = &s.session.cpus.without_clock;
            by(out, &[], &NoClockReason::ALL, NoClockReason::text, counts);
        },
    ),
    counter(
        "everytick_cpu_changes_total",
        "Times that a CPU came online and was sampled from then on, or that a sampled CPU went \
         offline.",
        &[CPU_CHANGE],
        |s, out| {
            out.labelled(&["online"], s.session.cpus.came_online);
            out.labelled(&["offline"], s.session.cpus.went_offline);
        },
    ),
    counter(
        "everytick_ticks_due_total",
        "Ticks that the configured frequency calls for on all online CPUs. due = ticks of all \
         outcomes + missed + not sampled.",
        &[],
        |s, out| out.value(s.totals.due),
    ),
    counter(
        "everytick_ticks_missed_total",
        "Ticks that a clock was set to take and that never came, for example on a virtual CPU that \
         was descheduled.",
        &[],
        |s, out| out.value(s.totals.missed),
    ),
    counter(
        "everytick_ticks_not_sampled_total",
        "Due ticks that no clock was set to take, by reason: the rate was lowered, the CPU had no \
         clock, or the clocks stood still.",
        &[NOT_SAMPLED],
        |s, out| by(out, &[], NOT_SAMPLED_REASONS, NotSampled::text, &s.totals.not_sampled),
    ),
    counter(
        "everytick_ticks_total",
        "Ticks by outcome. Ticks with the outcomes delivered and ring full are samples.",
        &[OUTCOME],
        |s, out| by(out, &[], TickOutcome::ALL, TickOutcome::text, &s.totals.outcomes),
    ),
    counter("everytick_samples_total", "Samples in closed windows.", &[], |s, out| {
        out.value(s.totals.samples);
    }),
    counter(
        "everytick_samples_lost_total",
        "Samples that are in no window, by reason.",
        &[LOSS],
        |s, out| by(out, &[], Loss::ALL, Loss::text, &s.totals.lost),
    ),
    counter(
        "everytick_stacks_total",
        "Stacks of the samples in closed windows, by their end. A sample has one stack per side.",
        &[SIDE, END],
        |s, out| {
            by(out, &["kernel"], StackEnd::ALL, StackEnd::text, &s.totals.kernel_ends);
            by(out, &["user"], StackEnd::ALL, StackEnd::text, &s.totals.user_ends);
        },
    ),
    counter(
        "everytick_samples_guessed_total",
        "Samples in closed windows with a user frame found by frame pointer alone.",
        &[],
        |s, out| out.value(s.totals.guessed),
    ),
    counter(
        "everytick_frames_total",
        "Frames of the samples in closed windows. Each sample counts all of its frames.",
        &[],
        |s, out| out.value(s.totals.frames),
    ),
    counter(
        "everytick_stacks_finished_total",
        "User stacks finished in user space from a stack snapshot, because unwind tables were not \
         loaded yet.",
        &[],
        |s, out| out.value(s.session.finished),
    ),
    // Processes and unwind tables.
    gauge("everytick_processes", "Processes tracked.", &[], |s, out| {
        out.value(s.session.processes);
    }),
    gauge("everytick_executables", "Executables tracked.", &[], |s, out| {
        out.value(s.session.executables);
    }),
    counter(
        "everytick_process_events_lost_total",
        "Process events dropped because the kernel's ring buffer was full. All processes are then \
         read from /proc again.",
        &[],
        |s, out| out.value(s.session.side_band_lost),
    ),
    counter(
        "everytick_process_events_skipped_total",
        "Process events skipped because their share of CPU time was used up. Their processes are \
         read from /proc when they are sampled.",
        &[],
        |s, out| out.value(s.session.process_events_skipped),
    ),
    gauge(
        "everytick_process_bytes",
        "Memory of what is known about processes, their mappings and executables.",
        &[],
        |s, out| out.value(s.session.process_bytes),
    ),
    gauge(
        "everytick_perf_map_bytes",
        "Memory of the names of code that no file has: perf maps, jitdumps, and names in use.",
        &[],
        |s, out| out.value(s.session.perf_map_bytes),
    ),
    counter(
        "everytick_processes_read_total",
        "Processes read from /proc when they were sampled or forked, because events were missed.",
        &[],
        |s, out| out.value(s.session.processes_read),
    ),
    counter(
        "everytick_process_refusals_total",
        "What was refused for processes, by the limit that was reached: each container, or else \
         user, has a part of it. Stacks may lack frames then.",
        &[PROCESS_LIMIT],
        |s, out| {
            let counts = &s.session.refusals.0;
            by(out, &[], TrackingLimit::ALL, TrackingLimit::text, counts);
        },
    ),
    counter(
        "everytick_process_labels_total",
        "Processes labelled, by the source of their cgroup: `read` from /proc, or, for exited \
         processes, `inherited` from the parent or `unknown`.",
        &[LABEL_SOURCE],
        |s, out| {
            let counts = s.session.labels;
            out.labelled(&["read"], counts.read);
            out.labelled(&["inherited"], counts.inherited);
            out.labelled(&["unknown"], counts.unknown);
        },
    ),
    gauge(
        "everytick_unwind_tables",
        "Executables with an unwind table in the kernel.",
        &[],
        |s, out| out.value(s.session.tables.tables),
    ),
    gauge("everytick_unwind_rows", "Rows of the unwind tables in the kernel.", &[], |s, out| {
        out.value(s.session.tables.rows);
    }),
    gauge(
        "everytick_unwind_bytes",
        "Kernel memory of unwind tables and mappings.",
        &[],
        |s, out| out.value(s.session.tables.slab_bytes),
    ),
    counter(
        "everytick_unwind_rows_left_out_total",
        "Rows of call frame information that the unwinder cannot express, and that tables omit.",
        &[],
        |s, out| out.value(s.session.tables.left_out),
    ),
    counter(
        "everytick_unwind_tables_evicted_total",
        "Unwind tables evicted to make space for others.",
        &[],
        |s, out| out.value(s.session.tables.evicted),
    ),
    counter(
        "everytick_unwind_tables_refused_total",
        "Unwind tables not loaded because they did not fit.",
        &[],
        |s, out| out.value(s.session.tables.refused),
    ),
    gauge(
        "everytick_unwind_tables_in_backoff",
        "Unwind tables in backoff, because they do not fit or were evicted repeatedly. Their \
         stacks are cut.",
        &[],
        |s, out| out.value(s.session.tables.in_backoff),
    ),
    counter(
        "everytick_unwind_files_unreadable_total",
        "Executables whose call frame information cannot be read.",
        &[],
        |s, out| out.value(s.session.tables.unreadable),
    ),
    counter(
        "everytick_unwind_cache_tables_total",
        "Unwind tables looked up in or written to the cache directory, by result.",
        &[CACHE],
        |s, out| {
            let cache = s.session.tables.cache;
            out.labelled(&["loaded"], cache.loaded);
            out.labelled(&["damaged"], cache.damaged);
            out.labelled(&["mismatched"], cache.mismatched);
            out.labelled(&["not_stored"], cache.store_failed);
        },
    ),
    counter(
        "everytick_symbol_frames_total",
        "Distinct frames of each window, by whether a symbol was found.",
        &[SYMBOL],
        |s, out| {
            out.labelled(&["symbolized"], s.symbols.symbolized);
            out.labelled(&["unsymbolized"], s.symbols.unsymbolized());
        },
    ),
    counter(
        "everytick_unsymbolized_frames_total",
        "Distinct frames of each window that stayed addresses, by reason.",
        &[UNSYMBOLIZED],
        |s, out| {
            let (all, counts) = (UnsymbolizedReason::ALL, &s.symbols.unsymbolized);
            by(out, &[], all, UnsymbolizedReason::text, counts);
        },
    ),
    counter(
        "everytick_names_cut_total",
        "Names of functions and paths of source files cut when they were read, because they are \
         too long.",
        &[],
        |s, out| out.value(s.symbols.cut),
    ),
    counter(
        "everytick_debug_info_not_read_total",
        "Executables whose symbols were read without their debug info, because that takes too much \
         or is malformed.",
        &[],
        |s, out| out.value(s.symbols.without_debug_info),
    ),
    counter(
        "everytick_debuginfod_lookups_total",
        "Lookups of debug info at the servers of `debuginfod`, by result. Those that are rate \
         limited are tried again in the next windows.",
        &[DOWNLOAD],
        |s, out| {
            let counts = s.downloads.outcomes;
            by(out, &[], DownloadOutcome::ALL, DownloadOutcome::text, &counts);
        },
    ),
    gauge(
        "everytick_debuginfod_lookups_pending",
        "Lookups of debug info that wait or are in flight.",
        &[],
        |s, out| out.value(s.downloads.pending),
    ),
    counter(
        "everytick_debuginfod_received_bytes_total",
        "Bytes received from the servers of `debuginfod`, those of no use included.",
        &[],
        |s, out| out.value(s.downloads.bytes),
    ),
    // Windows.
    counter(
        "everytick_windows_closed_total",
        "Windows closed. closed = accepted + empty + lost + in progress.",
        &[],
        |s, out| out.value(s.windows.closed),
    ),
    counter(
        "everytick_windows_accepted_total",
        "Windows accepted for delivery: synced to the spool's disk.",
        &[],
        |s, out| out.value(s.windows.accepted),
    ),
    counter(
        "everytick_windows_empty_total",
        "Windows without samples, which are not delivered.",
        &[],
        |s, out| out.value(s.windows.empty),
    ),
    counter(
        "everytick_windows_lost_total",
        "Windows lost before they were accepted, by reason.",
        &[WINDOW_LOSS],
        |s, out| windows_lost(out, &s.windows, &s.delivery.refused),
    ),
    gauge(
        "everytick_window_closed_timestamp_seconds",
        "End of the last closed window in seconds since 1970; 0 before the first one.",
        &[],
        |s, out| out.value(seconds(s.windows.last_unix_ns)),
    ),
    gauge(
        "everytick_window_accepted_timestamp_seconds",
        "End of the last accepted window in seconds since 1970; 0 before the first one.",
        &[],
        |s, out| out.value(seconds(s.windows.accepted_unix_ns)),
    ),
    gauge("everytick_window_period_seconds", "Length of a window.", &[], |s, out| {
        out.value(s.health.window);
    }),
    gauge("everytick_series", "Series of the last window.", &[], |s, out| {
        out.value(s.series.last);
    }),
    gauge(
        "everytick_series_of_hour",
        "Distinct series within the hour before the last window.",
        &[],
        |s, out| out.value(s.series.of_hour),
    ),
    counter(
        "everytick_series_merged_total",
        "Series merged into others, by the limit beyond which there were too many: of a window, or \
         of an hour.",
        &[SERIES_LIMIT],
        |s, out| by(out, &[], &SeriesLimit::ALL, SeriesLimit::text, &s.series.merged),
    ),
    counter(
        "everytick_series_merged_samples_total",
        "Samples of the merged series, by limit.",
        &[SERIES_LIMIT],
        |s, out| by(out, &[], &SeriesLimit::ALL, SeriesLimit::text, &s.series.merged_samples),
    ),
    // Delivery.
    counter(
        "everytick_batches_found_total",
        "Batches that an earlier run left in the spool for a sink.",
        &[SINK],
        |s, out| each_sink(out, s, |sink| sink.ledger.found),
    ),
    counter(
        "everytick_batches_closed_total",
        "Windows handed to delivery for a sink. found + closed = batches of all results + pending.",
        &[SINK],
        |s, out| each_sink(out, s, |sink| sink.ledger.closed),
    ),
    counter(
        "everytick_batches_total",
        "Batches that a sink has finished. partly: the server rejected some of the samples.",
        &[SINK, DELIVERY],
        |s, out| {
            each_sink_part(out, s, |SinkCounts { ledger, .. }| {
                let lost = ledger.lost.total();
                [("delivered", ledger.delivered), ("partly", ledger.partly), ("lost", lost)]
            });
        },
    ),
    counter(
        "everytick_batches_lost_total",
        "Batches that were not delivered to a sink and never will be, by reason.",
        &[SINK, FAILURE],
        |s, out| failures(out, s, |sink| &sink.ledger.lost),
    ),
    counter(
        "everytick_batches_retried_total",
        "Delivery attempts that failed and are retried, by reason.",
        &[SINK, FAILURE],
        |s, out| failures(out, s, |sink| &sink.attempts.later),
    ),
    counter(
        "everytick_responses_total",
        "Responses of servers to requests with profiles, by code. A batch may take several \
         requests.",
        &[SINK, RESPONSE],
        |s, out| {
            for (name, sink) in &s.delivery.sinks {
                sink.responses.iter().for_each(|(code, count)| out.labelled(&[name, code], count));
            }
        },
    ),
    counter(
        "everytick_batches_rejected_parts_total",
        "Series or samples, whichever the server counts, that it rejected from batches that it \
         otherwise accepted.",
        &[SINK],
        |s, out| each_sink(out, s, |sink| sink.rejected),
    ),
    gauge("everytick_batches_pending", "Batches waiting in the spool.", &[SINK], |s, out| {
        each_sink(out, s, |sink| sink.ledger.pending);
    }),
    counter(
        "everytick_sent_bytes_total",
        "Bytes sent for the batches that a sink has received.",
        &[SINK],
        |s, out| each_sink(out, s, |sink| sink.bytes_sent),
    ),
    counter(
        "everytick_debuginfo_files_total",
        "Executables whose debug info was offered to a sink's server, by result.",
        &[SINK, UPLOAD],
        |s, out| {
            each_sink_part(out, s, |SinkCounts { debug_info, .. }| {
                let DebugInfoCounts { stored, no_debug_info, postponed } = *debug_info;
                [("stored", stored), ("no_debug_info", no_debug_info), ("postponed", postponed)]
            });
        },
    ),
    counter(
        "everytick_delivery_cpu_wait_seconds_total",
        "Time for which batches waited because delivery had used its share of the CPU budget.",
        &[SINK],
        |s, out| each_sink(out, s, |sink| sink.cpu_wait),
    ),
    gauge(
        "everytick_spool_sink_bytes",
        "Bytes of the batches that wait for a sink. A batch that waits for several counts for \
         each.",
        &[SINK],
        |s, out| each_sink(out, s, |sink| sink.spool_bytes),
    ),
    gauge(
        "everytick_spool_oldest_age_seconds",
        "Time since the start of the oldest window that waits for a sink; 0 if none waits.",
        &[SINK],
        |s, out| each_sink(out, s, |sink| sink.oldest_age.unwrap_or_default()),
    ),
    counter(
        "everytick_spool_damaged_total",
        "Damaged files of the spool moved to quarantine.",
        &[SINK],
        |s, out| each_sink(out, s, |sink| sink.quarantined),
    ),
    gauge(
        "everytick_spool_bytes",
        "Disk space of the spool. A batch that waits for several sinks counts once.",
        &[],
        |s, out| out.value(s.delivery.spool_bytes),
    ),
    gauge("everytick_spool_limit_bytes", "Limit of the spool's disk space.", &[], |s, out| {
        out.value(s.delivery.spool_bytes_max);
    }),
    // Overhead.
    counter(
        "everytick_cpu_seconds_total",
        "CPU time of each part of the agent. sampler: the BPF program, by its own clock.",
        &[PART],
        |s, out| {
            each_process(out, s, |process| process.cpu);
            out.labelled(&["sampler"], s.session.sampler.total);
        },
    ),
    gauge(
        "everytick_resident_bytes",
        "Resident memory of each process of the agent.",
        &[PROCESS],
        |s, out| each_process(out, s, |process| process.resident),
    ),
    gauge(
        "everytick_resident_peak_bytes",
        "The most resident memory that a process of this kind had, killed ones included.",
        &[PROCESS],
        |s, out| each_process(out, s, |process| process.peak),
    ),
    gauge(
        "everytick_bpf_map_bytes",
        "Kernel memory of BPF maps, unwind tables included.",
        &[],
        |s, out| out.value(s.session.map_bytes),
    ),
    Metric {
        name: "everytick_sampler_tick_seconds",
        kind: MetricKind::Histogram,
        help: "Duration of the BPF program per tick, by its own clock, over all CPUs.",
        labels: &[],
        write: |s, out| {
            let time = &s.session.sampler;
            out.histogram(time.below(), time.timed(), time.total.as_secs_f64());
        },
    },
    gauge(
        "everytick_sampler_tick_max_seconds",
        "Longest duration of the BPF program for one tick since the start.",
        &[],
        |s, out| out.value(s.session.sampler.max),
    ),
    // Budget.
    gauge(
        "everytick_sampling_frequency_hertz",
        "Sampling frequency in force, in ticks per second on each CPU; at least 1.",
        &[],
        |s, out| out.value(s.budget.frequency),
    ),
    gauge(
        "everytick_sampling_frequency_configured_hertz",
        "Sampling frequency of the configuration. The budget lowers it while it is exceeded.",
        &[],
        |s, out| out.value(s.budget.full_frequency),
    ),
    gauge(
        "everytick_sampling_lowered",
        "1 for what lowered the frequency in force, else 0: the cost of samples, of stacks \
         finished in user space, or memory.",
        &[LOWERED],
        |s, out| {
            let cause = s.budget.lowered.map(|lowered| lowered.cause_text());
            let causes = lowered_causes().into_iter();
            causes.for_each(|text| out.labelled(&[text], cause == Some(text)));
        },
    ),
    counter(
        "everytick_cause_cpu_seconds_total",
        "CPU time by cause. Each cause has a share of the CPU budget and cannot take that of \
         another.",
        &[CAUSE],
        |s, out| {
            let causes = Cause::ALL.into_iter();
            causes.for_each(|cause| out.labelled(&[cause.text()], s.budget.cpu[cause]));
        },
    ),
    gauge(
        "everytick_budget_cpu_ratio",
        "CPU time of the agent in the last window, BPF included, as a ratio of total CPU capacity.",
        &[],
        |s, out| out.value(s.budget.cpu_percent / 100.0),
    ),
    gauge(
        "everytick_budget_cpu_limit_ratio",
        "Limit of everytick_budget_cpu_ratio.",
        &[],
        |s, out| out.value(s.budget.cpu_percent_max / 100.0),
    ),
    gauge(
        "everytick_budget_memory_bytes",
        "Memory of the agent's processes and BPF maps together.",
        &[],
        |s, out| out.value(s.budget.memory),
    ),
    gauge(
        "everytick_budget_memory_limit_bytes",
        "Limit of everytick_budget_memory_bytes.",
        &[],
        |s, out| out.value(s.budget.memory_max),
    ),
    // Host, HTTP port and log.
    gauge(
        "everytick_host_limitation",
        "1 for each kind of thing that the host lacks, as `everytick doctor` and the log at the \
         start describe it, else 0.",
        &[LIMITATION],
        |s, out| {
            for reason in LimitationReason::ALL {
                out.labelled(&[reason.text()], s.host_limitations.contains(reason));
            }
        },
    ),
    counter(
        "everytick_http_answered_total",
        "HTTP requests that were answered with a page, or with 404.",
        &[],
        |s, out| out.value(s.http.answered),
    ),
    counter(
        "everytick_http_refused_total",
        "HTTP requests and connections that were refused, by reason.",
        &[HTTP],
        |s, out| by(out, &[], &Refusal::ALL, Refusal::text, &s.http.refused),
    ),
    counter(
        "everytick_http_paused_seconds_total",
        "Time in which no connection was accepted, because the HTTP port had spent its CPU time.",
        &[],
        |s, out| out.value(s.http.paused),
    ),
    counter(
        "everytick_log_lines_total",
        "Lines of the log. dropped: standard error did not accept them. suppressed: repeats of a \
         line within a minute, whose count is in a later line.",
        &[LOG],
        |s, out| {
            out.labelled(&["written"], s.log.written);
            out.labelled(&["dropped"], s.log.dropped);
            out.labelled(&["suppressed"], s.log.suppressed);
        },
    ),
    // Configuration.
    counter(
        "everytick_config_reloads_total",
        "Configuration reloads. A rejected reload keeps the current configuration.",
        &[RELOAD],
        |s, out| {
            out.labelled(&["applied"], s.reloads.applied);
            out.labelled(&["rejected"], s.reloads.rejected);
        },
    ),
    gauge(
        "everytick_config_reload_failed",
        "1 if the last configuration reload was rejected, else 0.",
        &[],
        |s, out| out.value(s.reloads.has_failed),
    ),
    gauge(
        "everytick_config_read_timestamp_seconds",
        "When the configuration in force was read, in seconds since 1970.",
        &[],
        |s, out| out.value(seconds(s.reloads.read_unix_ns)),
    ),
];

const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [Label],
    write: WriteSeries,
) -> Metric {
    Metric { name, kind: MetricKind::Counter, help, labels, write }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [Label],
    write: WriteSeries,
) -> Metric {
    Metric { name, kind: MetricKind::Gauge, help, labels, write }
}

/// Returns what can lower the frequency.
fn lowered_causes() -> Vec<&'static str> {
    let causes = Cause::ALL.into_iter().filter(|cause| cause.follows_rate()).map(Cause::text);
    causes.chain([NotSampled::Memory.text()]).collect()
}

fn texts<T: Copy>(all: &[T], text: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|item| text(*item)).collect()
}

/// Writes a series for each item of a closed list. `before`: values of the labels before it.
fn by<T: Copy>(
    out: &mut SeriesWriter<'_>,
    before: &[&str],
    all: &[T],
    text: fn(T) -> &'static str,
    counts: &[u64],
) {
    for (item, count) in all.iter().zip(counts) {
        out.labelled(&[before, &[text(*item)]].concat(), *count);
    }
}

fn windows_lost(out: &mut SeriesWriter<'_>, windows: &WindowCounts, refused: &FailureCounts) {
    for reason in LossReason::ALL.map(LossReason::text) {
        out.labelled(&[reason], windows.lost.get(reason).copied().unwrap_or_default());
    }
    for failure in Failure::ALL {
        out.labelled(&[failure.text()], refused.count(*failure));
    }
}

fn failures(
    out: &mut SeriesWriter<'_>,
    snapshot: &Snapshot,
    reasons: fn(&SinkCounts) -> &FailureCounts,
) {
    for (name, sink) in &snapshot.delivery.sinks {
        let reasons = reasons(sink);
        let counts = Failure::ALL.iter().map(|failure| reasons.count(*failure));
        let counts: Vec<u64> = counts.collect();
        by(out, &[name], Failure::ALL, Failure::text, &counts);
    }
}

fn each_sink<V: MetricValue>(
    out: &mut SeriesWriter<'_>,
    snapshot: &Snapshot,
    value: fn(&SinkCounts) -> V,
) {
    snapshot.delivery.sinks.iter().for_each(|(name, sink)| out.labelled(&[name], value(sink)));
}

/// Writes `N` series of each sink, by the values of the second label.
fn each_sink_part<const N: usize>(
    out: &mut SeriesWriter<'_>,
    snapshot: &Snapshot,
    parts: fn(&SinkCounts) -> [(&'static str, u64); N],
) {
    for (name, sink) in &snapshot.delivery.sinks {
        parts(sink).iter().for_each(|(part, count)| out.labelled(&[name, part], *count));
    }
}

fn each_process<V: MetricValue>(
    out: &mut SeriesWriter<'_>,
    snapshot: &Snapshot,
    value: fn(&ProcessUsage) -> V,
) {
    let own = &snapshot.own;
    out.labelled(&["agent"], value(&own.agent));
    out.labelled(&["symbolizer"], value(&own.symbolizer));
    out.labelled(&["file_helper"], value(&own.file_helper));
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}
