//! The memory budget, divided before anything starts so that all bounds together stay below it.

use crate::session::SessionLimits;
use crate::symbolization::SymbolizerMemory;
use crate::tables::RowSource;

/// Bytes that the agent's processes use while they hold no data: code, thread stacks, the runtimes
/// of sinks, and pages of a large file whose symbols are being read, which the kernel can reclaim.
const FIXED: u64 = 34 << 20;
/// Minimum for unwind tables in the kernel, in bytes.
const UNWIND_LEAST: u64 = 3 << 20;
/// Minimum for processes, mappings and executables, in bytes.
const TRACKING_LEAST: u64 = 1 << 20;
/// Minimum for the deriver, in bytes.
const DERIVER_LEAST: u64 = 4 << 20;
/// Minimum for the symbolizer worker, in bytes.
const WORKER_LEAST: u64 = 8 << 20;

/// Memory bounds of the agent's parts, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemoryShares {
    /// The session: its window, and its tables and mappings in the kernel.
    pub session: SessionLimits,
    /// Cached symbols, and the symbolizer worker.
    pub symbols: SymbolizerMemory,
    /// The ring buffer of samples; a power of two.
    pub ring: u32,
    /// The ring buffer of process events of each CPU; a power of two.
    pub side_band: u32,
}

impl MemoryShares {
    /// Minimum budget in bytes.
    pub const LEAST: u64 = 60 << 20;

    /// Divides `memory` bytes on a machine with `cpus` CPUs. Returns `None` below [`Self::LEAST`].
    pub fn of(memory: u64, cpus: u32) -> Option<Self> {
        if memory < Self::LEAST {
            return None;
        }
        let free =
            memory - (FIXED + 2 * UNWIND_LEAST + DERIVER_LEAST + WORKER_LEAST + TRACKING_LEAST);
        let part = |parts: u64| free * parts / 32;
        Some(Self {
            // There are three windows at once: one fills, one waits, one is symbolized. Unwind
            // tables count twice, as BPF maps and as memory of the agent, which maps them.
            session: SessionLimits {
                times: 0,
                window: part(2) as usize,
                unwind: UNWIND_LEAST + part(4),
                reading: part(1) as usize,
                deriving: DERIVER_LEAST + part(3),
                waiting: part(2) as usize,
                tracking: TRACKING_LEAST + part(2),
                row_source: RowSource::All,
                labels: true,
                command_lines: false,
            },
            symbols: SymbolizerMemory { cache: part(2) as usize, worker: WORKER_LEAST + part(4) },
            ring: power_of_two(part(2), 256 << 10, 8 << 20),
            side_band: power_of_two(part(1) / u64::from(cpus.max(1)), 8 << 10, 512 << 10),
        })
    }
}

/// Returns the largest power of two up to `bytes`, from `least` to `most`.
fn power_of_two(bytes: u64, least: u64, most: u64) -> u32 {
    1 << bytes.clamp(least, most).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_below_the_budget() {
        for mib in [60, 64, 100, 256, 1024, 8192] {
            for cpus in [1, 2, 64, 512] {
                let shares = MemoryShares::of(mib << 20, cpus).expect("enough");
                let MemoryShares { session, symbols, ring, side_band } = shares;
                let sum = FIXED
                    + 3 * session.window as u64
                    + 2 * session.unwind
                    + session.reading as u64
                    + session.deriving
                    + session.waiting as u64
                    + session.tracking
                    + symbols.cache as u64
                    + symbols.worker
                    + u64::from(ring)
                    + if cpus <= 64 { u64::from(side_band) * u64::from(cpus) } else { 0 };
                assert!(sum <= mib << 20, "{sum} of {mib} MiB on {cpus} CPUs: {shares:?}");
                assert!(ring.is_power_of_two() && side_band.is_power_of_two());
            }
        }
        assert!(MemoryShares::of(32 << 20, 2).is_none());
    }
}
