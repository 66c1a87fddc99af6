//! `/proc/stat`: see proc_stat(5).

/// CPU time of all CPUs since boot, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    /// In programs, the kernel and interrupts.
    pub busy: u64,
    /// All of it, idle time included.
    pub total: u64,
}

impl CpuStat {
    /// Parses the file; `None` when it does not begin with the sum of all CPUs.
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let numbers: Vec<u64> =
            line.split_whitespace().map(|number| number.parse().unwrap_or(0)).collect();
        let field = |index: usize| numbers.get(index).copied().unwrap_or(0);
        let [user, nice, system, idle, iowait, irq, softirq, steal] =
            [0, 1, 2, 3, 4, 5, 6, 7].map(field);
        // Time of guests is part of that of users.
        let sum = |parts: &[u64]| parts.iter().fold(0, |sum: u64, part| sum.saturating_add(*part));
        let busy = sum(&[user, nice, system, irq, softirq]);
        Some(Self { busy, total: sum(&[busy, idle, iowait, steal]) })
    }

    /// Returns the busy share of the time since an earlier reading, in %; `None` when none has
    /// passed.
    pub fn busy_percent_since(&self, earlier: &Self) -> Option<f64> {
        let total = self.total.saturating_sub(earlier.total);
        let busy = self.busy.saturating_sub(earlier.busy).min(total);
        (total > 0).then(|| 100.0 * busy as f64 / total as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_is_that_of_all_cpus() {
        let text = "cpu  10 20 30 400 50 6 7 8 9 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n";
        let stat = CpuStat::parse(text).expect("well-formed");
        assert_eq!(stat, CpuStat { busy: 73, total: 531 });
        let later = CpuStat { busy: 98, total: 631 };
        assert_eq!(later.busy_percent_since(&stat), Some(25.0));
        assert_eq!(stat.busy_percent_since(&stat), None);
        assert_eq!(stat.busy_percent_since(&later), None, "it went backwards");
    }

    #[test]
    fn malformed_text_is_no_panic() {
        for text in ["", "cpu", "intr 5", "cpux 1 2"] {
            assert_eq!(CpuStat::parse(text), None, "{text:?}");
        }
        assert_eq!(CpuStat::parse("cpu  x -1"), Some(CpuStat::default()));
        let largest = format!("cpu  {0} {0} {0} {0}", u64::MAX);
        assert!(CpuStat::parse(&largest).is_some());
    }
}
