//! The progress of a recording: one line that is updated on a terminal, else a line now and then.

use std::time::{Duration, Instant};

use crate::workers::Usage;
use profile::thousands;

use super::terminal::{is_terminal, line, replace_line};
use crate::session::Session;

/// Shows the progress of a recording.
pub(super) struct ProgressLine {
    style: ProgressStyle,
    next_update: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ProgressStyle {
    Quiet,
    /// One line of a terminal, updated in place.
    InPlace,
    /// A new line for each update.
    Lines,
}

impl ProgressStyle {
    fn interval(self) -> Duration {
        match self {
            Self::InPlace => Duration::from_millis(500),
            Self::Lines | Self::Quiet => Duration::from_secs(10),
        }
    }
}

impl ProgressLine {
    pub fn new(is_quiet: bool) -> Self {
        let style = match (is_quiet, is_terminal()) {
            (true, _) => ProgressStyle::Quiet,
            (false, true) => ProgressStyle::InPlace,
            (false, false) => ProgressStyle::Lines,
        };
        Self { style, next_update: Instant::now() + style.interval() }
    }

    /// Returns when to call [`ProgressLine::update`].
    pub fn next_update(&self) -> Instant {
        self.next_update
    }

    /// Shows the current progress.
    pub fn update(&mut self, session: &Session) {
        self.next_update = Instant::now() + self.style.interval();
        match self.style {
            ProgressStyle::Quiet => {}
            ProgressStyle::InPlace => replace_line(&describe(session)),
            ProgressStyle::Lines => line(&format!("everytick: {}", describe(session))),
        }
    }

    /// Clears the line for other output.
    pub fn clear(&self) {
        if self.style == ProgressStyle::InPlace {
            replace_line("");
        }
    }
}

fn describe(session: &Session) -> String {
    let elapsed = session.elapsed();
    let sampler = session.sampler_progress().unwrap_or_default();
    let overhead = percent_of_capacity(Usage::own().cpu + sampler.time.total, elapsed);
    format!(
        "{:.0} s  {} samples  {} lost  own CPU {overhead:.2} % of total CPU capacity",
        elapsed.as_secs_f64(),
        thousands(session.samples()),
        thousands(sampler.lost_samples),
    )
}

/// Returns CPU time as % of the capacity of all CPUs over `elapsed`.
pub(super) fn percent_of_capacity(cpu: Duration, elapsed: Duration) -> f64 {
    let cpus = crate::kernel::online_cpus().map_or(1, |cpus| cpus.len());
    100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64().max(1e-9) / cpus as f64
}
