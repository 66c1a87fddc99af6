//! The profiling loop: closes a window, hands it to the publisher, until stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use profile::Cpu;
use upload::delivery::Delivery;
use upload::{DebugInfoSource, StartError};

use super::debug_files::DebugFiles;
use super::publisher::Publisher;
use super::rate::RateSelector;
use super::sampling::{Sampling, SessionConfig};
use super::signals::{Signal, Signals};
use super::status::{self, AgentStatus};
use super::window::PendingWindow;
use super::{AgentConfig, AgentError, ApplyConfig};
use crate::budget::{Assessment, BudgetLimits, Ladder, MemoryShares, Step, UsageMeter};
use crate::kernel::{SamplerConfig, online_cpus};
use crate::metrics::server::Server;
use crate::session::ClosedWindow;

/// Time from the stop signal to the end, at most.
const STOP_MAX: Duration = Duration::from_secs(5);
/// The part of [`STOP_MAX`] that is left for delivering the last windows.
const LAST_DELIVERY: Duration = Duration::from_secs(2);
/// Time limit of symbolizing the last window.
const LAST_SYMBOLIZATION: Duration = Duration::from_secs(1);

/// Runs the agent until SIGTERM or Ctrl-C.
///
/// `program`: path of this program, which is also its own worker processes. `reload`: called on
/// SIGHUP; reads the configuration again, applies it with the function that it gets, logs the
/// result, and returns whether the configuration was applied.
///
/// # Errors
/// [`AgentError`] when the agent cannot start. Later failures are counted.
pub fn run(
    program: &str,
    config: AgentConfig,
    reload: &mut dyn FnMut(&mut ApplyConfig<'_>) -> bool,
) -> Result<(), AgentError> {
    let signals = Signals::watch()?;
    let mut agent = Agent::start(program, config)?;
    let mut window_end = Instant::now() + agent.config.window;
    loop {
        match signals.wait(window_end) {
            Some(Signal::Stop) => break,
            Some(Signal::Reload) => {
                let is_applied = reload(&mut |config| agent.apply(config));
                agent.status.reloaded(is_applied);
                window_end = window_end.min(Instant::now() + agent.config.window);
            }
            None => {
                window_end = (window_end + agent.config.window).max(Instant::now());
                if let Err(error) = agent.end_window() {
                    agent.stop();
                    return Err(error);
                }
            }
        }
    }
    agent.stop();
    Ok(())
}

struct Agent {
    config: AgentConfig,
    sampling: Sampling,
    delivery: Arc<Delivery>,
    publisher: Publisher,
    server: Option<Server>,
    status: Arc<AgentStatus>,
    meter: UsageMeter,
    ladder: Ladder,
    rates: RateSelector,
    /// The step of the current window, and the measurements of the window before.
    assessment: Assessment,
    window_started: Instant,
    bpf_map_bytes: u64,
    /// Set when the agent stops. Ends the symbolization of every window but the last one, which has
    /// a time limit of its own.
    stop_symbolizing: Arc<AtomicBool>,
}

impl Agent {
    fn start(program: &str, config: AgentConfig) -> Result<Self, AgentError> {
        let cpus = online_cpus()?.len() as u32;
        let memory = config.limits.memory;
        let shares = MemoryShares::of(memory, cpus).ok_or(AgentError::Memory(memory >> 20))?;
        let debug_files = Arc::new(DebugFiles::default());
        let debug_info: Arc<dyn DebugInfoSource> = debug_files.clone();
        let delivery = Arc::new(Delivery::start(&config.delivery, Some(debug_info))?);
        let status =
            Arc::new(AgentStatus::new(Arc::clone(&delivery), config.limits, config.window));
        let server = start_server(&config, &status)?;
        let sampling = Sampling::start(SessionConfig {
            program: program.into(),
            sampler: SamplerConfig { frequency: config.frequency, ..config.sampler.clone() },
            memory,
            cache: config.cache.clone(),
        })?;
        let publisher = Publisher::spawn(
            program,
            shares.symbols,
            Arc::clone(&delivery),
            debug_files,
            Arc::clone(&status),
        )?;
        let ladder = Ladder::new(config.limits, config.frequency, cpus);
        let mut meter = UsageMeter::default();
        meter.measure(Duration::ZERO, 0); // the overhead of the start belongs to no window
        status.sampling_started(ladder.step());
        tracing::info!(
            frequency = config.frequency,
            window_seconds = config.window.as_secs_f64(),
            sinks = config.delivery.sinks.len(),
            "profiling the machine"
        );
        Ok(Self {
            config,
            sampling,
            delivery,
            publisher,
            server,
            status,
            meter,
            rates: RateSelector::new(ladder.step()),
            assessment: Assessment::before_first_window(ladder.step()),
            ladder,
            window_started: Instant::now(),
            bpf_map_bytes: 0,
            stop_symbolizing: Arc::default(),
        })
    }

    /// Assesses the current window against the budget, closes it and publishes it.
    ///
    /// # Errors
    /// [`AgentError`] when CPUs have come online and sampling cannot be restarted.
    fn end_window(&mut self) -> Result<(), AgentError> {
        if self.publisher.is_busy() {
            tracing::warn!("extending the window: the previous one is still being published");
            return Ok(());
        }
        let length = self.window_started.elapsed();
        let usage = self.meter.measure(self.sampling.bpf_cpu(), self.bpf_map_bytes);
        let assessment = self.ladder.assess(&usage, length);
        if assessment.has_changed {
            log_step(&assessment, &self.config.limits);
        }
        let without_clock = self.sampling.cpus_without_clock();
        if !without_clock.is_empty() {
            return self.restart_sampling(&without_clock, assessment);
        }
        let rate = self.rates.next(assessment.step, length.as_nanos() as u64);
        match self.sampling.close_window(rate) {
            Ok(closed) => {
                if rate.is_some() {
                    self.rates.applied(assessment.step);
                }
                self.publish(closed, assessment);
            }
            Err(error) => tracing::error!("extending the window: cannot close it: {error}"),
        }
        Ok(())
    }

    /// Ends the session and starts one with all CPUs, at the full rate for its first window.
    fn restart_sampling(
        &mut self,
        without_clock: &[Cpu],
        assessment: Assessment,
    ) -> Result<(), AgentError> {
        let cpus: Vec<u32> = without_clock.iter().map(|cpu| cpu.0).collect();
        tracing::warn!(?cpus, "restarting sampling: CPUs have come online");
        let at_full_rate = Assessment { step: self.ladder.full_rate(), ..assessment };
        match self.sampling.finish() {
            Ok(closed) => self.publish(closed, at_full_rate),
            Err(error) => {
                tracing::error!("window lost: {error}");
                self.status.window_not_closed();
            }
        }
        let cpus = self.sampling.restart()?;
        self.ladder.set_cpus(cpus);
        self.rates = RateSelector::new(at_full_rate.step);
        self.assessment = at_full_rate;
        self.window_started = Instant::now();
        self.status.sampling_started(at_full_rate.step);
        Ok(())
    }

    /// Publishes a closed window. `assessment`: its measurements, and the step of the next window.
    fn publish(&mut self, closed: ClosedWindow, assessment: Assessment) {
        self.window_started = Instant::now();
        self.bpf_map_bytes = closed.counts.map_bytes;
        let step = std::mem::replace(&mut self.assessment, assessment).step;
        let of_window = Assessment { step, ..assessment };
        self.status.window_closed(&closed, &of_window, assessment.step);
        let session = self.sampling.session_number();
        let window = pending_window(closed, of_window, session, &self.config);
        let stop_symbolizing = Arc::clone(&self.stop_symbolizing);
        if !self.publisher.publish(PendingWindow { stop_symbolizing, ..window }) {
            self.status.window_not_published();
        }
    }

    /// Applies a configuration from the next window on, all of it or nothing.
    fn apply(&mut self, config: AgentConfig) -> Result<(), StartError> {
        self.delivery.reload(&config.delivery)?;
        self.ladder.set_limits(config.limits, config.frequency);
        self.sampling.set_frequency(config.frequency);
        self.status.configuration_changed(config.limits, config.window);
        self.config = config;
        Ok(())
    }

    /// Publishes the last window and delivers what fits into [`STOP_MAX`]. The rest stays in the
    /// spool.
    fn stop(self) {
        let deadline = Instant::now() + STOP_MAX - LAST_DELIVERY;
        tracing::info!("stopping");
        self.stop_symbolizing.store(true, Ordering::Relaxed);
        let Self { mut sampling, publisher, delivery, status, server, assessment, config, .. } =
            self;
        status.stopping();
        let last = match sampling.finish() {
            Ok(closed) => {
                status.window_closed(&closed, &assessment, assessment.step);
                let last = pending_window(closed, assessment, sampling.session_number(), &config);
                let left = deadline.saturating_duration_since(Instant::now());
                Some(PendingWindow { symbolization_max: LAST_SYMBOLIZATION.min(left / 2), ..last })
            }
            Err(error) => {
                tracing::error!("last window lost: {error}");
                None
            }
        };
        if !publisher.finish(last, deadline) {
            tracing::error!("windows lost: not published before the stop deadline");
            status.pending_windows_lost();
        }
        let (closed, accepted, lost) = status.windows();
        drop(server); // it holds the status, which holds the delivery
        drop(status);
        let left = deadline.saturating_duration_since(Instant::now()).max(LAST_DELIVERY / 2);
        if let Some(delivery) = Arc::into_inner(delivery) {
            delivery.stop(left);
        }
        tracing::info!(closed, accepted, lost, "stopped");
    }
}

fn start_server(
    config: &AgentConfig,
    status: &Arc<AgentStatus>,
) -> Result<Option<Server>, AgentError> {
    let Some(address) = config.listen else { return Ok(None) };
    let server = Server::start(address, status::http_handler(status))?;
    tracing::info!(address = %server.address(), "serving health and metrics");
    Ok(Some(server))
}

/// `assessment`: with the step at which the window was sampled.
fn pending_window(
    closed: ClosedWindow,
    assessment: Assessment,
    session: u64,
    config: &AgentConfig,
) -> PendingWindow {
    PendingWindow {
        session,
        sampling: describe_sampling(&closed, assessment.step),
        closed,
        assessment,
        series_max: config.series_max,
        labels: Arc::clone(&config.labels),
        symbolization_max: config.window,
        stop_symbolizing: Arc::default(),
    }
}

fn describe_sampling(closed: &ClosedWindow, step: Step) -> String {
    let depth = match step.user_frames {
        0 => String::new(),
        frames => format!(", user stacks of {frames} frames at most"),
    };
    let hz = 1e9 / closed.period.sample_ns.max(1) as f64;
    format!("{hz:.2} Hz{depth}")
}

fn log_step(assessment: &Assessment, limits: &BudgetLimits) {
    let Step { number, frequency, user_frames, .. } = assessment.step;
    tracing::warn!(
        step = number,
        frequency,
        user_frames,
        cpu_percent = (assessment.cpu_percent * 1e4).round() / 1e4,
        cpu_percent_max = limits.cpu_percent,
        memory_mib = assessment.memory >> 20,
        memory_mib_max = limits.memory >> 20,
        "budget step changed"
    );
}
