//! What is seen while `record` runs: one line on a terminal, a plain line now and then elsewhere.

use std::time::{Duration, Instant};

use profile::thousands;
use symbolizer::Usage;

use super::terminal::{is_watched, line, replace_line};
use crate::session::Session;

/// Shows how the recording goes.
pub(super) struct Meter {
    style: Style,
    next: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Quiet,
    Watched,
    Plain,
}

impl Style {
    fn period(self) -> Duration {
        match self {
            Self::Watched => Duration::from_millis(500),
            Self::Plain | Self::Quiet => Duration::from_secs(10),
        }
    }
}

impl Meter {
    pub fn new(is_quiet: bool) -> Self {
        let style = match (is_quiet, is_watched()) {
            (true, _) => Style::Quiet,
            (false, true) => Style::Watched,
            (false, false) => Style::Plain,
        };
        Self { style, next: Instant::now() + style.period() }
    }

    /// When to call [`Meter::show`].
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Shows where the recording stands.
    pub fn show(&mut self, session: &Session) {
        self.next = Instant::now() + self.style.period();
        match self.style {
            Style::Quiet => {}
            Style::Watched => replace_line(&state(session)),
            Style::Plain => line(&format!("everytick: {}", state(session))),
        }
    }

    /// Clears its line for what comes next.
    pub fn clear(&self) {
        if self.style == Style::Watched {
            replace_line("");
        }
    }
}

fn state(session: &Session) -> String {
    let elapsed = session.elapsed();
    let (lost, cost) = session.lost_and_cost().unwrap_or_default();
    let share = share_of_machine(Usage::own().cpu + cost.total, elapsed);
    format!(
        "{:.0} s  {} samples  {} lost  own CPU {share:.2} % of the machine",
        elapsed.as_secs_f64(),
        thousands(session.samples()),
        thousands(lost),
    )
}

/// Per cent of what all CPUs could have done in that time.
pub(super) fn share_of_machine(cpu: Duration, elapsed: Duration) -> f64 {
    let cpus = crate::kernel::online_cpus().map_or(1, |cpus| cpus.len());
    100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64().max(1e-9) / cpus as f64
}
