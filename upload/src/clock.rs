//! The clocks by which stored and waiting windows age: the wall clock, which may be set, and
//! CLOCK_BOOTTIME, which may not.

use std::fmt::Debug;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use profile::BootTime;
use rustix::time::{ClockId, clock_gettime};

/// Reads both clocks. Tests have clocks of their own.
pub trait Clock: Debug + Send + Sync {
    /// Returns the wall-clock time in nanoseconds since 1970; 0 before.
    fn unix_ns(&self) -> u64;

    /// Returns the time since this boot, and which boot it is.
    fn boot_time(&self) -> BootTime;
}

/// The clocks of the machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    boot_id: u128,
}

impl SystemClock {
    /// Reads the boot ID. Where it cannot be read, every process counts as a boot of its own.
    pub fn new() -> Self {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let boot_id = text.ok().and_then(|text| BootTime::parse_boot_id(&text));
        Self { boot_id: boot_id.unwrap_or_else(|| fastrand::u128(..)) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn unix_ns(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since.as_nanos() as u64
    }

    fn boot_time(&self) -> BootTime {
        let since = clock_gettime(ClockId::Boottime);
        let since = Duration::new(since.tv_sec as u64, since.tv_nsec as u32);
        BootTime { boot_id: self.boot_id, ns: since.as_nanos() as u64 }
    }
}

/// Returns the age of a window: by the clock of its boot if that is the current one, else by the
/// wall clock. Zero for a window of the future.
pub(crate) fn age(clock: &dyn Clock, start_unix_ns: u64, start: Option<BootTime>) -> Duration {
    let now = clock.boot_time();
    let ns = match start {
        Some(start) if start.boot_id == now.boot_id => now.ns.saturating_sub(start.ns),
        _ => clock.unix_ns().saturating_sub(start_unix_ns),
    };
    Duration::from_nanos(ns)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Clocks that a test sets. Clones are the same clocks.
    #[derive(Clone, Debug)]
    pub(crate) struct FakeClock(Arc<Mutex<(u64, BootTime)>>);

    impl FakeClock {
        pub fn new(unix_ns: u64, boot_id: u128, boottime_ns: u64) -> Self {
            Self(Arc::new(Mutex::new((unix_ns, BootTime { boot_id, ns: boottime_ns }))))
        }

        /// Lets time pass on both clocks.
        pub fn pass(&self, time: Duration) {
            let mut clocks = self.0.lock().expect("no panic");
            clocks.0 += time.as_nanos() as u64;
            clocks.1.ns += time.as_nanos() as u64;
        }

        /// Sets the wall clock forward, or back if negative.
        pub fn jump(&self, seconds: i64) {
            let mut clocks = self.0.lock().expect("no panic");
            clocks.0 = clocks.0.saturating_add_signed(seconds * 1_000_000_000);
        }

        /// Boots the machine again.
        pub fn reboot(&self, boot_id: u128) {
            self.0.lock().expect("no panic").1 = BootTime { boot_id, ns: 30_000_000_000 };
        }
    }

    impl Clock for FakeClock {
        fn unix_ns(&self) -> u64 {
            self.0.lock().expect("no panic").0
        }

        fn boot_time(&self) -> BootTime {
            self.0.lock().expect("no panic").1
        }
    }

    #[test]
    fn the_boot_of_the_machine_is_read() {
        let clock = SystemClock::new();
        let first = clock.boot_time();
        let second = SystemClock::new().boot_time();
        assert_eq!(first.boot_id, second.boot_id);
        assert!(first.ns > 0 && second.ns >= first.ns);
    }

    #[test]
    fn a_jump_of_the_wall_clock_ages_no_window_of_this_boot() {
        let clock = FakeClock::new(1_000_000_000_000, 1, 500_000_000_000);
        let start = clock.boot_time();
        let of = |clock: &FakeClock, start| age(clock, 1_000_000_000_000, start).as_secs();
        clock.pass(Duration::from_secs(7));
        clock.jump(3_600);
        assert_eq!((of(&clock, Some(start)), of(&clock, None)), (7, 3_607));
        clock.jump(-9_999);
        assert_eq!((of(&clock, Some(start)), of(&clock, None)), (7, 0));
        clock.reboot(2);
        assert_eq!(of(&clock, Some(start)), 0);
    }
}
