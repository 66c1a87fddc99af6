//! The progress of a recording on a terminal: one line that is updated in place.
//!
//! Elsewhere there is none: a file or a pipe gets what is printed at the end.

use std::time::{Duration, Instant};

use crate::workers::Usage;
use profile::thousands;

use super::terminal::{is_terminal, line, replace_line, replaces_lines, width};
use crate::procfs::{self, CpuStat};
use crate::session::{Capture, Session};

/// Shows the progress of a recording.
pub(super) struct ProgressLine {
    style: ProgressStyle,
    next_update: Instant,
    /// CPU time of the machine at the last update.
    cpu: Option<CpuStat>,
    /// Time of the last update, and our own CPU time at it.
    own: (Instant, Duration),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ProgressStyle {
    Quiet,
    /// One line of a terminal, updated in place.
    InPlace,
    /// A new line for each update, on a terminal that cannot replace one.
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
        let style = match (is_quiet || !is_terminal(), replaces_lines()) {
            (true, _) => ProgressStyle::Quiet,
            (false, true) => ProgressStyle::InPlace,
            (false, false) => ProgressStyle::Lines,
        };
        let now = Instant::now();
        let (cpu, own) = (procfs::cpu_stat(), (now, Usage::own().cpu));
        Self { style, next_update: now + style.interval(), cpu, own }
    }

    /// Returns when to call [`ProgressLine::update`].
    pub fn next_update(&self) -> Instant {
        self.next_update
    }

    /// Shows the current progress.
    pub fn update<C: Capture>(&mut self, session: &Session<C>) {
        self.next_update = Instant::now() + self.style.interval();
        if self.style == ProgressStyle::Quiet {
            return;
        }
        let text = self.progress(session).fit(width().saturating_sub(1)); // none wraps
        match self.style {
            ProgressStyle::Quiet => {}
            ProgressStyle::InPlace => replace_line(&text),
            ProgressStyle::Lines => line(&text),
        }
    }

    /// Clears the line for other output.
    pub fn clear(&self) {
        if self.style == ProgressStyle::InPlace {
            replace_line("");
        }
    }

    fn progress<C: Capture>(&mut self, session: &Session<C>) -> Progress {
        let elapsed = session.elapsed();
        let sampler = session.sampler_progress().unwrap_or_default();
        let now = procfs::cpu_stat();
        let busy = now.zip(self.cpu).and_then(|(now, last)| now.busy_percent_since(&last));
        self.cpu = now;
        let own = (Instant::now(), Usage::own().cpu + sampler.time.total);
        let (since, before) = std::mem::replace(&mut self.own, own);
        Progress {
            elapsed,
            samples: session.samples(),
            lost: sampler.lost_samples,
            busy_percent: busy.unwrap_or(0.0),
            own_percent: percent_of_capacity(own.1.saturating_sub(before), own.0 - since),
        }
    }
}

/// What the line shows.
#[derive(Clone, Copy, Debug)]
struct Progress {
    elapsed: Duration,
    samples: u64,
    lost: u64,
    /// Busy share of all CPUs since the last update.
    busy_percent: f64,
    /// Our own share of all CPUs since the last update.
    own_percent: f64,
}

impl Progress {
    /// Formats the line with at most `width` characters: the longest form that fits.
    fn fit(&self, width: usize) -> String {
        let Self { elapsed, samples, lost, busy_percent: busy, own_percent: own } = *self;
        let time = clock(elapsed);
        let (all_samples, all_lost) = (thousands(samples), thousands(lost));
        let (samples, lost) = (short(samples), short(lost));
        let forms = [
            format!(
                "{time}  {all_samples} samples  {all_lost} lost  machine {busy:.0} % busy  \
                 everytick {own:.2} %"
            ),
            format!("{time} {samples} samples {lost} lost busy {busy:.0}% own {own:.1}%"),
            format!("{time} {samples} smp {lost} lost busy {busy:.0}% own {own:.0}%"),
            format!("{time} {samples} smp {lost} lost {busy:.0}% busy"),
            format!("{time} {samples} smp {lost} lost"),
        ];
        let fits = |form: &&String| form.chars().count() <= width;
        match forms.iter().find(fits) {
            Some(form) => form.clone(),
            None => time.chars().take(width).collect(),
        }
    }
}

/// Formats a time, as in `12s`, `1:05` or `1:00:05`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}:{rest:02}"),
        _ => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}

/// Formats a number with at most five characters, as in `12.3k`.
fn short(number: u64) -> String {
    let (unit, worth) = match number {
        0..10_000 => return number.to_string(),
        10_000..1_000_000 => ("k", 1e3),
        1_000_000..1_000_000_000 => ("M", 1e6),
        _ => ("G", 1e9),
    };
    let value = number as f64 / worth;
    if value < 99.95 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

/// Returns CPU time as % of the capacity of all CPUs over `elapsed`.
pub(super) fn percent_of_capacity(cpu: Duration, elapsed: Duration) -> f64 {
    let cpus = crate::kernel::online_cpus().map_or(1, |cpus| cpus.len());
    100.0 * cpu.as_secs_f64() / elapsed.as_secs_f64().max(1e-9) / cpus as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(seconds: u64, samples: u64) -> Progress {
        Progress {
            elapsed: Duration::from_secs(seconds),
            samples,
            lost: 0,
            busy_percent: 43.2,
            own_percent: 0.42,
        }
    }

    #[test]
    fn line_fits_every_width() {
        let check = |width, expected: &str| assert_eq!(progress(12, 1234).fit(width), expected);
        check(79, "12s  1,234 samples  0 lost  machine 43 % busy  everytick 0.42 %");
        check(60, "12s 1234 samples 0 lost busy 43% own 0.4%");
        check(37, "12s 1234 smp 0 lost busy 43% own 0%");
        check(30, "12s 1234 smp 0 lost 43% busy");
        check(20, "12s 1234 smp 0 lost");
        check(2, "12");
        for width in 0..200 {
            for samples in [0, 99_999, 123_456, 999_999_999, u64::MAX] {
                assert!(progress(360_000, samples).fit(width).len() <= width);
            }
        }
    }

    #[test]
    fn times_and_counts_are_short() {
        let check_time =
            |seconds, expected| assert_eq!(clock(Duration::from_secs(seconds)), expected);
        check_time(0, "0s");
        check_time(65, "1:05");
        check_time(3605, "1:00:05");
        let check = |number, expected: &str| assert_eq!(short(number), expected);
        check(9999, "9999");
        check(12_345, "12.3k");
        check(999_999, "1000k");
        check(1_500_000, "1.5M");
    }
}
