//! Where a window begins or ends, as the sampler counts: what lies between two edges is one window's.

use std::io;
use std::time::{Instant, SystemTime};

use profile::{CaptureLedger, CpuTicks, Loss, TickOutcome};

use crate::kernel::{Sampler, abi::Counters};
use crate::naming::Period;

/// What the sampler has counted up to a moment.
pub(super) struct Edge {
    pub counters: Vec<Counters>,
    /// Ticks that came and were due; those that windows before have told of.
    ticks: Vec<CpuTicks>,
    at: Instant,
    unix_ns: u64,
}

impl Edge {
    /// The beginning of all: nothing is counted yet.
    pub fn start() -> Self {
        let (counters, ticks) = (Vec::new(), Vec::new());
        Self { counters, ticks, at: Instant::now(), unix_ns: unix_ns() }
    }

    /// Reads what is counted by now.
    ///
    /// # Errors
    /// When a counter or a clock cannot be read.
    pub fn now(sampler: &Sampler) -> io::Result<Self> {
        let (at, unix_ns, counters) = (Instant::now(), unix_ns(), sampler.counters()?);
        let ticks = sampler.cpu_ticks(&counters)?;
        Ok(Self { counters, ticks, at, unix_ns })
    }

    /// The number of each CPU's next sample, indexed by CPU.
    pub fn emitted(&self) -> Vec<u64> {
        self.counters.iter().map(emitted).collect()
    }

    /// Adds to the ledger of the window from `begin` to here what only the sampler knows.
    pub fn close(&mut self, begin: &Self, ledger: &mut CaptureLedger) {
        for outcome in TickOutcome::ALL {
            let count = |edge: &Self| -> u64 {
                edge.counters.iter().map(|cpu| cpu.outcomes[*outcome as usize]).sum()
            };
            ledger.outcomes[*outcome as usize] = count(self) - count(begin);
        }
        ledger.lost[Loss::RingFull as usize] = ledger.outcome(TickOutcome::LostRingFull);
        for now in &mut self.ticks {
            let told = begin.ticks.iter().find(|told| told.cpu == now.cpu);
            let (due, ticks) = told.map_or((0, 0), |told| (told.due, told.ticks));
            let ticks = now.ticks - ticks;
            // A tick more than the time allows, which two clocks can make of one instant, is due in this window and not
            // in the next.
            let due = now.due.saturating_sub(due).max(ticks);
            now.due = due + told.map_or(0, |told| told.due);
            ledger.cpus.push(CpuTicks { cpu: now.cpu, due, ticks });
        }
    }

    /// When and how the window from `begin` to here was taken.
    pub fn period(&self, begin: &Self, frequency: u32) -> Period {
        Period {
            start_unix_ns: begin.unix_ns,
            duration_ns: (self.at - begin.at).as_nanos() as u64,
            sample_ns: 1_000_000_000 / u64::from(frequency),
        }
    }
}

/// Samples that a CPU gave a sequence number.
fn emitted(cpu: &Counters) -> u64 {
    cpu.outcomes[TickOutcome::Delivered as usize] + cpu.outcomes[TickOutcome::LostRingFull as usize]
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
