//! The limit on open files.

use rustix::process::{Resource, getrlimit};

use super::limitation::{CheckResult, Limitation, LimitationReason};
use crate::kernel::online_cpus;

/// Files that are open beside those of each CPU: BPF maps and programs, workers, sinks, HTTP
/// connections, and some executables.
const FIXED: u64 = 256;
/// Files of each CPU: its sampling clock and its process events.
const PER_CPU: u64 = 4;

/// Returns how many files must be able to be open on this machine.
fn needed() -> u64 {
    FIXED + PER_CPU * online_cpus().map_or(1, |cpus| cpus.len()) as u64
}

/// Returns the limit, to which the soft limit is raised.
fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

pub(super) fn check() -> CheckResult {
    let Some(limit) = limit() else { return CheckResult::ok("without a limit") };
    let is_low = limit < needed();
    CheckResult::of(format!("{limit} at most"), is_low.then(|| limitation(limit)))
}

fn limitation(limit: u64) -> Limitation {
    let text = format!(
        "at most {limit} open files (RLIMIT_NOFILE), and {} are needed here: the start may fail, \
         and executables are closed before they are symbolized",
        needed()
    );
    Limitation::degraded(LimitationReason::OpenFiles, text, NEXT_STEP)
}

const NEXT_STEP: &str = "raise the limit: `ulimit -n 4096`, or LimitNOFILE=4096 of the service";

/// Adds the limit and the next step to the text of an error that is caused by it.
pub fn explain_open_files(error: String) -> String {
    match limit() {
        Some(limit) if error.contains("Too many open files") => format!(
            "{error}; the limit is {limit} (RLIMIT_NOFILE), and {} are needed here; {NEXT_STEP}",
            needed()
        ),
        _ => error,
    }
}
