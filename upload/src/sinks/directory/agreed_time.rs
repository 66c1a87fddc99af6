//! The time by which windows are too old: the wall clock, as long as it agrees with the time since
//! boot.
//!
//! The wall clock may jump: by a person, by a wrong real-time clock that is corrected after boot,
//! by a virtual machine that was paused. The difference of the two clocks shows each jump. After
//! one, nothing is too old until the clock has jumped back, or has agreed with the time since boot
//! for [`SETTLED_AFTER`].

use std::sync::Arc;
use std::time::Duration;

use profile::BootTime;

use crate::clock::Clock;

/// How long a clock that has jumped has to go on without a jump until it is believed.
const SETTLED_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// Change of the difference that is no jump, and the part of the time passed that is none: a clock
/// that is slewed runs up to 500 ppm fast or slow (adjtimex(2)).
const TOLERANCE: Duration = Duration::from_secs(1);
const SLEWED_PART: i128 = 1_000;

/// The clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// The time since boot.
    pub boot: BootTime,
    /// Whether the two agree, so that windows may be removed for their age.
    pub is_agreed: bool,
    /// The machine has booted just now, so that the wall clock may not be corrected yet: windows
    /// of earlier boots are not removed for their age.
    pub is_early: bool,
}

/// Time after boot by which a wrong real-time clock is corrected.
const EARLY: Duration = Duration::from_secs(15 * 60);

/// Watches both clocks for jumps.
#[derive(Debug)]
pub struct AgreedTime {
    clock: Arc<dyn Clock>,
    /// The difference believed; `None` before the first reading.
    believed: Option<Difference>,
    /// A difference after a jump, and when it was seen first, in nanoseconds since boot.
    jumped: Option<(Difference, u64)>,
}

/// Wall clock minus time since boot, and when that was read, all in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Difference {
    ns: i128,
    read_at: u64,
}

impl Difference {
    /// Returns whether the clocks went on alike from one reading to another.
    fn agrees_with(self, other: Self) -> bool {
        let passed = i128::from(self.read_at.abs_diff(other.read_at));
        let tolerance = TOLERANCE.as_nanos() as i128 + passed / SLEWED_PART;
        (self.ns - other.ns).abs() <= tolerance
    }
}

impl AgreedTime {
    /// Returns the time of these clocks.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, believed: None, jumped: None }
    }

    /// Believes the difference that an earlier process saw in this boot. Without effect once the
    /// clocks were read. `start_unix_ns` and `start`: one moment on both clocks.
    pub fn believe(&mut self, start_unix_ns: u64, start: BootTime) {
        if start.boot_id == self.clock.boot_time().boot_id {
            let ns = i128::from(start_unix_ns) - i128::from(start.ns);
            self.believed.get_or_insert(Difference { ns, read_at: start.ns });
        }
    }

    /// Reads the clocks.
    pub fn now(&mut self) -> Now {
        let (unix_ns, boot) = (self.clock.unix_ns(), self.clock.boot_time());
        let ns = i128::from(unix_ns) - i128::from(boot.ns);
        let is_agreed = self.compare(Difference { ns, read_at: boot.ns });
        let is_early = Duration::from_nanos(boot.ns) < EARLY;
        Now { unix_ms: unix_ns / 1_000_000, boot, is_agreed, is_early }
    }

    fn compare(&mut self, read: Difference) -> bool {
        let believed = *self.believed.get_or_insert(read);
        if read.agrees_with(believed) {
            (self.believed, self.jumped) = (Some(read), None);
            return true;
        }
        let since = match self.jumped {
            Some((jumped, since)) if read.agrees_with(jumped) => since,
            _ => read.read_at,
        };
        self.jumped = Some((read, since));
        if Duration::from_nanos(read.read_at.saturating_sub(since)) < SETTLED_AFTER {
            return false;
        }
        (self.believed, self.jumped) = (Some(read), None);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::FakeClock;

    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY_SECONDS: i64 = 86_400;

    fn clocks() -> (FakeClock, AgreedTime) {
        let clock = FakeClock::new(1_795_571_040_000_000_000, 1, 60_000_000_000);
        (clock.clone(), AgreedTime::new(Arc::new(clock)))
    }

    #[test]
    fn agrees_while_the_clock_is_slewed() {
        let (clock, mut time) = clocks();
        for _ in 0..1_000 {
            assert!(time.now().is_agreed);
            clock.pass(HOUR);
            clock.jump(-1);
        }
    }

    #[test]
    fn a_jump_and_back_is_agreed_again_at_once() {
        let (clock, mut time) = clocks();
        for jump in [10 * 365 * DAY_SECONDS, -DAY_SECONDS, -10 * 365 * DAY_SECONDS, 60] {
            assert!(time.now().is_agreed);
            clock.jump(jump);
            assert!(!time.now().is_agreed, "{jump}");
            clock.pass(Duration::from_secs(6));
            assert!(!time.now().is_agreed, "{jump}");
            clock.jump(-jump);
        }
        assert!(time.now().is_agreed);
    }

    #[test]
    fn a_clock_that_jumps_all_the_time_never_settles() {
        let (clock, mut time) = clocks();
        time.now();
        for round in 0..100 {
            clock.jump(if round % 2 == 0 { 3 * DAY_SECONDS } else { -DAY_SECONDS });
            clock.pass(HOUR);
            assert!(!time.now().is_agreed, "{round}");
        }
    }

    #[test]
    fn a_corrected_clock_is_believed_after_a_day() {
        let (clock, mut time) = clocks();
        time.now();
        clock.jump(365 * DAY_SECONDS);
        for hour in 0..24 {
            assert!(!time.now().is_agreed, "{hour}");
            clock.pass(HOUR);
        }
        assert!(time.now().is_agreed);
        clock.jump(-365 * DAY_SECONDS);
        assert!(!time.now().is_agreed, "the way back is another jump");
    }

    #[test]
    fn an_earlier_process_of_this_boot_is_believed() {
        let (clock, mut time) = clocks();
        let start = clock.boot_time();
        clock.pass(HOUR);
        clock.jump(10 * 365 * DAY_SECONDS);
        time.believe(1_795_571_040_000_000_000, start);
        assert!(!time.now().is_agreed, "the clock has jumped since");
        let mut after_reboot = AgreedTime::new(Arc::new(clock.clone()));
        clock.reboot(2);
        after_reboot.believe(1_795_571_040_000_000_000, start);
        assert!(after_reboot.now().is_agreed, "of that boot nothing is known");
    }
}
