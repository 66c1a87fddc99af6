//! Where a window begins or ends, as the sampler counts: what lies between two edges is one window's.

use std::io;
use std::num::NonZeroU64;
use std::time::{Instant, SystemTime};

use profile::{CaptureLedger, Cpu, CpuTicks, Loss, TickOutcome};

use crate::kernel::{Sampler, SamplingRate, abi::Counters};
use crate::symbolization::Period;

/// What the sampler has counted up to a moment.
pub(super) struct Edge {
    pub counters: Vec<Counters>,
    clocks: Vec<Clock>,
    at: Instant,
    unix_ns: u64,
}

/// A CPU's clock at that moment.
struct Clock {
    cpu: Cpu,
    /// Nanoseconds for which it was on.
    on: u64,
    /// Ticks that have ended: another one may be under way.
    ticks: u64,
    /// Nanoseconds of `on` that no tick was due for yet. Below 0 after a tick more than the time allows, which two clocks
    /// can make of one instant: it is due in its window and not in the next.
    rest: i64,
}

impl Edge {
    /// The beginning of all: nothing is counted yet.
    pub fn start() -> Self {
        let (counters, clocks) = (Vec::new(), Vec::new());
        Self { counters, clocks, at: Instant::now(), unix_ns: unix_ns() }
    }

    /// Reads what is counted by now.
    ///
    /// # Errors
    /// When a counter or a clock cannot be read.
    pub fn now(sampler: &Sampler) -> io::Result<Self> {
        let (at, unix_ns, counters) = (Instant::now(), unix_ns(), sampler.counters()?);
        let clock = |(cpu, on): (Cpu, u64)| {
            let ticks = counters.get(cpu.0 as usize).map_or(0, |cpu| cpu.outcomes.iter().sum());
            Clock { cpu, on, ticks, rest: 0 }
        };
        let clocks = sampler.times()?.into_iter().map(clock).collect();
        Ok(Self { counters, clocks, at, unix_ns })
    }

    /// The number of each CPU's next sample, indexed by CPU.
    pub fn emitted(&self) -> Vec<u64> {
        self.counters.iter().map(emitted).collect()
    }

    /// Adds to the ledger of the window from `begin` to here what only the sampler knows. `pace`: of that window.
    pub fn close(&mut self, begin: &Self, pace: SamplingRate, ledger: &mut CaptureLedger) {
        for outcome in TickOutcome::ALL {
            let count = |edge: &Self| -> u64 {
                edge.counters.iter().map(|cpu| cpu.outcomes[*outcome as usize]).sum()
            };
            ledger.outcomes[*outcome as usize] = count(self) - count(begin);
        }
        ledger.lost[Loss::RingFull as usize] = ledger.outcome(TickOutcome::LostRingFull);
        for clock in &mut self.clocks {
            let before = begin.clocks.iter().find(|before| before.cpu == clock.cpu);
            let (on, ticks, rest) = before.map_or((0, 0, 0), |b| (b.on, b.ticks, b.rest));
            let ticks = clock.ticks - ticks;
            let time = (clock.on - on) as i64 + rest;
            let due = pace.period.map_or(0, |period| (time.max(0) as u64) / period).max(ticks);
            clock.rest = pace.period.map_or(0, |period| time - (due * period.get()) as i64);
            ledger.cpus.push(CpuTicks { cpu: clock.cpu, due, ticks });
        }
    }

    /// Learns that the clocks begin anew here, a whole period before their next tick.
    pub fn restart(&mut self) {
        self.clocks.iter_mut().for_each(|clock| clock.rest = 0);
    }

    /// When and how the window from `begin` to here was taken.
    pub fn period(&self, begin: &Self, pace: SamplingRate) -> Period {
        Period {
            start_unix_ns: begin.unix_ns,
            duration_ns: (self.at - begin.at).as_nanos() as u64,
            sample_ns: pace.period.map_or(0, NonZeroU64::get),
        }
    }
}

/// Samples that a CPU gave a sequence number.
fn emitted(cpu: &Counters) -> u64 {
    cpu.outcomes[TickOutcome::Delivered as usize] + cpu.outcomes[TickOutcome::LostRingFull as usize]
}

/// Wall-clock time, nanoseconds since 1970.
pub fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
