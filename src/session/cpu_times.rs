//! How long each CPU has been online, and how long of that without a sampling clock, and why.

use std::collections::BTreeMap;
use std::io;

use profile::Cpu;
use rustix::io::Errno;

/// Why an online CPU has no sampling clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoClockReason {
    /// It has just come online, and its clock is being opened.
    #[default]
    Starting,
    /// The kernel denies permission.
    Denied,
    /// The limit of open files is reached.
    OpenFiles,
    /// There is not enough memory, or not enough that may be locked.
    Memory,
    /// Another error.
    Other,
}

impl NoClockReason {
    /// All reasons.
    pub const ALL: [Self; 5] =
        [Self::Starting, Self::Denied, Self::OpenFiles, Self::Memory, Self::Other];

    /// Returns the value of the label `reason` of `everytick_cpus_without_clock`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Denied => "permission denied",
            Self::OpenFiles => "too many open files",
            Self::Memory => "out of memory",
            Self::Other => "other error",
        }
    }

    /// Returns the reason that an error of perf_event_open or of mapping its ring stands for.
    pub(super) fn of(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            // The CPU has gone offline again, or is not ready yet.
            Some(Errno::NODEV | Errno::NXIO) => Self::Starting,
            Some(Errno::ACCESS | Errno::PERM) => Self::Denied,
            Some(Errno::MFILE | Errno::NFILE) => Self::OpenFiles,
            Some(Errno::NOMEM | Errno::AGAIN | Errno::NOSPC) => Self::Memory,
            _ => Self::Other,
        }
    }
}

/// Times of a CPU since the start of the session, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CpuTime {
    /// For which it was online.
    pub online_ns: u64,
    /// For which it was online without a clock.
    pub without_clock_ns: u64,
}

/// The times of all CPUs that have been online. Points in time are nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug, Default)]
pub(super) struct CpuTimes(BTreeMap<Cpu, TrackedCpu>);

#[derive(Clone, Copy, Debug, Default)]
struct TrackedCpu {
    online: Spells,
    without_clock: Spells,
    reason: NoClockReason,
}

/// Spells of time, of which the last may still go on.
#[derive(Clone, Copy, Debug, Default)]
struct Spells {
    past_ns: u64,
    since: Option<u64>,
}

impl Spells {
    fn begin(&mut self, at: u64) {
        self.since.get_or_insert(at);
    }

    fn end(&mut self, at: u64) {
        self.past_ns = self.total(at);
        self.since = None;
    }

    fn total(&self, at: u64) -> u64 {
        self.past_ns + self.since.map_or(0, |since| at.saturating_sub(since))
    }
}

impl CpuTimes {
    /// Records that a CPU is online without a clock, unless that is known.
    pub fn came_online(&mut self, cpu: Cpu, at: u64) {
        let tracked = self.0.entry(cpu).or_default();
        if tracked.without_clock.since.is_none() {
            tracked.reason = NoClockReason::Starting;
        }
        tracked.online.begin(at);
        tracked.without_clock.begin(at);
    }

    /// Records that an online CPU has got a clock.
    pub fn got_clock(&mut self, cpu: Cpu, at: u64) {
        let tracked = self.0.entry(cpu).or_default();
        tracked.online.begin(at);
        tracked.without_clock.end(at);
    }

    /// Records that a CPU has gone offline, with or without a clock.
    pub fn went_offline(&mut self, cpu: Cpu, at: u64) {
        if let Some(tracked) = self.0.get_mut(&cpu) {
            tracked.online.end(at);
            tracked.without_clock.end(at);
        }
    }

    /// Records why a CPU has no clock. Returns whether that is news.
    pub fn set_reason(&mut self, cpu: Cpu, reason: NoClockReason) -> bool {
        let tracked = self.0.get_mut(&cpu);
        let tracked = tracked.filter(|tracked| tracked.without_clock.since.is_some());
        tracked.is_some_and(|tracked| std::mem::replace(&mut tracked.reason, reason) != reason)
    }

    /// Returns the online CPUs that have no clock.
    pub fn without_clock(&self) -> impl Iterator<Item = Cpu> {
        let all = self.0.iter();
        all.filter(|(_, tracked)| tracked.without_clock.since.is_some()).map(|(cpu, _)| *cpu)
    }

    /// Returns how many online CPUs have no clock, indexed by [`NoClockReason`].
    pub fn counts(&self) -> [u64; NoClockReason::ALL.len()] {
        let mut counts = [0; NoClockReason::ALL.len()];
        for cpu in self.without_clock() {
            counts[self.0[&cpu].reason as usize] += 1;
        }
        counts
    }

    /// Returns the times up to now.
    pub fn until(&self, at: u64) -> BTreeMap<Cpu, CpuTime> {
        let time = |tracked: &TrackedCpu| CpuTime {
            online_ns: tracked.online.total(at),
            without_clock_ns: tracked.without_clock.total(at),
        };
        self.0.iter().map(|(cpu, tracked)| (*cpu, time(tracked))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spells_add_up() {
        let mut times = CpuTimes::default();
        times.got_clock(Cpu(1), 0);
        times.went_offline(Cpu(1), 100);
        times.came_online(Cpu(1), 300);
        times.came_online(Cpu(1), 350); // noticed again
        times.got_clock(Cpu(1), 400);
        let check = |times: &CpuTimes, at, online_ns, without_clock_ns| {
            let time = times.until(at)[&Cpu(1)];
            assert_eq!((time.online_ns, time.without_clock_ns), (online_ns, without_clock_ns));
        };
        check(&times, 500, 300, 100);
        times.went_offline(Cpu(1), 500);
        times.went_offline(Cpu(1), 700); // noticed again
        check(&times, 900, 300, 100);
        times.came_online(Cpu(1), 1000);
        check(&times, 1010, 310, 110);
        assert_eq!(times.without_clock().collect::<Vec<_>>(), [Cpu(1)]);
    }

    #[test]
    fn counts_are_by_reason_and_news_once() {
        let mut times = CpuTimes::default();
        times.came_online(Cpu(3), 0);
        assert_eq!(times.counts()[NoClockReason::Starting as usize], 1);
        let too_many = NoClockReason::of(&Errno::MFILE.into());
        assert!(times.set_reason(Cpu(3), too_many));
        assert!(!times.set_reason(Cpu(3), too_many));
        assert_eq!(times.counts()[NoClockReason::OpenFiles as usize], 1);
        assert!(!times.set_reason(Cpu(4), too_many), "a CPU that was never online");
        times.got_clock(Cpu(3), 1);
        assert!(!times.set_reason(Cpu(3), NoClockReason::Memory), "a CPU with a clock");
        assert_eq!(times.counts(), [0; 5]);
        assert_eq!(NoClockReason::of(&Errno::NODEV.into()), NoClockReason::Starting);
    }
}
