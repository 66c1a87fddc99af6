//! What the agent spends CPU time on, and the share of the budget that each cause has.

use std::ops::{Add, AddAssign, Index, IndexMut, Sub};
use std::time::Duration;

/// A cause of CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Ticks in the kernel, and their samples in the reader and the processor.
    Sampling,
    /// Stacks finished in user space from a snapshot.
    Stacks,
    /// Unwind tables that are read from files.
    Tables,
    /// Symbols: the publisher, the symbolizer, and downloads of debug info.
    Names,
    /// Process events, /proc and the file helper.
    Processes,
    /// Requests to the metrics server.
    Http,
    /// Sinks, the spool and debug info.
    Delivery,
    /// The agent's main thread, signals and the log.
    Agent,
}

impl Cause {
    /// All causes, each at the index of its value.
    pub const ALL: [Self; 8] = [
        Self::Sampling,
        Self::Stacks,
        Self::Tables,
        Self::Names,
        Self::Processes,
        Self::Http,
        Self::Delivery,
        Self::Agent,
    ];

    /// Returns the value of the label `cause` of metrics.
    pub fn text(self) -> &'static str {
        match self {
            Self::Sampling => "sampling",
            Self::Stacks => "stacks",
            Self::Tables => "tables",
            Self::Names => "names",
            Self::Processes => "processes",
            Self::Http => "http",
            Self::Delivery => "delivery",
            Self::Agent => "agent",
        }
    }

    /// Returns the cause as the subject of a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::Sampling => "ticks and their samples",
            Self::Stacks => "stacks finished in user space",
            Self::Tables => "reading unwind tables",
            Self::Names => "symbolizing",
            Self::Processes => "reading about processes",
            Self::Http => "requests to the metrics server",
            Self::Delivery => "delivery",
            Self::Agent => "the agent's own management",
        }
    }

    /// Returns the part of the CPU budget that no other cause can take away. The parts add up to 1.
    pub fn share(self) -> f64 {
        match self {
            Self::Sampling => 0.30,
            Self::Stacks | Self::Tables | Self::Names => 0.15,
            Self::Processes => 0.10,
            Self::Http | Self::Delivery | Self::Agent => 0.05,
        }
    }

    /// Returns whether the cost follows from the sampling rate. Only such a cause lowers the rate;
    /// the others are limited themselves.
    pub fn follows_rate(self) -> bool {
        matches!(self, Self::Sampling | Self::Stacks)
    }

    /// Returns the cause of what a thread of the agent does, by the thread's name.
    pub fn of_thread(name: &str) -> Self {
        match name {
            "reader" | "processor" | "cpus" => Self::Sampling,
            "loader" => Self::Tables,
            "publisher" | "downloads" => Self::Names,
            "metrics-server" => Self::Http,
            "everytick-sink" | "debuginfo" => Self::Delivery,
            name if name.starts_with("tokio") => Self::Delivery, // of a sink
            _ => Self::Agent,
        }
    }

    /// Returns the cause of what a worker process does, by its subcommand.
    pub fn of_worker(subcommand: &str) -> Self {
        match subcommand {
            "symbolizer-worker" => Self::Names,
            _ => Self::Processes,
        }
    }
}

/// CPU time by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuByCause([Duration; Cause::ALL.len()]);

impl CpuByCause {
    /// Returns the CPU time of all causes.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }

    /// Returns the CPU time of the causes whose cost follows from the sampling rate.
    pub fn following_rate(&self) -> Duration {
        let causes = Cause::ALL.iter().filter(|cause| cause.follows_rate());
        causes.map(|cause| self[*cause]).sum()
    }

    /// Returns the cause that took most of its share, and what it took. `is_asked`: which causes
    /// are compared.
    pub fn heaviest(&self, is_asked: impl Fn(Cause) -> bool) -> (Cause, Duration) {
        let load = |cause: &Cause| self[*cause].as_secs_f64() / cause.share();
        let asked = Cause::ALL.into_iter().filter(|cause| is_asked(*cause));
        let heaviest = asked.max_by(|a, b| load(a).total_cmp(&load(b)));
        let heaviest = heaviest.unwrap_or(Cause::Sampling);
        (heaviest, self[heaviest])
    }
}

impl Index<Cause> for CpuByCause {
    type Output = Duration;

    fn index(&self, cause: Cause) -> &Duration {
        &self.0[cause as usize]
    }
}

impl IndexMut<Cause> for CpuByCause {
    fn index_mut(&mut self, cause: Cause) -> &mut Duration {
        &mut self.0[cause as usize]
    }
}

impl AddAssign for CpuByCause {
    fn add_assign(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, time)| *sum += time);
    }
}

impl Add for CpuByCause {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl Sub for CpuByCause {
    type Output = Self;

    /// Returns the time since an earlier measurement; a cause whose time fell counts as 0.
    fn sub(mut self, earlier: Self) -> Self {
        self.0.iter_mut().zip(earlier.0).for_each(|(now, then)| *now = now.saturating_sub(then));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_budget() {
        let sum: f64 = Cause::ALL.into_iter().map(Cause::share).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    }

    #[test]
    fn heaviest_cause_is_relative_to_its_share() {
        let mut cpu = CpuByCause::default();
        cpu[Cause::Sampling] = Duration::from_millis(50);
        cpu[Cause::Http] = Duration::from_millis(40);
        assert_eq!(cpu.heaviest(|_| true), (Cause::Http, Duration::from_millis(40)));
        assert_eq!(cpu.heaviest(Cause::follows_rate).0, Cause::Sampling);
        assert_eq!(cpu.following_rate(), Duration::from_millis(50));
        assert_eq!(cpu.total(), Duration::from_millis(90));
    }
}
