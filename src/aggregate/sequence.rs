//! Finds what is missing between sequence numbers, without asking the sampler.

use std::collections::HashMap;

use profile::Cpu;

/// The sequence numbers seen of each CPU, which rise.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    by_cpu: HashMap<Cpu, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    next: u64,
    missing: u64,
}

impl Sequences {
    /// Sees a sample's number.
    pub fn saw(&mut self, cpu: Cpu, sequence: u64) {
        let seen = self.by_cpu.entry(cpu).or_default();
        seen.missing += sequence.saturating_sub(seen.next);
        seen.next = sequence + 1;
    }

    /// Counts the numbers that never came, out of those given to each CPU.
    pub fn missing(&self, given: &[u64]) -> u64 {
        let of_cpu = |(cpu, given): (usize, &u64)| match self.by_cpu.get(&Cpu(cpu as u32)) {
            Some(seen) => seen.missing + given.saturating_sub(seen.next),
            None => *given,
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
}
