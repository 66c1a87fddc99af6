//! Somebody who is shown every sample as it is counted, beside what perf recorded of the same tick.

use profile::VirtAddr;
use unwind::Rule;

use crate::events::{PerfSample, RawSample};
use crate::processes::{AddressSpace, Executables};

/// What is known when something is shown.
pub struct SampleContext<'a> {
    /// The files behind mappings.
    pub executables: &'a Executables,
    /// Gives the rule that walks go by at an address, if it is there.
    pub rule: &'a dyn Fn(&AddressSpace, VirtAddr) -> Option<Rule>,
}

/// Sees samples and perf's records; changes nothing. Records of a CPU come in the order of time; a sample
/// whose stack had to be finished comes when it is.
pub trait SampleObserver: Send {
    /// Sees a sample that is counted. `memory`: what was mapped at its `time`.
    fn observe(
        &mut self,
        time: u64,
        sample: &RawSample,
        memory: &AddressSpace,
        context: &SampleContext<'_>,
    );

    /// Sees what perf recorded at `time`.
    fn observe_perf_sample(&mut self, time: u64, sample: PerfSample, context: &SampleContext<'_>);

    /// Learns that so many of perf's records found no room.
    fn count_lost(&mut self, perf_samples: u64);
}
