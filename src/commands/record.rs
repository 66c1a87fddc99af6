//! `everytick record`: profiles for a while and writes the result to files.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use profile::{Pid, Profile, Tid, printable, thousands};
use upload::output::{Direction, OutputError, OutputOptions};

use super::capture_kind::CaptureKind;
use super::cli::RecordArguments;
use super::frequency::check_frequency;
use super::output_values::RootFrames;
use super::progress::ProgressLine;
use super::recording_loss::{self, RecordingLoss};
use super::scope::{describe_end, describe_scope};
use super::stop::{StopReason, StopWatcher};
use super::summary::{Overhead, Quality, RecordingUsage, Summary};
use super::workers::SELF_EXE;
use super::{child, comm_filter, debug_info_downloads, filters, load_diagnostics, terminal};
use crate::debuginfod::Downloads;
use crate::host::{TaskAccess, kernel_frames_limit, pid_namespace, ring_bytes, task_ring_bytes};
use crate::kernel::{Filters, LoadError, SamplerConfig, TaskSamplerConfig};
use crate::output::Outputs;
use crate::session::{
    Capture, ClosedWindow, Recording, ScanScope, Session, SessionLimits, TaskSelection,
};
use crate::symbolization::{self, SymbolizerMemory, WindowNames, WindowSymbolizer};
use crate::tables::Cache;
use crate::workers::Usage;

/// Memory limit of the window: enough for about a million distinct frames.
const WINDOW_BYTES: usize = 256 << 20;
/// Memory limit of the times of samples: enough for 16 million.
const TIMES_BYTES: usize = 256 << 20;
/// Ring of each CPU for the process events of selected tasks: less than for those of a machine,
/// because it counts as locked memory.
const TASK_SIDE_BAND_BYTES: u32 = 128 << 10;

/// Records, symbolizes, writes. Returns the exit status of COMMAND, or success.
pub(super) fn run(arguments: RecordArguments) -> Result<ExitCode> {
    let config = sampler_config(&arguments)?;
    let outputs = Outputs::open(paths(&arguments), options(&arguments))?;
    let is_stdout_used = outputs.use_stdout() || arguments.json;
    anyhow::ensure!(
        !(outputs.use_stdout() && arguments.json),
        "--json and -o - both write to standard output; name a file with -o"
    );
    let kind = CaptureKind::of(&arguments)?;
    let cache = arguments.cache_dir.as_deref().map(Cache::open).transpose()?;
    let downloads = debug_info_downloads::start(&arguments)?;
    let stop = StopWatcher::start()?;
    let (filters, access) = (config.filters.clone(), kind.access());
    let limits = session_limits(&arguments, &outputs);
    let record = Record { arguments, outputs, stop, filters, is_stdout_used, access, downloads };
    match kind {
        CaptureKind::Machine => {
            let scope = scan_scope(&record.arguments);
            let session = Session::start(SELF_EXE, config, scope, limits, cache, None);
            record.run(session.map_err(load_diagnostics::explain)?)
        }
        CaptureKind::Tasks(access) => {
            let sampler = task_sampler_config(&record.arguments, &config, access);
            let selection = task_selection(&config);
            let session = Session::start_for_tasks(SELF_EXE, sampler, &selection, limits, cache);
            record.run(session.map_err(load_diagnostics::explain_tasks)?)
        }
    }
}

/// What a recording needs beside its session.
struct Record {
    arguments: RecordArguments,
    outputs: Outputs,
    stop: StopWatcher,
    filters: Filters,
    is_stdout_used: bool,
    /// What may be sampled, if not everything.
    access: Option<TaskAccess>,
    /// Debug info from servers.
    downloads: Option<Arc<Downloads>>,
}

impl Record {
    /// Records until the end, symbolizes, writes. Returns the exit status.
    fn run<C: Capture>(self, mut session: Session<C>) -> Result<ExitCode> {
        let Self { arguments, outputs, stop, filters, is_stdout_used, access, downloads } = self;
        let Filters { processes, threads, .. } = filters;
        let (started, own_at_start) = (Instant::now(), Usage::own().cpu);
        let explain = match access {
            None => load_diagnostics::explain,
            Some(_) => load_diagnostics::explain_tasks,
        };
        let spawned = launch(&mut session, &arguments.command, is_stdout_used, &stop);
        let command = spawned.map_err(explain)??;
        if command.is_none() && processes.len() + threads.len() > 0 {
            stop.watch(&processes, &threads)?;
        }
        if !arguments.quiet {
            announce(&arguments, access, command);
        }
        let deadline = arguments.sampling.duration.map(|duration| Instant::now() + duration);
        let mut progress = ProgressLine::new(arguments.quiet);
        let reason = stop.wait(deadline, &session, &mut progress);
        progress.clear();
        if let (StopReason::TimeOver | StopReason::Terminated, Some(command)) = (&reason, &command)
        {
            child::terminate(*command);
        }

        let recording = session.finish().context("cannot finish the recording")?;
        let usage = RecordingUsage::since(started, own_at_start);
        let loss = recording.last.ledger.clone();
        let names = NameSource { downloads: downloads.as_ref(), stop: &stop };
        let is_written = write(&arguments, access, recording, usage, &outputs, &names)?;
        let status = match (reason, command) {
            (StopReason::CommandExited(status), _) => child::exit_code(status),
            (StopReason::TimeOver, Some(pid)) => {
                stop.wait_for_command(pid); // its status is that of the signal, as was asked for
                0
            }
            (_, Some(pid)) => stop.wait_for_command(pid),
            (_, None) => 0,
        };
        Ok(match status {
            _ if !is_written => ExitCode::FAILURE,
            0 if RecordingLoss::of(&loss).is_excessive() => ExitCode::from(recording_loss::STATUS),
            status => ExitCode::from(status),
        })
    }
}

fn session_limits(arguments: &RecordArguments, outputs: &Outputs) -> SessionLimits {
    SessionLimits {
        window: WINDOW_BYTES,
        times: if arguments.timestamps || outputs.need_times() { TIMES_BYTES } else { 0 },
        unwind: u64::from(arguments.unwind_mib) << 20,
        command_lines: matches!(arguments.by, RootFrames::Cmdline),
        ..SessionLimits::default()
    }
}

fn sampler_config(arguments: &RecordArguments) -> Result<SamplerConfig> {
    check_frequency(arguments.sampling.frequency)?;
    let default = SamplerConfig::machine(arguments.sampling.frequency);
    let to_ns = |microseconds| microseconds * 1000;
    Ok(SamplerConfig {
        kernel_stacks: !arguments.no_kernel,
        user_stacks: !arguments.no_user,
        idle: arguments.idle,
        follows_command: !arguments.command.is_empty(),
        whole_machine: arguments.all,
        cpus: filters::cpus(&arguments.sampling.cpus)?,
        filters: filters::filters(arguments)?,
        pid_namespace: pid_namespace()?,
        kernel_frames_limit: kernel_frames_limit(),
        tick_limit: arguments.tick_limit.map_or(default.tick_limit, to_ns),
        ring_bytes: arguments
            .ring_kib
            .map_or_else(|| ring_bytes(arguments.sampling.frequency), ring_of_kib),
        side_band_bytes: arguments.side_band_kib.map_or(default.side_band_bytes, ring_of_kib),
        ..default
    })
}

/// Returns how to sample tasks as far as it is allowed.
fn task_sampler_config(
    arguments: &RecordArguments,
    config: &SamplerConfig,
    access: TaskAccess,
) -> TaskSamplerConfig {
    let kernel_frames_limit = if config.kernel_stacks { config.kernel_frames_limit } else { 0 };
    let side_band_bytes = arguments.side_band_kib.map_or(TASK_SIDE_BAND_BYTES, ring_of_kib);
    TaskSamplerConfig {
        frequency: config.frequency,
        samples_kernel: access.samples_kernel,
        kernel_frames_limit,
        cpus: config.cpus.clone(),
        ring_bytes: task_ring_bytes(config.frequency, arguments.ring_kib.map(|kib| kib << 10)),
        side_band_bytes,
    }
}

fn task_selection(config: &SamplerConfig) -> TaskSelection {
    let Filters { processes, threads, .. } = &config.filters;
    TaskSelection {
        processes: processes.iter().map(|(pid, _)| Pid(*pid)).collect(),
        threads: threads.iter().map(|(tid, _)| Tid(*tid)).collect(),
    }
}

/// Rounds up to a power of two, as ring buffers need it.
fn ring_of_kib(kib: u32) -> u32 {
    (kib << 10).next_power_of_two()
}

fn paths(arguments: &RecordArguments) -> Vec<PathBuf> {
    if arguments.outputs.is_empty() {
        return match arguments.format {
            Some(format) => vec![format!("everytick{}", format.extension()).into()],
            None => vec!["everytick.svg".into(), "everytick.pb.gz".into()],
        };
    }
    arguments.outputs.clone()
}

fn options(arguments: &RecordArguments) -> OutputOptions {
    OutputOptions {
        format: arguments.format,
        root: arguments.by.into(),
        direction: Direction::of(arguments.bottom_up),
        runtime_frames: arguments.runtime_frames.into(),
    }
}

/// Returns which processes to read from /proc: those that can be sampled. The kernel reports those
/// of COMMAND in the side band.
fn scan_scope(arguments: &RecordArguments) -> ScanScope {
    let selected = filters::selected_processes(&arguments.sampling);
    match arguments.all || arguments.command.is_empty() && selected.is_empty() {
        true => ScanScope::All,
        false => ScanScope::Only(selected),
    }
}

/// Starts COMMAND if there is one, and returns its pid.
///
/// # Errors
/// [`LoadError`] when the kernel refuses to follow it; within, when it cannot be started.
pub(super) fn launch<C: Capture>(
    session: &mut Session<C>,
    command: &[String],
    is_stdout_used: bool,
    stop: &StopWatcher,
) -> Result<Result<Option<u32>>, LoadError> {
    if command.is_empty() {
        return Ok(Ok(None));
    }
    let spawned = session.launch(|| child::spawn(command, is_stdout_used))?;
    Ok(spawned.and_then(|child| {
        let pid = child.id();
        stop.watch_command(child)?;
        Ok(Some(pid))
    }))
}

fn announce(arguments: &RecordArguments, access: Option<TaskAccess>, command: Option<u32>) {
    let (scope, frequency) = (describe_scope(arguments, access), arguments.sampling.frequency);
    let end = describe_end(&arguments.sampling, &arguments.command);
    let text = format!("everytick: profiling {scope} at {frequency} Hz {end}");
    terminal::line(&printable(&text));
    if !arguments.comms.is_empty() && command.is_none() {
        comm_filter::unmatched(&arguments.comms).iter().for_each(|note| terminal::line(note));
    }
}

/// Where names come from besides the files of this machine.
struct NameSource<'a> {
    downloads: Option<&'a Arc<Downloads>>,
    stop: &'a StopWatcher,
}

impl NameSource<'_> {
    /// Symbolizes a window, and again if debug info for it was downloaded.
    fn symbolize(
        &self,
        closed: &ClosedWindow,
        symbolizer: &mut WindowSymbolizer,
        is_quiet: bool,
    ) -> (Profile, WindowNames) {
        let ClosedWindow { window, ledger, period, executables, .. } = closed;
        let symbolize = |symbolizer: &mut WindowSymbolizer| {
            symbolization::symbolize(window, ledger.clone(), *period, executables, symbolizer)
        };
        let (profile, names) = symbolize(symbolizer);
        let Some(downloads) = self.downloads else { return (profile, names) };
        debug_info_downloads::wait(downloads, self.stop, is_quiet);
        if !symbolizer.renew() {
            return (profile, names);
        }
        drop(profile);
        let (profile, mut again) = symbolize(symbolizer);
        again.counts.add_left_out(&names.counts);
        (profile, again)
    }
}

/// Symbolizes the window and writes every file. Returns whether all files were written.
fn write(
    arguments: &RecordArguments,
    access: Option<TaskAccess>,
    recording: Recording,
    usage: RecordingUsage,
    outputs: &Outputs,
    source: &NameSource<'_>,
) -> Result<bool> {
    let ClosedWindow { ledger, executables, counts, .. } = &recording.last;
    ledger.check().context("please report this")?;
    let mut symbolizer = WindowSymbolizer::new(SELF_EXE, SymbolizerMemory::default())
        .with_mode(arguments.symbolize)
        .with_downloads(source.downloads.cloned());
    let (mut profile, names) = source.symbolize(&recording.last, &mut symbolizer, arguments.quiet);
    let context = symbolization::capture_context(
        &profile,
        &symbolization::host_name(),
        arguments.sampling.frequency,
        !arguments.sampling.cpus.is_empty(),
        &describe_scope(arguments, access),
    );
    profile.comments = symbolization::comments(&profile, &context);
    profile.comments.extend(names.counts.comment());
    let (files, is_written) = report(outputs.write(&profile));
    if arguments.json || !arguments.quiet {
        let overhead =
            Overhead { counts: *counts, recording: usage, symbolizer: symbolizer.usage() };
        let quality = Quality {
            names: &names,
            executables: &recording.processes.executables,
            profiled: executables,
            processes_refreshed: recording.processes.refresh_count(),
            downloads: source.downloads.map(|downloads| downloads.counts()),
            download_failure: source.downloads.and_then(|downloads| downloads.failure()),
            access,
        };
        let summary = Summary::new(&profile, &context, &overhead, &quality, files);
        match arguments.json {
            true => terminal::result(&summary.json())?,
            false => terminal::line(summary.text(arguments.verbose).trim_end()),
        }
    }
    if let (true, Some(loss)) =
        (arguments.quiet || arguments.json, RecordingLoss::of(ledger).describe())
    {
        terminal::line(&format!("everytick: {loss}"));
    }
    if let Some(left_out) = profile.timeline.as_ref().map(|timeline| timeline.times.left_out())
        && left_out > 0
    {
        let count = thousands(left_out);
        terminal::line(&format!(
            "everytick: {count} samples have no time and are missing in .perf and \
             .firefox.json.gz: 16 million times fit; record for a shorter time, or at a lower \
             frequency"
        ));
    }
    Ok(is_written)
}

/// Prints the files that could not be written. Returns those that were, and whether all were.
fn report(results: Vec<(String, Result<(), OutputError>)>) -> (Vec<String>, bool) {
    let (mut written, mut is_written) = (Vec::new(), true);
    for (name, result) in results {
        match result {
            Ok(()) => written.push(name),
            Err(error) => {
                is_written = false;
                terminal::line(&printable(&format!("everytick: {error}")));
            }
        }
    }
    (written, is_written)
}

#[cfg(test)]
mod tests {
    use upload::output::RuntimeFrames;

    use super::super::cli::parse_record;
    use super::*;

    #[test]
    fn machinery_is_shown_only_when_it_is_wanted() {
        let runtime_frames = |text| options(&parse_record(text)).runtime_frames;
        assert_eq!(runtime_frames(""), RuntimeFrames::Hide);
        assert_eq!(runtime_frames("--runtime-frames show"), RuntimeFrames::Show);
    }
}
