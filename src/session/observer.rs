//! Lets `verify` see every sample as it is counted, beside perf's record of the same tick.

use profile::VirtAddr;
use unwind::Rule;

use crate::events::{PerfSample, RawSample};
use crate::processes::{AddressSpace, Executables};

/// What an observer can look up while it sees a sample.
pub struct SampleContext<'a> {
    /// The files behind mappings.
    pub executables: &'a Executables,
    /// Returns the rule that walks use at an address, if it is loaded.
    pub rule: &'a dyn Fn(&AddressSpace, VirtAddr) -> Option<Rule>,
}

/// Sees samples and perf's records, and changes nothing.
///
/// Records of a CPU come in time order. A sample with a stack snapshot comes when the
/// snapshot is finished.
pub trait SampleObserver: Send {
    /// Sees a counted sample. `memory`: the mappings at its `time`.
    fn observe(
        &mut self,
        time: u64,
        sample: &RawSample,
        memory: &AddressSpace,
        context: &SampleContext<'_>,
    );

    /// Sees what perf recorded at `time`.
    fn observe_perf_sample(&mut self, time: u64, sample: PerfSample, context: &SampleContext<'_>);

    /// Counts records of perf that did not fit into their ring.
    fn count_lost(&mut self, perf_samples: u64);
}
