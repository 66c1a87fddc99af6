//! The CPU time that delivery may use. The agent's budget decides; here it is only observed: sends
//! wait until there is time again, and no batch is lost for that reason.

use std::fmt::Debug;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time for the threads of all sinks together. The agent implements it.
pub trait CpuAllowance: Debug + Send + Sync {
    /// Takes CPU time that was used.
    fn charge(&self, used: Duration);

    /// Returns the time until CPU time may be used again; zero if it may be used now.
    fn until_credit(&self) -> Duration;
}

/// An allowance without a limit.
#[derive(Clone, Copy, Debug)]
pub struct Unlimited;

impl CpuAllowance for Unlimited {
    fn charge(&self, _used: Duration) {}

    fn until_credit(&self) -> Duration {
        Duration::ZERO
    }
}

/// The CPU time of the calling thread, charged from time to time.
#[derive(Debug)]
pub(crate) struct ThreadCpu {
    charged: Duration,
}

impl ThreadCpu {
    /// Begins to count now.
    pub fn start() -> Self {
        Self { charged: of_thread() }
    }

    /// Charges what the thread has used since the last call. Must be called on the same thread.
    pub fn charge(&mut self, allowance: &dyn CpuAllowance) {
        let used = of_thread();
        allowance.charge(used.saturating_sub(self.charged));
        self.charged = used;
    }
}

fn of_thread() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// An allowance that a test sets. Clones are the same.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct FakeAllowance(Arc<Mutex<(Duration, Duration)>>);

    impl FakeAllowance {
        pub fn set_until_credit(&self, until_credit: Duration) {
            self.0.lock().expect("no panic").1 = until_credit;
        }

        pub fn charged(&self) -> Duration {
            self.0.lock().expect("no panic").0
        }
    }

    impl CpuAllowance for FakeAllowance {
        fn charge(&self, used: Duration) {
            self.0.lock().expect("no panic").0 += used;
        }

        fn until_credit(&self) -> Duration {
            self.0.lock().expect("no panic").1
        }
    }

    #[test]
    fn a_thread_is_charged_for_each_of_its_work_once() {
        let (allowance, mut cpu) = (FakeAllowance::default(), ThreadCpu::start());
        let begin = of_thread();
        while of_thread() < begin + Duration::from_millis(20) {}
        cpu.charge(&allowance);
        cpu.charge(&allowance);
        let charged = allowance.charged();
        assert!(charged >= Duration::from_millis(20) && charged <= of_thread(), "{charged:?}");
    }
}
