//! `everytick record`: from the command line to the files.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use profile::{Pid, Profile};

use super::OURSELVES;
use super::cli::RecordArguments;
use super::ends::{End, Ends};
use super::meter::Meter;
use super::summary::{Cost, Trouble, summary};
use super::{child, filters, load_diagnostics, terminal};
use crate::kernel::abi::KERNEL_FRAMES_MAX;
use crate::kernel::{SamplerConfig, online_cpus};
use crate::output::Outputs;
use crate::processes::proc::read_text;
use crate::session::{ClosedWindow, Recording, ScanScope, Session, SessionLimits};
use crate::symbolization::{self, SymbolizerMemory, WindowSymbolizer};
use crate::tables::Cache;

/// Bytes that a window may take: about a million distinct frames.
const WINDOW_BYTES: usize = 256 << 20;
/// A record's size that the ring is made for: 60 frames.
const RECORD_BYTES: u64 = 544;

/// Records, names and writes. Gives the exit status of COMMAND, or success.
pub(super) fn run(arguments: RecordArguments) -> Result<ExitCode> {
    let settings = settings(&arguments)?;
    let outputs = Outputs::open(paths(&arguments), arguments.by.into())?;
    let cache = arguments.cache_dir.as_deref().map(Cache::open).transpose()?;
    let ends = Ends::watch()?;

    let scan = scan(&arguments, &settings);
    let unwind = u64::from(arguments.unwind_memory) << 20;
    let limits = SessionLimits { window: WINDOW_BYTES, unwind, ..SessionLimits::default() };
    let mut session = Session::start(OURSELVES, settings, scan, limits, cache, None)
        .map_err(load_diagnostics::explain)?;
    let command = launch(&mut session, &arguments.command, &ends)?;
    let mut meter = Meter::new(arguments.quiet);
    if !arguments.quiet {
        announce(&arguments);
    }
    let deadline =
        arguments.duration.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
    let end = ends.wait(deadline, &session, &mut meter);
    meter.clear();
    if let (End::Terminated, Some(command)) = (&end, &command) {
        child::terminate(*command);
    }

    let recording = session.finish().context("the recording could not be finished")?;
    let written = write(&arguments, recording, &outputs)?;
    let code = match (end, command) {
        (End::Command(status), _) => child::exit_code(status),
        (_, Some(pid)) => ends.wait_for_command(pid, arguments.quiet),
        (_, None) => 0,
    };
    Ok(if written { ExitCode::from(code) } else { ExitCode::FAILURE })
}

fn settings(arguments: &RecordArguments) -> Result<SamplerConfig> {
    check_frequency(arguments.frequency)?;
    let machine = SamplerConfig::machine(arguments.frequency);
    let in_ns = |microseconds| microseconds * 1000;
    Ok(SamplerConfig {
        kernel_stacks: !arguments.no_kernel,
        user_stacks: !arguments.no_user,
        idle: arguments.idle,
        command: !arguments.command.is_empty(),
        filters: filters::filters(arguments)?,
        pid_namespace: filters::pid_namespace()?,
        kernel_frames_limit: kernel_frames_limit(),
        tick_limit: arguments.tick_limit.map_or(machine.tick_limit, in_ns),
        ring_bytes: arguments.ring_size.map_or_else(|| ring_bytes(arguments.frequency), whole_ring),
        side_band_bytes: arguments.side_band_size.map_or(machine.side_band_bytes, whole_ring),
        ..machine
    })
}

/// Refuses a frequency that the kernel would refuse.
pub(super) fn check_frequency(frequency: u32) -> Result<()> {
    let allowed = max_sample_rate();
    ensure!(
        frequency <= allowed,
        "-F {frequency}: this kernel allows at most {allowed} Hz; ask for less, or raise kernel.perf_event_max_sample_rate",
    );
    Ok(())
}

/// Samples a second that the kernel allows on each CPU.
pub(super) fn max_sample_rate() -> u32 {
    sysctl("perf_event_max_sample_rate").unwrap_or(u32::MAX)
}

/// Frames that the kernel gives of its own stack.
pub(super) fn kernel_frames_limit() -> u32 {
    sysctl("perf_event_max_stack").unwrap_or(KERNEL_FRAMES_MAX).min(KERNEL_FRAMES_MAX)
}

fn sysctl(name: &str) -> Option<u32> {
    read_text(&format!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
}

/// The ring holds two seconds of every CPU's samples, from 1 to 64 MiB.
pub(super) fn ring_bytes(frequency: u32) -> u32 {
    let cpus = online_cpus().map_or(1, |cpus| cpus.len()) as u64;
    let two_seconds = 2 * cpus * u64::from(frequency) * RECORD_BYTES;
    two_seconds.clamp(1 << 20, 64 << 20).next_power_of_two() as u32
}

fn whole_ring(kib: u32) -> u32 {
    (kib << 10).next_power_of_two()
}

fn paths(arguments: &RecordArguments) -> Vec<PathBuf> {
    if arguments.outputs.is_empty() {
        return vec!["everytick.svg".into(), "everytick.pb.gz".into()];
    }
    arguments.outputs.clone()
}

/// Only processes that can be sampled need be looked up. Those of COMMAND are told by the side band.
fn scan(arguments: &RecordArguments, settings: &SamplerConfig) -> ScanScope {
    if settings.command || !arguments.pids.is_empty() {
        return ScanScope::Only(arguments.pids.iter().map(|pid| Pid(*pid)).collect());
    }
    ScanScope::All
}

/// Starts the command, if there is one, and gives its process.
pub(super) fn launch(
    session: &mut Session,
    command: &[String],
    ends: &Ends,
) -> Result<Option<u32>> {
    if command.is_empty() {
        return Ok(None);
    }
    let child = session.launch(|| child::spawn(command)).map_err(load_diagnostics::explain)??;
    let pid = child.id();
    ends.watch_command(child)?;
    Ok(Some(pid))
}

fn announce(arguments: &RecordArguments) {
    let what = match (arguments.command.first(), arguments.pids.is_empty()) {
        (Some(program), _) => program.clone(),
        (None, false) => "the processes given".into(),
        (None, true) if arguments.cgroups.is_empty() && arguments.comms.is_empty() => {
            "the machine".into()
        }
        (None, true) => "what the filters name".into(),
    };
    let until = match (arguments.duration, arguments.command.is_empty()) {
        (Some(seconds), _) => format!("for {seconds} s"),
        (None, true) => "until Ctrl-C".into(),
        (None, false) => "until it ends".into(),
    };
    terminal::line(&format!("everytick: profiling {what} at {} Hz {until}", arguments.frequency));
}

/// Names the window and writes every file; says whether all were written.
fn write(arguments: &RecordArguments, recording: Recording, outputs: &Outputs) -> Result<bool> {
    let ClosedWindow { window, ledger, period, executables: sampled, counts } = &recording.last;
    ledger.check().context("please report this")?;
    let mut symbolizer = WindowSymbolizer::new(OURSELVES, SymbolizerMemory::default());
    let executables = &recording.processes.executables;
    let (mut profile, unnamed) =
        symbolization::symbolize(window, ledger.clone(), *period, sampled, &mut symbolizer);
    profile.comments = symbolization::comments(
        &profile,
        &symbolization::host_name(),
        &format!("{} Hz", arguments.frequency),
    );
    let written = outputs.write(&profile);
    if !arguments.quiet {
        let cost = Cost { counts: *counts, symbolizer: symbolizer.usage() };
        let trouble = Trouble {
            unnamed: &unnamed,
            executables,
            looked_up: recording.processes.refresh_count(),
        };
        terminal::line(summary(&profile, &cost, &trouble).trim_end());
    }
    report(written, arguments.quiet, &profile)
}

fn report(
    written: Vec<(PathBuf, Result<(), upload::output::OutputError>)>,
    is_quiet: bool,
    profile: &Profile,
) -> Result<bool> {
    let mut all = true;
    for (path, result) in written {
        match result {
            Ok(()) if is_quiet => {}
            Ok(()) => terminal::line(&format!("  wrote         {}", path.display())),
            Err(error) => {
                all = false;
                terminal::line(&format!("everytick: {error}"));
            }
        }
    }
    if profile.samples.is_empty() && !is_quiet {
        terminal::line(
            "  note          there is no sample: nothing of what was asked for ran on a CPU",
        );
    }
    Ok(all)
}
