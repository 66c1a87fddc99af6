//! `everytick agent`: starts the agent from its configuration, and reloads that on SIGHUP.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use profile::{Labels, error_chain};
use upload::SinkConfig;
use upload::delivery::{DeliveryConfig, NamedSink};
use upload::output::{Direction, OutputFile, OutputOptions};
use upload::sinks::directory;

use super::cli::AgentArguments;
use super::export::{self, ExportRequest};
use super::frequency::check_frequency;
use super::workers::SELF_EXE;
use super::{load_diagnostics, terminal};
use crate::agent::{self, AgentConfig, AgentError};
use crate::budget::BudgetLimits;
use crate::config::{self, AgentSection, Config, LogFormat, LogSection, StoreSection, TimeRange};
use crate::debuginfod::ServerList;
use crate::host;
use crate::kernel;
use crate::labels;
use crate::log::{LineStyle, Log};

/// Name of the local store among the sinks.
const STORE: &str = "store";

/// Runs the agent, or prints its configuration, or exports from its store.
pub(super) fn run(arguments: &AgentArguments) -> Result<ExitCode> {
    if arguments.check_config {
        return check_config(arguments);
    }
    kernel::share_heap();
    let config = load(arguments)?;
    if let Some(range) = &arguments.export {
        return export(arguments, range, &config.store);
    }
    let log = start_log(&config.log)?;
    config.check_machine()?;
    log_notes(&config);
    let agent_config = agent_config(&config)?;
    let mut reload = |apply: &mut agent::ApplyConfig<'_>| reload(arguments, &config, &log, apply);
    agent::run(SELF_EXE, agent_config, &mut reload).map_err(explain)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the effective configuration, and warnings to standard error.
fn check_config(arguments: &AgentArguments) -> Result<ExitCode> {
    let config = load(arguments)?;
    config::check(&config)?;
    io::stdout().lock().write_all(config.report().as_bytes())?;
    config.warnings().iter().for_each(|text| terminal::line(&format!("warning: {text}")));
    Ok(ExitCode::SUCCESS)
}

/// Logs what is unwise in the configuration, and limits that follow from the machine.
fn log_notes(config: &Config) {
    config.warnings().iter().for_each(|text| tracing::warn!("{text}"));
    if let Some(origin) = config.memory_origin() {
        let mib = config.agent.max_memory >> 20;
        tracing::info!("memory is limited to {mib} MiB, {origin}");
    }
}

fn load(arguments: &AgentArguments) -> Result<Config> {
    Ok(Config::load(&arguments.flags, std::env::vars_os())?)
}

/// Reads the configuration again, applies it and logs the result. Keys that need a restart keep
/// their values from `at_start`. Returns whether the configuration was applied.
fn reload(
    arguments: &AgentArguments,
    at_start: &Config,
    log: &Log,
    apply: &mut agent::ApplyConfig<'_>,
) -> bool {
    let applied = load(arguments).and_then(|mut config| {
        config.check_machine()?;
        let restart_needed = config.keep_until_restart(at_start);
        apply(agent_config(&config)?)?;
        Ok((config, restart_needed))
    });
    match applied {
        Ok((config, restart_needed)) => {
            log.set_level(config.log.level.into());
            config.warnings().iter().for_each(|text| tracing::warn!("{text}"));
            for key in &restart_needed {
                tracing::warn!(key, "configuration change needs a restart");
            }
            tracing::info!("configuration reloaded");
            true
        }
        Err(error) => {
            // Errors of the configuration have a line each.
            let cause = error_chain(error.as_ref()).replace('\n', "; ");
            tracing::error!("reload rejected, keeping current configuration: {cause}");
            false
        }
    }
}

/// Exports the range into each output file.
fn export(arguments: &AgentArguments, range: &TimeRange, store: &StoreSection) -> Result<ExitCode> {
    let options = OutputOptions {
        format: arguments.format,
        root: arguments.by.into(),
        direction: Direction::of(arguments.bottom_up),
        runtime_frames: arguments.runtime_frames.into(),
    };
    for output in OutputFile::all(arguments.outputs.clone(), options)? {
        let summary = export::export(&ExportRequest {
            store: store.directory.clone(),
            from_unix_ns: range.from_unix_ns,
            to_unix_ns: range.to_unix_ns,
            output: output.clone(),
            agents: arguments.agents.clone(),
        })?;
        summary.lines(&output.name()).iter().for_each(|line| terminal::line(line));
    }
    Ok(ExitCode::SUCCESS)
}

fn explain(error: AgentError) -> anyhow::Error {
    match error {
        AgentError::Load(error) => load_diagnostics::explain(error),
        error => anyhow!(error),
    }
}

fn agent_config(config: &Config) -> Result<AgentConfig> {
    let sampling = &config.agent;
    check_frequency(sampling.frequency)?;
    let mut sinks = config.sinks.clone();
    sinks.extend(config.store.enabled.then(|| store(&config.store)));
    Ok(AgentConfig {
        frequency: sampling.frequency,
        window: sampling.window,
        limits: BudgetLimits { cpu_percent: sampling.max_cpu, memory: sampling.max_memory },
        labels: labels::of_machine(&sampling.node, &Labels(sampling.labels.clone())).into(),
        series_max: sampling.series_max,
        delivery: DeliveryConfig { spool: config.spool.clone(), sinks },
        sampler: kernel::SamplerConfig {
            kernel_stacks: sampling.kernel_stacks,
            user_stacks: sampling.user_stacks,
            pid_namespace: host::pid_namespace()?,
            kernel_frames_limit: host::kernel_frames_limit(),
            ..kernel::SamplerConfig::machine(sampling.frequency)
        },
        cache: sampling.cache_dir.clone(),
        debuginfod: debuginfod(sampling)?,
        symbolize: sampling.symbolize,
        listen: sampling.listen,
        host_names: host_names(sampling),
    })
}

/// Returns the servers of the setting.
fn debuginfod(agent: &AgentSection) -> Result<Option<ServerList>> {
    let servers = agent.debuginfod.as_deref().map(ServerList::parse).transpose();
    servers.map_err(|error| anyhow!("`agent.debuginfod` cannot be used: {error}"))
}

/// Returns the names of the setting, and that of the machine.
fn host_names(agent: &AgentSection) -> Vec<String> {
    let names = agent.host_names.split(',').map(str::trim).filter(|name| !name.is_empty());
    names.chain([agent.node.as_str()]).map(str::to_owned).collect()
}

fn store(store: &StoreSection) -> NamedSink {
    let config = directory::Config {
        directory: store.directory.clone(),
        retention: store.retention.clone(),
    };
    NamedSink { name: STORE.into(), settings: SinkConfig::File(config) }
}

/// Starts logging to standard error.
fn start_log(log: &LogSection) -> io::Result<Log> {
    let style = match log.format {
        LogFormat::Text if terminal::uses_colors() => LineStyle::ColoredText,
        LogFormat::Text => LineStyle::Text,
        LogFormat::Json => LineStyle::Json,
    };
    Log::start(log.level.into(), style)
}
