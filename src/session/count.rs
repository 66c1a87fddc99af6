//! Stage 4, count: adds samples to the window that they belong to, and to its ledger.

use super::observer::{SampleContext, SampleObserver};
use super::resolve::ResolvedSample;
use super::windows::Windows;
use crate::events::{PerfSample, RawSample};
use crate::processes::{AddressSpace, Executables, Processes};
use crate::tables::RowStore;

/// Counts samples, and notifies an observer of them.
pub(super) struct Counter {
    pub windows: Windows,
    observer: Option<Box<dyn SampleObserver>>,
}

impl Counter {
    pub fn new(windows: Windows, observer: Option<Box<dyn SampleObserver>>) -> Self {
        Self { windows, observer }
    }

    /// Enters the arrival of a sample into its window's ledger: the window waits until it is
    /// counted.
    pub fn register(&mut self, sample: &RawSample) {
        self.windows.window_of(sample).0.register(sample);
    }

    /// Counts a sample in its window, and marks the executables and names in its stack as used.
    pub fn count(
        &mut self,
        resolved: &ResolvedSample,
        rows: &mut RowStore,
        processes: &mut Processes,
    ) {
        let ResolvedSample { time, sample, process, memory, interpreted } = resolved;
        let (window, number) = self.windows.window_of(sample);
        let counted = window.add(*time, sample, process, memory, interpreted.as_ref(), processes);
        let used = window.last_stack().iter();
        rows.mark_used(used.clone().map(|frame| frame.executable));
        for frame in used {
            processes.executables.mark_sampled(frame.executable, number);
            if let Some(name) = frame.code_name {
                processes.mark_code_name_sampled(name, number);
            }
        }
        self.windows.aggregated += u64::from(counted.is_ok());
        self.notify(rows, &processes.executables, |observer, context| {
            observer.observe(*time, sample, memory, context);
        });
    }

    /// Notifies the observer of what perf recorded at a time.
    pub fn observe_perf_sample(
        &mut self,
        time: u64,
        sample: PerfSample,
        rows: &RowStore,
        executables: &Executables,
    ) {
        self.notify(rows, executables, |observer, context| {
            observer.observe_perf_sample(time, sample, context);
        });
    }

    /// Counts records that were lost or could not be parsed.
    pub fn count_lost(&mut self, malformed: u64, perf_samples: u64) {
        self.windows.count_malformed(malformed);
        if let Some(observer) = &mut self.observer {
            observer.count_lost(perf_samples);
        }
    }

    fn notify(
        &mut self,
        rows: &RowStore,
        executables: &Executables,
        notify: impl FnOnce(&mut dyn SampleObserver, &SampleContext<'_>),
    ) {
        if let Some(observer) = &mut self.observer {
            let rule = |memory: &AddressSpace, address| rows.rule_at(memory, executables, address);
            notify(observer.as_mut(), &SampleContext { executables, rule: &rule });
        }
    }
}
