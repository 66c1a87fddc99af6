//! Finds what is missing between sequence numbers, without asking the sampler.

use std::collections::HashMap;

use profile::Cpu;

/// The sequence numbers seen of each CPU, which rise.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    /// The first number of each CPU, indexed by CPU.
    first: Vec<u64>,
    by_cpu: HashMap<Cpu, Seen>,
}

#[derive(Debug)]
struct Seen {
    next: u64,
    missing: u64,
}

impl Sequences {
    /// Has seen none. `first`: where each CPU begins, indexed by CPU; 0 where it says nothing.
    pub fn new(first: Vec<u64>) -> Self {
        Self { first, by_cpu: HashMap::new() }
    }

    fn first(&self, cpu: Cpu) -> u64 {
        self.first.get(cpu.0 as usize).copied().unwrap_or(0)
    }

    /// Sees a sample's number.
    pub fn saw(&mut self, cpu: Cpu, sequence: u64) {
        let next = self.first(cpu);
        let seen = self.by_cpu.entry(cpu).or_insert(Seen { next, missing: 0 });
        seen.missing += sequence.saturating_sub(seen.next);
        seen.next = sequence + 1;
    }

    /// Counts the numbers that never came, out of those below the ones that each CPU gives next.
    pub fn missing(&self, given: &[u64]) -> u64 {
        let of_cpu = |(cpu, given): (usize, &u64)| match self.by_cpu.get(&Cpu(cpu as u32)) {
            Some(seen) => seen.missing + given.saturating_sub(seen.next),
            None => given.saturating_sub(self.first(Cpu(cpu as u32))),
        };
        given.iter().enumerate().map(of_cpu).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_found_at_the_start_in_the_middle_and_at_the_end() {
        let mut sequences = Sequences::default();
        for sequence in [2, 3, 6] {
            sequences.saw(Cpu(0), sequence);
        }
        sequences.saw(Cpu(1), 0);
        assert_eq!(sequences.missing(&[10, 1, 5]), 4 + 3 + 5);
    }

    #[test]
    fn what_came_before_the_first_number_is_not_missing() {
        let mut sequences = Sequences::new(vec![100, 50]);
        sequences.saw(Cpu(0), 101);
        assert_eq!(sequences.missing(&[103, 52, 7]), 1 + 1 + 2 + 7);
    }
}
