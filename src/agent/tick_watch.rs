//! Watches that every online CPU ticks.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use profile::Cpu;

/// The number of ticks of each online CPU, and when it grew last.
#[derive(Debug, Default)]
pub(super) struct TickWatch(BTreeMap<Cpu, (u64, Instant)>);

impl TickWatch {
    /// Takes the ticks so far, indexed by CPU number. A CPU that was not online before counts from
    /// now on.
    pub fn update(&mut self, online: &[Cpu], ticks: &[u64], now: Instant) {
        self.0.retain(|cpu, _| online.contains(cpu));
        for cpu in online {
            let ticks = ticks.get(cpu.0 as usize).copied().unwrap_or(0);
            let (before, at) = self.0.entry(*cpu).or_insert((ticks, now));
            if *before != ticks {
                (*before, *at) = (ticks, now);
            }
        }
    }

    /// Returns the CPU that has gone longest without a tick, and for how long.
    pub fn longest(&self, now: Instant) -> Option<(Cpu, Duration)> {
        let (cpu, (_, at)) = self.0.iter().min_by_key(|(_, (_, at))| *at)?;
        Some((*cpu, now.saturating_duration_since(*at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn online_cpu_that_stops_ticking_is_found() {
        let (mut watch, start) = (TickWatch::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(watch.longest(start), None);
        let both = [Cpu(0), Cpu(2)];
        watch.update(&both, &[5, 0, 7], at(0));
        watch.update(&both, &[6, 0, 7], at(10));
        assert_eq!(watch.longest(at(15)), Some((Cpu(2), Duration::from_secs(15))));
        watch.update(&both, &[6, 0, 8], at(20));
        assert_eq!(watch.longest(at(20)), Some((Cpu(0), Duration::from_secs(10))));
        watch.update(&[Cpu(2)], &[6, 0, 8], at(90));
        assert_eq!(watch.longest(at(90)), Some((Cpu(2), Duration::from_secs(70))));
        watch.update(&both, &[6, 0, 9], at(100));
        assert_eq!(watch.longest(at(101)), Some((Cpu(0), Duration::from_secs(1))), "online again");
    }
}
