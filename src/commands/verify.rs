//! `everytick verify`: runs a second unwinder on the same ticks, live, and compares the stacks.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use profile::printable;

use super::cli::VerifyArguments;
use super::frequency::check_frequency;
use super::progress::ProgressLine;
use super::scope::{describe_end, describe_verified};
use super::stop::{StopReason, StopWatcher};
use super::workers::SELF_EXE;
use super::{child, filters, load_diagnostics, record, terminal, verify_report};
use crate::host;
use crate::kernel::{Filters, SamplerConfig};
use crate::session::{ScanScope, Session, SessionLimits};
use crate::tables::RowSource;
use crate::verify::Verifier;
use upload::output;

/// Verifies until the end of the recording and reports the findings. Differences are no error.
pub(super) fn run(arguments: &VerifyArguments) -> Result<ExitCode> {
    let config = sampler_config(arguments)?;
    if let Some(path) = &arguments.output {
        output::check_writable(path)?;
    }
    let stop = StopWatcher::start()?;
    let (processes, threads) = (config.filters.processes.clone(), config.filters.threads.clone());
    let (verifier, findings) =
        Verifier::new(1_000_000_000 / u64::from(arguments.sampling.frequency));
    let mut session = Session::start(
        SELF_EXE,
        config,
        scan(arguments),
        SessionLimits { row_source: row_source(arguments), ..SessionLimits::default() },
        None,
        Some(Box::new(verifier)),
    )
    .map_err(load_diagnostics::explain)?;
    let command = record::launch(&mut session, &arguments.command, false, &stop)
        .map_err(load_diagnostics::explain)??;
    if command.is_none() && processes.len() + threads.len() > 0 {
        stop.watch(&processes, &threads)?;
    }
    announce(arguments);
    let deadline = arguments.sampling.duration.map(|duration| Instant::now() + duration);
    let mut progress = ProgressLine::new(false);
    let reason = stop.wait(deadline, &session, &mut progress);
    progress.clear();
    if let (false, Some(command)) = (matches!(reason, StopReason::CommandExited(_)), command) {
        child::terminate(command);
    }

    let recording = session.finish().context("cannot finish the recording")?;
    recording.last.ledger.check().context("please report this")?;
    let (findings, executables) = (findings.take(), &recording.processes.executables);
    let seconds = recording.last.period.duration_ns as f64 / 1e9;
    let text = verify_report::text(&findings, executables, seconds, arguments.places);
    terminal::line(text.trim_end());
    if let Some(path) = &arguments.output {
        output::replace(path, verify_report::json(&findings, executables, seconds).as_bytes())?;
        terminal::line(&printable(&format!("  wrote         {}", path.display())));
    }
    if let (false, Some(command)) = (matches!(reason, StopReason::CommandExited(_)), command) {
        stop.wait_for_command(command);
    }
    Ok(ExitCode::SUCCESS)
}

fn sampler_config(arguments: &VerifyArguments) -> Result<SamplerConfig> {
    check_frequency(arguments.sampling.frequency)?;
    let sampling = &arguments.sampling;
    let processes = filters::processes(&sampling.pids)?;
    let threads = filters::threads(&sampling.tids)?;
    Ok(SamplerConfig {
        kernel_stacks: false,
        follows_command: !arguments.command.is_empty(),
        perf_samples: true,
        filters: Filters { processes, threads, ..Filters::default() },
        cpus: filters::cpus(&sampling.cpus)?,
        pid_namespace: host::pid_namespace()?,
        kernel_frames_limit: host::kernel_frames_limit(),
        ring_bytes: host::ring_bytes(arguments.sampling.frequency),
        ..SamplerConfig::machine(arguments.sampling.frequency)
    })
}

/// Returns the processes to look up at the start: as in `record`, those that can be sampled.
fn scan(arguments: &VerifyArguments) -> ScanScope {
    let selected = filters::selected_processes(&arguments.sampling);
    match arguments.command.is_empty() && selected.is_empty() {
        true => ScanScope::All,
        false => ScanScope::Only(selected),
    }
}

fn row_source(arguments: &VerifyArguments) -> RowSource {
    if arguments.derived_only { RowSource::MachineCode } else { RowSource::All }
}

fn announce(arguments: &VerifyArguments) {
    let (scope, frequency) = (describe_verified(arguments), arguments.sampling.frequency);
    let end = describe_end(&arguments.sampling, &arguments.command);
    let rows = match row_source(arguments) {
        RowSource::All => "",
        RowSource::MachineCode => " by derived rows alone",
    };
    let text =
        format!("everytick: verifying {scope}{rows} at {frequency} Hz {end} against framehop");
    terminal::line(&printable(&text));
}
