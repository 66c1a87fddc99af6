//! The profiling loop: closes a window, hands it to the publisher, until stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use upload::delivery::Delivery;
use upload::{CpuAllowance, DebugInfoSource, StartError};

use super::budget::{Budget, INTERVAL_MAX, WindowUsage};
use super::debug_files::DebugFiles;
use super::delivery_share::DeliveryShare;
use super::http_port::HttpPort;
use super::publisher::Publisher;
use super::rate::RateSelector;
use super::sampling::{Sampling, SessionConfig};
use super::signals::{Signal, Signals};
use super::status::AgentStatus;
use super::stop_deadline::{self, STOP_MAX};
use super::window::PendingWindow;
use super::{AgentConfig, AgentError, ApplyConfig};
use crate::budget::{BudgetRate, Cause, CauseRates, Lowered, MemoryShares};
use crate::debuginfod::{self, Downloads, DownloadsError};
use crate::host::{self, Limitation};
use crate::kernel::{SamplerConfig, online_cpus};
use crate::session::ClosedWindow;
use crate::symbolization::SymbolizerLimits;

/// The part of [`STOP_MAX`] that is left for the end itself. A window that is not accepted by then
/// is lost; one that is not delivered waits in the spool.
const END: Duration = Duration::from_millis(700);
/// Least and most time for delivering the last windows once they are accepted.
const LAST_DELIVERY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(3)];
/// How long tables are still read after the signal.
const LAST_TABLES: Duration = Duration::from_millis(300);
/// Time limit of symbolizing the last window.
const LAST_SYMBOLIZATION: Duration = Duration::from_secs(1);

/// Time until a window that could not be closed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The window goes on.
struct NotClosed;
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
        match signals.wait(window_end.min(agent.next_assessment())) {
            Some(Signal::Stop) => break,
            Some(Signal::Reload) => {
                let is_applied = reload(&mut |config| agent.apply(config));
                agent.status.reloaded(is_applied);
                window_end = window_end.min(Instant::now() + agent.config.window);
            }
            None => {
                let now = Instant::now();
                let has_changed = agent.assess();
                if now < window_end && !has_changed {
                    continue;
                }
                window_end = match agent.close_window() {
                    Ok(()) if now < window_end => now + agent.config.window,
                    Ok(()) => (window_end + agent.config.window).max(now),
                    Err(NotClosed) => now + RETRY_INTERVAL,
                };
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
    delivery_share: Arc<DeliveryShare>,
    publisher: Publisher,
    http_port: Option<HttpPort>,
    status: Arc<AgentStatus>,
    budget: Budget,
    rates: RateSelector,
    /// Why the rate of the current window is below the full one.
    lowered: Option<Lowered>,
    next_assessment: Instant,
    window_started: Instant,
    bpf_map_bytes: u64,
    /// Set when the agent stops. Ends the symbolization of every window but the last one, which has
    /// a time limit of its own.
    stop_symbolizing: Arc<AtomicBool>,
}

impl Agent {
    fn start(program: &str, config: AgentConfig) -> Result<Self, AgentError> {
        let limitations = host::limitations();
        limitations.iter().for_each(log_limitation);
        let cpus = online_cpus()?.len() as u32;
        let memory = config.limits.memory;
        let shares = MemoryShares::of(memory, cpus).ok_or(AgentError::Memory(memory >> 20))?;
        let debug_files = Arc::new(DebugFiles::default());
        let debug_info: Arc<dyn DebugInfoSource> = debug_files.clone();
        let cause_rates = CauseRates::at_start(config.limits.allowed(cpus));
        let delivery_share = Arc::new(DeliveryShare::new(cause_rates.of(Cause::Delivery)));
        let allowance: Arc<dyn CpuAllowance> = delivery_share.clone();
        let delivery = Delivery::start_within(allowance, &config.delivery, Some(debug_info))?;
        let delivery = Arc::new(delivery);
        let downloads = start_downloads(&config)?;
        let status = AgentStatus::new(Arc::clone(&delivery), downloads.clone(), &config);
        let status = Arc::new(status);
        let http_rate = cause_rates.of(Cause::Http);
        status.host_checked(&limitations);
        let http_port = match config.listen {
            Some(at) => Some(HttpPort::start(at, &config.host_names, http_rate, &status)?),
            None => None,
        };
        let sampling = Sampling::start(SessionConfig {
            program: program.into(),
            sampler: SamplerConfig { frequency: config.frequency, ..config.sampler.clone() },
            memory,
            cache: config.cache.clone(),
        })?;
        let publisher = Publisher::spawn(
            program,
            SymbolizerLimits::of_agent(shares.symbols, cpus),
            config.symbolize,
            downloads,
            Arc::clone(&delivery),
            debug_files,
            Arc::clone(&status),
        )?;
        let budget = Budget::new(config.limits, config.frequency, cpus);
        status.sampling_started(budget.rate());
        tracing::info!(
            frequency = config.frequency,
            window_seconds = config.window.as_secs_f64(),
            sinks = config.delivery.sinks.len(),
            "profiling the machine"
        );
        let this = Self {
            config,
            sampling,
            delivery,
            delivery_share,
            publisher,
            http_port,
            status,
            rates: RateSelector::new(budget.rate()),
            budget,
            lowered: None,
            next_assessment: Instant::now() + INTERVAL_MAX,
            window_started: Instant::now(),
            bpf_map_bytes: 0,
            stop_symbolizing: Arc::default(),
        };
        this.limit_causes();
        let (symbolizing, loading) =
            (Arc::clone(&this.stop_symbolizing), this.sampling.loading_canceller());
        stop_deadline::on_stop(move || {
            symbolizing.store(true, Ordering::Relaxed);
            thread::sleep(LAST_TABLES);
            loading.cancel();
        });
        Ok(this)
    }

    /// Returns when the overhead is to be measured, if no window ends before.
    fn next_assessment(&self) -> Instant {
        self.next_assessment
    }

    /// Measures the overhead and chooses the rate of the next window. Returns whether it changes.
    fn assess(&mut self) -> bool {
        self.next_assessment = Instant::now() + INTERVAL_MAX;
        if let Ok(online) = online_cpus() {
            self.budget.set_cpus(online.len() as u32);
            if let Ok(ticks) = self.sampling.ticks_by_cpu() {
                self.status.ticked(&online, &ticks);
            }
        }
        let assessment =
            self.budget.assess(self.sampling.cpu(), self.bpf_map_bytes, self.rates.in_force());
        self.limit_causes();
        self.report_budget();
        assessment.has_changed
    }

    fn report_budget(&self) {
        self.status.budget_assessed(self.budget.total(), self.rates.in_force(), self.lowered);
    }

    /// Sets what each cause may use that limits itself.
    fn limit_causes(&self) {
        let rates = self.budget.rates();
        self.http_port.iter().for_each(|port| port.set_rate(rates.of(Cause::Http)));
        self.delivery_share.set_rate(rates.of(Cause::Delivery));
        self.sampling.limit_cpu(rates.of(Cause::Tables), rates.of(Cause::Processes));
    }

    /// Closes the current window and publishes it. The next one is sampled at the budget's rate.
    fn close_window(&mut self) -> Result<(), NotClosed> {
        if self.publisher.is_busy() {
            tracing::warn!("extending the window: the previous one is still being published");
            return Err(NotClosed);
        }
        let allowed = self.budget.rate();
        let rate = self.rates.next(allowed, self.window_started.elapsed().as_nanos() as u64);
        match self.sampling.close_window(rate) {
            Ok(closed) => {
                self.publish(closed);
                if rate.is_some() {
                    self.rates.applied(allowed);
                }
                self.lowered = self.budget.lowered();
                self.report_budget();
                Ok(())
            }
            Err(error) => {
                tracing::warn!("extending the window: cannot close it: {error}");
                Err(NotClosed)
            }
        }
    }

    /// Publishes a closed window.
    fn publish(&mut self, closed: ClosedWindow) {
        self.window_started = Instant::now();
        self.bpf_map_bytes = closed.counts.map_bytes;
        let usage = self.budget.take_window();
        self.status.window_closed(&closed, &usage);
        let budget = describe_budget(self.rates.in_force(), self.lowered, &usage);
        let window = pending_window(closed, self.rates.in_force(), budget, &self.config);
        let stop_symbolizing = Arc::clone(&self.stop_symbolizing);
        let names_cpu_rate = self.budget.rates().of(Cause::Names);
        let window = PendingWindow { stop_symbolizing, names_cpu_rate, ..window };
        if !self.publisher.publish(window) {
            self.status.window_not_published();
        }
    }

    /// Applies a configuration from the next window on, all of it or nothing.
    fn apply(&mut self, config: AgentConfig) -> Result<(), StartError> {
        self.delivery.reload(&config.delivery)?;
        self.budget.set_limits(config.limits, config.frequency);
        self.status.configuration_changed(config.limits, config.window);
        self.limit_causes();
        self.config = config;
        Ok(())
    }

    /// Publishes the last window and delivers what fits into [`STOP_MAX`]. The rest stays in the
    /// spool.
    fn stop(mut self) {
        let deadline = Instant::now() + STOP_MAX - END;
        tracing::info!("stopping");
        self.assess();
        let usage = self.budget.take_window();
        let budget = describe_budget(self.rates.in_force(), self.lowered, &usage);
        let Self { sampling, publisher, delivery, status, http_port, rates, config, .. } = self;
        status.stopping();
        let last = match sampling.finish() {
            Ok(closed) => {
                status.window_closed(&closed, &usage);
                let last = pending_window(closed, rates.in_force(), budget, &config);
                let left = deadline.saturating_duration_since(Instant::now());
                Some(PendingWindow { symbolization_max: LAST_SYMBOLIZATION.min(left / 3), ..last })
            }
            Err(error) => {
                tracing::error!("last window lost: {error}");
                status.window_not_closed();
                None
            }
        };
        if publisher.finish(last, deadline) {
            stop_deadline::all_accepted();
        } else {
            tracing::error!("windows lost: not published before the stop deadline");
            status.pending_windows_lost();
        }
        let (closed, accepted, lost) = status.windows();
        drop(http_port); // it holds the status, which holds the delivery
        drop(status);
        let [least, most] = LAST_DELIVERY;
        let left = deadline.saturating_duration_since(Instant::now()).clamp(least, most);
        if let Some(delivery) = Arc::into_inner(delivery) {
            delivery.stop(left);
        }
        stop_deadline::wait_if_over();
        tracing::info!(closed, accepted, lost, "stopped");
    }
}

/// Starts the downloads of debug info, if servers are configured.
fn start_downloads(config: &AgentConfig) -> Result<Option<Arc<Downloads>>, DownloadsError> {
    let (Some(servers), Some(cache)) = (&config.debuginfod, &config.cache) else { return Ok(None) };
    let downloads = Downloads::start(servers, &debuginfod::directory_below(cache))?;
    Ok(Some(Arc::new(downloads)))
}

/// `rate`: at which the window was sampled. `budget`: comments about its overhead.
fn pending_window(
    closed: ClosedWindow,
    rate: BudgetRate,
    budget: Vec<String>,
    config: &AgentConfig,
) -> PendingWindow {
    let allowed = config.limits.allowed(closed.ledger.cpus.len() as u32);
    PendingWindow {
        names_cpu_rate: CauseRates::at_start(allowed).of(Cause::Names),
        frequency: rate.full_frequency,
        budget,
        closed,
        series_max: config.series_max,
        labels: Arc::clone(&config.labels),
        symbolization_max: config.window,
        stop_symbolizing: Arc::default(),
    }
}

/// Returns the comments about the rate of a window and its overhead.
fn describe_budget(rate: BudgetRate, lowered: Option<Lowered>, usage: &WindowUsage) -> Vec<String> {
    let lowered = lowered
        .map(|lowered| format!("budget: sampling lowered to {} Hz: {lowered}", rate.frequency));
    let used = format!(
        "budget: the agent used {:.3} % of total CPU capacity and {} MiB of memory",
        usage.cpu_percent(),
        usage.memory >> 20
    );
    lowered.into_iter().chain([used]).collect()
}

/// Logs something that the host lacks, in the words of `doctor`.
fn log_limitation(limitation: &Limitation) {
    let Limitation { reason, is_fatal, text, next_step } = limitation;
    match is_fatal {
        true => tracing::error!(reason = reason.text(), "{text}; {next_step}"),
        false => tracing::warn!(reason = reason.text(), "{text}; {next_step}"),
    }
}
