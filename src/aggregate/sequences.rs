//! Finds missing samples by their sequence numbers, independently of the sampler's own counts.

use std::collections::HashMap;

use profile::Cpu;

/// The sequence numbers seen of each CPU, in ascending order.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    /// The first number of each CPU, indexed by CPU.
    first: Vec<u64>,
    by_cpu: HashMap<Cpu, CpuSequence>,
}

#[derive(Debug)]
struct CpuSequence {
    next: u64,
    missing: u64,
}

impl Sequences {
    /// `first`: the first number of each CPU, indexed by CPU; 0 for CPUs beyond its end.
    pub fn new(first: Vec<u64>) -> Self {
        Self { first, by_cpu: HashMap::new() }
    }

    fn first(&self, cpu: Cpu) -> u64 {
        self.first.get(cpu.0 as usize).copied().unwrap_or(0)
    }

    /// Records the number of a sample.
    pub fn record(&mut self, cpu: Cpu, sequence: u64) {
        let next = self.first(cpu);
        let seen = self.by_cpu.entry(cpu).or_insert(CpuSequence { next, missing: 0 });
        seen.missing += sequence.saturating_sub(seen.next);
        seen.next = sequence + 1;
    }

    /// Counts the numbers not seen below `next`: the number of each CPU's next sample, indexed by
    /// CPU.
    pub fn missing(&self, next: &[u64]) -> u64 {
        let of_cpu = |(cpu, next): (usize, &u64)| match self.by_cpu.get(&Cpu(cpu as u32)) {
            Some(seen) => seen.missing + next.saturating_sub(seen.next),
            None => next.saturating_sub(self.first(Cpu(cpu as u32))),
        };
        next.iter().enumerate().map(of_cpu).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_found_at_start_middle_and_end() {
        let mut sequences = Sequences::default();
        for sequence in [2, 3, 6] {
            sequences.record(Cpu(0), sequence);
        }
        sequences.record(Cpu(1), 0);
        assert_eq!(sequences.missing(&[10, 1, 5]), 4 + 3 + 5);
    }

    #[test]
    fn numbers_before_the_first_are_not_missing() {
        let mut sequences = Sequences::new(vec![100, 50]);
        sequences.record(Cpu(0), 101);
        assert_eq!(sequences.missing(&[103, 52, 7]), 1 + 1 + 2 + 7);
    }
}
