//! The agent: one window after the other, for as long as it is let.
//!
//! ```text
//! main thread: each window: what did it cost? -> pace of the next -> cut -> publisher -> delivery
//! ```
//! It samples the whole machine. What can change while it runs changes between two windows: [`Settings`] says what.

mod debug_files;
mod pace;
mod publisher;
mod sampling;
mod signals;
mod status;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use profile::{Cpu, Labels};
use upload::delivery::{Delivery, DeliveryConfig};
use upload::{DebugInfoSource, StartError};

use crate::budget::{self, Ladder, Meter, Shares, Step, Verdict};
use crate::kernel::{self, LoadError, online_cpus};
use crate::metrics::server::{Server, ServerError};
use crate::session::ClosedWindow;
use crate::tables::CacheError;
use debug_files::DebugFiles;
use pace::Pacer;
use publisher::{Job, Publisher};
use sampling::{How, Sampling};
use signals::{Signal, Signals};
use status::Status;

/// How long the last windows may take to be delivered once the agent is told to stop.
const STOP_MAX: Duration = Duration::from_secs(5);
/// What of that is left for delivering what the last windows became.
const LAST_DELIVERY: Duration = Duration::from_secs(2);
/// How long the last window may be given names.
const LAST_NAMING: Duration = Duration::from_secs(1);

/// How the agent is to run. The first part can change while it does.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Ticks a second on each CPU.
    pub frequency: u32,
    /// Length of a window.
    pub window: Duration,
    /// What it may cost. Memory is divided at the start.
    pub limits: budget::Limits,
    /// Labels that all series have.
    pub labels: Arc<Labels>,
    /// Series that a window may have.
    pub series_max: usize,
    /// Sinks and the spool before them.
    pub delivery: DeliveryConfig,

    /// What is sampled. How much memory its rings take, the budget says.
    pub sampler: kernel::SamplerConfig,
    /// Where tables of earlier runs are.
    pub cache: Option<PathBuf>,
    /// Where health and metrics are served.
    pub listen: Option<SocketAddr>,
}

/// Why the agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The kernel refused the sampler.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The directory of tables cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The spool or a sink cannot be used.
    #[error(transparent)]
    Delivery(#[from] StartError),
    /// The address cannot be served.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The budget is too small.
    #[error("a memory budget of {0} MiB is too small; give at least {least} MiB", least = Shares::LEAST >> 20)]
    Memory(u64),
    /// Something of the machine could not be had.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Takes settings that were read anew; an error says why it goes on by those that it had.
pub type Take<'a> = dyn FnMut(Settings) -> Result<(), StartError> + 'a;

/// Runs until SIGTERM or Ctrl-C. `program`: everytick itself, which is also its own workers. `reload`: reads the
/// settings anew, on SIGHUP, and has them taken; it tells itself why that was not possible, and says whether it was.
///
/// # Errors
/// [`AgentError`] when it cannot start. Once it runs, what fails is counted.
pub fn run(
    program: &str,
    settings: Settings,
    reload: &mut dyn FnMut(&mut Take<'_>) -> bool,
) -> Result<(), AgentError> {
    let signals = Signals::watch()?;
    let mut agent = Agent::start(program, settings)?;
    let mut next = Instant::now() + agent.settings.window;
    loop {
        match signals.wait(next) {
            Some(Signal::Stop) => break,
            Some(Signal::Reload) => {
                let is_done = reload(&mut |new| agent.change(new));
                agent.status.reloaded(is_done);
                next = next.min(Instant::now() + agent.settings.window);
            }
            None => {
                next = (next + agent.settings.window).max(Instant::now());
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
    settings: Settings,
    sampling: Sampling,
    delivery: Arc<Delivery>,
    publisher: Publisher,
    pages: Option<Server>,
    status: Arc<Status>,
    meter: Meter,
    ladder: Ladder,
    pacer: Pacer,
    /// The step of the window that is filled, and what the one before was judged.
    verdict: Verdict,
    begun: Instant,
    map_bytes: u64,
    /// Names of windows before the last can wait no longer.
    hurry: Arc<AtomicBool>,
}

impl Agent {
    fn start(program: &str, settings: Settings) -> Result<Self, AgentError> {
        let cpus = online_cpus()?.len() as u32;
        let memory = settings.limits.memory;
        let shares = Shares::of(memory, cpus).ok_or(AgentError::Memory(memory >> 20))?;
        let files = Arc::new(DebugFiles::default());
        let debug_info: Arc<dyn DebugInfoSource> = files.clone();
        let delivery = Arc::new(Delivery::start(&settings.delivery, Some(debug_info))?);
        let status = Arc::new(Status::new(Arc::clone(&delivery), settings.limits, settings.window));
        let pages = match settings.listen {
            Some(address) => Some(Server::start(address, status::answer(&status))?),
            None => None,
        };
        if let Some(pages) = &pages {
            tracing::info!(address = %pages.address(), "serving health and metrics");
        }
        let sampling = Sampling::start(How {
            program: program.into(),
            sampler: kernel::SamplerConfig {
                frequency: settings.frequency,
                ..settings.sampler.clone()
            },
            memory,
            cache: settings.cache.clone(),
        })?;
        let publisher = Publisher::spawn(
            program,
            shares.names,
            Arc::clone(&delivery),
            files,
            Arc::clone(&status),
        )?;
        let ladder = Ladder::new(settings.limits, settings.frequency, cpus);
        let pacer = Pacer::new(ladder.step());
        let verdict = Verdict::at(ladder.step());
        let mut meter = Meter::default();
        meter.measure(Duration::ZERO, 0); // what starting took is paid once
        status.started(verdict.step);
        let (begun, map_bytes) = (Instant::now(), 0);
        tracing::info!(
            frequency = settings.frequency,
            window_seconds = settings.window.as_secs_f64(),
            sinks = settings.delivery.sinks.len(),
            "profiling the machine"
        );
        Ok(Self {
            settings,
            sampling,
            delivery,
            publisher,
            pages,
            status,
            meter,
            ladder,
            pacer,
            verdict,
            begun,
            map_bytes,
            hurry: Arc::default(),
        })
    }

    /// Judges the window that is filled, ends it, and gives it away.
    ///
    /// # Errors
    /// [`AgentError`] when CPUs have come online and sampling cannot be begun anew.
    fn end_window(&mut self) -> Result<(), AgentError> {
        if self.publisher.is_busy() {
            tracing::warn!("the window goes on: the one before waits to be named or written");
            return Ok(());
        }
        let wall = self.begun.elapsed();
        let spent = self.meter.measure(self.sampling.cost(), self.map_bytes);
        let verdict = self.ladder.judge(&spent, wall);
        if verdict.has_changed {
            tell(&verdict, &self.settings.limits);
        }
        let without_clock = self.sampling.without_clock();
        if !without_clock.is_empty() {
            return self.begin_anew(&without_clock, verdict);
        }
        let next = self.pacer.next(verdict.step, wall.as_nanos() as u64);
        match self.sampling.cut(next) {
            Ok(closed) => {
                if next.is_some() {
                    self.pacer.taken(verdict.step);
                }
                self.publish(closed, verdict);
            }
            Err(error) => {
                tracing::error!("the window goes on, because it could not be cut: {error}")
            }
        }
        Ok(())
    }

    /// Ends the window and goes on with all CPUs: at the full pace, until the next window is judged.
    fn begin_anew(&mut self, without_clock: &[Cpu], verdict: Verdict) -> Result<(), AgentError> {
        let cpus: Vec<u32> = without_clock.iter().map(|cpu| cpu.0).collect();
        tracing::warn!(?cpus, "CPUs have come online: sampling begins anew");
        let full = Verdict { step: self.ladder.full(), ..verdict };
        match self.sampling.finish() {
            Ok(closed) => self.publish(closed, full),
            Err(error) => {
                tracing::error!("a window is lost: {error}");
                self.status.lost_uncut();
            }
        }
        let cpus = self.sampling.begin_anew()?;
        self.ladder.resize(cpus);
        (self.pacer, self.verdict) = (Pacer::new(full.step), full);
        self.begun = Instant::now();
        self.status.started(full.step);
        Ok(())
    }

    fn publish(&mut self, closed: ClosedWindow, verdict: Verdict) {
        self.begun = Instant::now();
        self.map_bytes = closed.counts.map_bytes;
        let before = std::mem::replace(&mut self.verdict, verdict);
        // What was measured belongs to the window that has ended, the step to the next.
        let of_window = Verdict { step: before.step, ..verdict };
        self.status.closed(&closed, &of_window, verdict.step);
        let session = self.sampling.number();
        let job = job(closed, of_window, session, &self.settings);
        if !self.publisher.give(Job { hurry: self.hurry.clone(), ..job }) {
            self.status.lost_dead();
        }
    }

    /// Goes by other settings from the next window on, or by none of them.
    fn change(&mut self, new: Settings) -> Result<(), StartError> {
        self.delivery.reload(&new.delivery)?;
        self.ladder.change(new.limits, new.frequency);
        self.sampling.change(new.frequency);
        self.status.changed(new.limits, new.window);
        self.settings = new;
        Ok(())
    }

    /// Publishes the last window and delivers what can be delivered in time; the rest stays in the spool.
    fn stop(self) {
        let deadline = Instant::now() + STOP_MAX - LAST_DELIVERY;
        tracing::info!("stopping");
        self.hurry.store(true, Ordering::Relaxed);
        let Self { mut sampling, publisher, delivery, status, pages, verdict, settings, .. } = self;
        status.stopping();
        let last = match sampling.finish() {
            Ok(closed) => {
                status.closed(&closed, &verdict, verdict.step);
                let last = job(closed, verdict, sampling.number(), &settings);
                let left = deadline.saturating_duration_since(Instant::now());
                Some(Job { naming: LAST_NAMING.min(left / 2), ..last })
            }
            Err(error) => {
                tracing::error!("the last window is lost: {error}");
                None
            }
        };
        if !publisher.finish(last, deadline) {
            tracing::error!("what could not be named or written in time is lost");
            status.lost_late();
        }
        let (closed, accepted, lost) = status.windows();
        drop(pages); // they hold the status, and that holds the delivery
        drop(status);
        let left = deadline.saturating_duration_since(Instant::now()).max(LAST_DELIVERY / 2);
        if let Some(delivery) = Arc::into_inner(delivery) {
            delivery.stop(left);
        }
        tracing::info!(closed, accepted, lost, "stopped");
    }
}

/// What there is to publish of a window. `verdict`: with the step that it was sampled at.
fn job(closed: ClosedWindow, verdict: Verdict, session: u64, settings: &Settings) -> Job {
    Job {
        session,
        pace: words_of_pace(&closed, verdict.step),
        closed,
        verdict,
        series_max: settings.series_max,
        labels: Arc::clone(&settings.labels),
        naming: settings.window,
        hurry: Arc::default(),
    }
}

/// Says how a window was sampled.
fn words_of_pace(closed: &ClosedWindow, step: Step) -> String {
    let frames = match step.user_frames {
        0 => String::new(),
        frames => format!(", user stacks of {frames} frames at most"),
    };
    let hz = 1e9 / closed.period.sample_ns.max(1) as f64;
    format!("{hz:.2} Hz{frames}")
}

fn tell(verdict: &Verdict, limits: &budget::Limits) {
    let Step { number, frequency, user_frames } = verdict.step;
    tracing::warn!(
        step = number,
        frequency,
        user_frames,
        cpu_percent = (verdict.cpu_percent * 1e4).round() / 1e4,
        cpu_percent_max = limits.cpu_percent,
        memory_mib = verdict.memory >> 20,
        memory_mib_max = limits.memory >> 20,
        "another step of the budget"
    );
}
