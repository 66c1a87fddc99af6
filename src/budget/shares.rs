//! One budget of memory, divided before anything starts: the bounds of all parts together stay below it.

use crate::session::SessionLimits;
use crate::symbolization::SymbolizerMemory;

/// Bytes that the agent's processes take before they hold anything: code, stacks of threads, the runtime of sinks; and pages of a
/// large file while its symbols are looked at, which the kernel can take back.
const FIXED: u64 = 34 << 20;
/// What tables in the kernel and the worker that finds names take at least, in bytes.
const UNWIND_LEAST: u64 = 3 << 20;
const WORKER_LEAST: u64 = 8 << 20;
/// Who may take how much, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Shares {
    /// The session: its window, and its tables and mappings in the kernel.
    pub session: SessionLimits,
    /// Names, and the worker that finds them.
    pub names: SymbolizerMemory,
    /// The ring of samples; a power of two.
    pub ring: u32,
    /// Each CPU's ring of process events; a power of two.
    pub side_band: u32,
}

impl Shares {
    /// The least that is worth running with, in bytes.
    pub const LEAST: u64 = 56 << 20;

    /// Divides `memory` bytes; `None` when that is too little to run with. `cpus`: of the machine.
    pub fn of(memory: u64, cpus: u32) -> Option<Self> {
        if memory < Self::LEAST {
            return None;
        }
        let free = memory - FIXED - 2 * UNWIND_LEAST - WORKER_LEAST;
        let part = |parts: u64| free * parts / 32;
        let power = |bytes: u64, least: u64, most: u64| {
            let bytes = bytes.clamp(least, most);
            if bytes.is_power_of_two() {
                bytes as u32
            } else {
                bytes.next_power_of_two() as u32 / 2
            }
        };
        Some(Self {
            // Three windows at once: one is filled, one waits, one is named. What is in the kernel for unwinding is mapped by the
            // agent, too, so that it counts twice: as memory of BPF maps and of a process.
            session: SessionLimits {
                window: part(2) as usize,
                unwind: UNWIND_LEAST + part(4),
                reading: part(3) as usize,
                waiting: part(2) as usize,
                labels: true,
            },
            names: SymbolizerMemory { cache: part(2) as usize, worker: WORKER_LEAST + part(5) },
            ring: power(part(2), 256 << 10, 8 << 20),
            side_band: power(part(1) / u64::from(cpus.max(1)), 16 << 10, 512 << 10),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_below_the_whole() {
        for mib in [56, 64, 100, 256, 1024, 8192] {
            for cpus in [1, 2, 64, 512] {
                let shares = Shares::of(mib << 20, cpus).expect("enough");
                let Shares { session, names, ring, side_band } = shares;
                let sum = FIXED
                    + 3 * session.window as u64
                    + 2 * session.unwind
                    + session.reading as u64
                    + session.waiting as u64
                    + names.cache as u64
                    + names.worker
                    + u64::from(ring)
                    + if cpus <= 64 { u64::from(side_band) * u64::from(cpus) } else { 0 };
                assert!(sum <= mib << 20, "{sum} of {mib} MiB on {cpus} CPUs: {shares:?}");
                assert!(ring.is_power_of_two() && side_band.is_power_of_two());
            }
        }
        assert!(Shares::of(32 << 20, 2).is_none());
    }
}
