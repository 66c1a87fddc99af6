//! `everytick agent`: from the configuration to the agent that goes by it.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use profile::Labels;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, filter::LevelFilter, reload};
use upload::SinkSettings;
use upload::delivery::{DeliveryConfig, NamedSink};
use upload::sinks::directory;
use upload::spool::SpoolConfig;

use super::cli::AgentArguments;
use super::export::{self, Export};
use super::{OURSELVES, filters, load_diagnostics, record, terminal};
use crate::agent::{self, AgentError, Settings};
use crate::budget::Limits;
use crate::config::{self, Config, Log, LogFormat, Store, TimeRange};
use crate::kernel;
use crate::labels;

/// The sink of the local store, beside those that have a name in the configuration.
const STORE: &str = "store";

/// Runs the agent, or shows its configuration, or exports from its store.
pub(super) fn run(arguments: &AgentArguments) -> Result<ExitCode> {
    let load = || -> Result<Config> { Ok(Config::load(&arguments.flags, std::env::vars_os())?) };
    if arguments.check_config {
        let in_force = config::check(&arguments.flags, std::env::vars_os())?;
        io::stdout().lock().write_all(in_force.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    kernel::share_heap();
    let started = load()?;
    if let Some(range) = &arguments.export {
        return export(arguments, range, &started.store);
    }
    let level = start_log(&started.log);
    let mut reload = |take: &mut agent::Take<'_>| {
        let taken = load().and_then(|mut new| {
            let waiting = new.keep_until_restart(&started);
            take(settings(&new)?)?;
            Ok((new, waiting))
        });
        match taken {
            Ok((new, waiting)) => {
                let _ = level.reload(new.log.level); // it is there for as long as we run
                for key in waiting {
                    tracing::warn!(
                        key,
                        "was changed; that takes effect when the agent is started again"
                    );
                }
                tracing::info!("the configuration was read again");
                true
            }
            Err(error) => {
                tracing::error!("nothing of the new configuration is taken over: {error}");
                false
            }
        }
    };
    agent::run(OURSELVES, settings(&started)?, &mut reload).map_err(explain)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes each file that was asked for.
fn export(arguments: &AgentArguments, range: &TimeRange, store: &Store) -> Result<ExitCode> {
    for output in &arguments.outputs {
        let exported = export::export(&Export {
            store: store.directory.clone(),
            from_unix_ns: range.from_unix_ns,
            to_unix_ns: range.to_unix_ns,
            output: output.clone(),
            by: arguments.by.into(),
        })?;
        exported.lines(output).iter().for_each(|line| terminal::line(line));
    }
    Ok(ExitCode::SUCCESS)
}

fn explain(error: AgentError) -> anyhow::Error {
    match error {
        AgentError::Load(error) => load_diagnostics::explain(error),
        error => anyhow!(error),
    }
}

fn settings(config: &Config) -> Result<Settings> {
    let sampling = &config.agent;
    record::check_frequency(sampling.frequency)?;
    let mut sinks = config.sinks.clone();
    sinks.extend(config.store.enabled.then(|| store(&config.store)));
    Ok(Settings {
        frequency: sampling.frequency,
        window: sampling.window,
        limits: Limits { cpu_percent: sampling.max_cpu, memory: sampling.max_memory },
        labels: labels::of_machine(&sampling.node, &Labels(sampling.labels.clone())).into(),
        series_max: sampling.series_max,
        delivery: DeliveryConfig {
            spool: SpoolConfig {
                directory: config.spool.directory.clone(),
                bytes_max: config.spool.max_bytes,
            },
            sinks,
        },
        sampler: kernel::SamplerConfig {
            kernel_stacks: sampling.kernel_stacks,
            user_stacks: sampling.user_stacks,
            pid_namespace: filters::pid_namespace()?,
            kernel_frames_limit: record::kernel_frames_limit(),
            ..kernel::SamplerConfig::machine(sampling.frequency)
        },
        cache: sampling.cache_dir.clone(),
        listen: sampling.listen,
    })
}

fn store(store: &Store) -> NamedSink {
    let settings = directory::Settings {
        directory: store.directory.clone(),
        bytes_max: store.max_bytes,
        age_max_seconds: store.max_age.as_secs(),
    };
    NamedSink { name: STORE.into(), settings: SinkSettings::File(settings) }
}

/// Has log lines written to standard error; gives the handle of their level.
fn start_log(log: &Log) -> reload::Handle<LevelFilter, Registry> {
    let (level, handle) = reload::Layer::new(log.level);
    let lines = fmt::layer().with_writer(io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(level);
    match log.format {
        LogFormat::Text => registry.with(lines.with_ansi(terminal::is_watched())).init(),
        LogFormat::Json => registry.with(lines.json()).init(),
    }
    handle
}
