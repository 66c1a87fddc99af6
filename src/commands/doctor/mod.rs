//! `everytick doctor`: checks what this host supports, what is missing, and what to do about it.
//!
//! The last check is a short recording: it loads the BPF programs, lets them tick and reads
//! samples. The exit status is 0 only if that works. Where capabilities are missing, another
//! recording shows whether own processes can be profiled without.

mod trial;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use profile::printable;

use crate::host::{CHECKS, Capabilities, Limitation, TaskAccess};

/// Runs and prints every check. Returns success only if `record` works here.
pub(super) fn run() -> Result<ExitCode> {
    let mut can_record = true;
    for (name, check) in CHECKS {
        let result = check();
        if result.missing.is_empty() {
            print_line("ok", name, &result.found);
        }
        for Limitation { is_fatal, text, next_step, .. } in &result.missing {
            can_record &= !is_fatal;
            print_line(if *is_fatal { "FAIL" } else { "warn" }, name, text);
            print_next_step(next_step);
        }
    }
    match trial::trial() {
        Ok(text) => print_line("ok", "trial", &text),
        Err(text) => {
            can_record = false;
            print_line("FAIL", "trial", &text);
            print_next_step("see the checks above");
        }
    }
    let is_privileged = Capabilities::effective().required_and_missing().is_empty();
    let access = if can_record || is_privileged { None } else { check_own_processes() };
    print("");
    print(match (can_record, access) {
        (true, _) => "`everytick record` works here.",
        (false, None) => "`everytick record` cannot run here.",
        (false, Some(TaskAccess { samples_kernel: true })) => {
            "`everytick record` profiles own processes here: with -p, -t or a COMMAND."
        }
        (false, Some(TaskAccess { samples_kernel: false })) => {
            "`everytick record` profiles own processes here, without kernel code: with -p, -t or a \
             COMMAND."
        }
    });
    Ok(if can_record { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Records this process without capabilities, and prints what came of it. Returns what may be
/// sampled.
fn check_own_processes() -> Option<TaskAccess> {
    let name = "own processes";
    let access = TaskAccess::probe();
    match access.as_ref().map(|access| trial::trial_of_tasks(*access)) {
        Ok(Ok(text)) => print_line("ok", name, &text),
        Ok(Err(text)) => {
            print_line("FAIL", name, &text);
            return None;
        }
        Err(error) => {
            print_line("FAIL", name, &error.to_string());
            print_next_step(error.next_step());
        }
    }
    access.ok()
}

fn print_line(mark: &str, name: &str, text: &str) {
    print(&format!("{mark:<5} {name:<15} {text}"));
}

fn print_next_step(step: &str) {
    print(&format!("{:<21} -> {step}", ""));
}

/// Prints to standard output, because the report is the result.
fn print(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{}", printable(line));
}
