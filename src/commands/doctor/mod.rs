//! `everytick doctor`: checks what this host supports, what is missing, and what to do about it.
//!
//! The last check is a short recording: it loads the BPF programs, lets them tick and reads
//! samples. The exit status is 0 only if that works.

mod check_result;
mod host;
mod kernel_release;
mod trial;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;

use check_result::CheckResult;

type Check = fn() -> CheckResult;

const CHECKS: [(&str, Check); 12] = [
    ("kernel", host::kernel),
    ("machine", host::machine),
    ("capabilities", host::capabilities),
    ("kernel types", host::kernel_types),
    ("sampling clock", host::sampling_clock),
    ("sampling rate", host::sampling_rate),
    ("kernel symbols", host::kernel_symbols),
    ("kernel depth", host::kernel_depth),
    ("executables", host::executables),
    ("pid namespace", host::pid_namespace),
    ("cgroup filters", host::cgroups),
    ("trial", trial::trial),
];

/// Runs and prints every check. Returns success only if `record` works here.
pub(super) fn run() -> Result<ExitCode> {
    let mut can_record = true;
    for (name, check) in CHECKS {
        let (mark, text, step) = match check() {
            CheckResult::Ok(text) => ("ok", text, None),
            CheckResult::Degraded(text, step) => ("warn", text, Some(step)),
            CheckResult::Failed(text, step) => {
                can_record = false;
                ("FAIL", text, Some(step))
            }
        };
        print(&format!("{mark:<5} {name:<15} {text}"));
        if let Some(step) = step {
            print(&format!("{:<21} -> {step}", ""));
        }
    }
    print("");
    print(match can_record {
        true => "`everytick record` works here.",
        false => "`everytick record` cannot run here.",
    });
    Ok(if can_record { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints to standard output, because the report is the result.
fn print(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}
