//! `/proc/PID/stat`: see proc_pid_stat(5).

use std::time::Duration;

use rustix::param::{clock_ticks_per_second, page_size};

/// Number of the last field that is read; the first after the name is 3.
const LAST_FIELD: usize = 24;

/// Flag of a thread of the kernel (include/linux/sched.h).
const PF_KTHREAD: u64 = 0x0020_0000;

/// State, CPU time and memory of a process or thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    /// Name of the thread; of a process, the name of its main thread.
    pub comm: Box<str>,
    /// The thread has exited and has not been reaped.
    pub is_zombie: bool,
    /// Its process group is in the foreground of its terminal.
    pub is_foreground: bool,
    /// The thread runs, or could run if it had a CPU.
    pub is_running: bool,
    /// A thread of the kernel, which has no user memory.
    pub is_kernel_thread: bool,
    /// Running threads of the process.
    pub threads: u32,
    /// When the process started, in clock ticks since boot.
    pub start_ticks: u64,
    /// CPU time, user and system.
    pub cpu: Duration,
    /// CPU time of the children that have exited and were reaped.
    pub reaped_children_cpu: Duration,
    /// Resident memory in bytes, mapped files included.
    pub resident: u64,
}

impl ProcessStat {
    /// Parses the line of the file; `None` when a field is missing.
    ///
    /// The name in parentheses may contain anything, so fields are counted from the last one.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.split_once('(')?;
        let (comm, rest) = rest.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().take(LAST_FIELD - 2).collect();
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |index: usize| field(index)?.parse::<u64>().ok();
        let is_zombie = matches!(field(3)?, "Z" | "X");
        let [group, terminal, foreground_group] = [5, 7, 8].map(field);
        let is_foreground = terminal != Some("0") && group == foreground_group;
        let threads = u32::try_from(number(20)?).ok()?;
        Some(Self {
            comm: comm.into(),
            is_zombie,
            is_foreground,
            is_running: field(3)? == "R",
            is_kernel_thread: number(9)? & PF_KTHREAD != 0,
            threads: threads.saturating_sub(u32::from(is_zombie)),
            start_ticks: number(22)?,
            cpu: from_ticks(number(14)?.saturating_add(number(15)?)),
            reaped_children_cpu: from_ticks(number(16)?.saturating_add(number(17)?)),
            resident: number(24).unwrap_or(0).saturating_mul(page_size() as u64),
        })
    }
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / clock_ticks_per_second().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &str = "S 1 2 2 0 -1 4194560 1 0 0 0 3 4 5 6 20 0 5 0 777 1 1";

    #[test]
    fn a_name_may_contain_parentheses_and_spaces() {
        let stat = ProcessStat::parse(&format!("12 (a) (b c) {FIELDS}")).expect("well-formed");
        assert_eq!(&*stat.comm, "a) (b c");
        assert_eq!((stat.is_zombie, stat.threads, stat.start_ticks), (false, 5, 777));
        assert!(!stat.is_foreground, "it has no terminal");
        assert_eq!((stat.cpu, stat.reaped_children_cpu), (from_ticks(7), from_ticks(11)));
        assert_eq!(stat.resident, page_size() as u64);
    }

    #[test]
    fn threads_of_the_kernel_have_a_flag() {
        let of_kernel = FIELDS.replace("4194560", "69238880");
        for (fields, expected) in [(FIELDS, false), (&of_kernel, true)] {
            let stat = ProcessStat::parse(&format!("2 (kthreadd) {fields}")).expect("well-formed");
            assert_eq!(stat.is_kernel_thread, expected);
        }
    }

    #[test]
    fn an_exited_main_thread_does_not_count_as_running() {
        let stat = ProcessStat::parse(&format!("12 (x) Z{}", &FIELDS[1..])).expect("well-formed");
        assert!(stat.is_zombie && stat.threads == 4, "{stat:?}");
    }

    #[test]
    fn malformed_lines_are_rejected() {
        let no_threads = FIELDS.replace(" 5 0 777", " -5 0 777");
        for text in ["", "12", "12 (x", "12 (x)", "12 (x) S 1 2", &format!("1 (x) {no_threads}")] {
            assert_eq!(ProcessStat::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        let text = FIELDS.replace(" 3 4 5 6 ", &format!(" {0} {0} {0} {0} ", u64::MAX));
        assert!(ProcessStat::parse(&format!("1 (x) {text}")).is_some());
    }

    #[test]
    fn foreground_is_a_matter_of_process_groups() {
        let check = |group, terminal, foreground, expected| {
            let line = format!("1 (a) S 1 {group} 2 {terminal} {foreground} 0");
            let rest = "1 0 0 0 3 4 5 6 20 0 5 0 777 1 1";
            let stat = ProcessStat::parse(&format!("{line} {rest}")).expect("well-formed");
            assert_eq!(stat.is_foreground, expected, "{line}");
        };
        check(7, 34816, 7, true);
        check(7, 34816, 8, false);
        check(7, 0, -1, false);
    }
}
