//! The command line: `record`, `agent`, `doctor`, `debuginfo`, `runtimes`, `unwind`, `verify`, its
//! completions and man pages, and the worker processes.

mod agent;
mod capture_kind;
mod cgroups;
mod child;
mod cli;
mod code_file;
mod comm_filter;
mod completions;
mod debug_info_downloads;
mod debuginfo;
mod doctor;
mod examples;
pub mod export;
mod filters;
mod frequency;
mod load_diagnostics;
mod output_values;
mod perf_arguments;
mod progress;
mod record;
mod recording_loss;
mod runtimes;
mod scope;
mod signals;
mod stop;
mod stored_agents;
mod summary;
mod terminal;
mod unsampled;
mod unwind;
mod usage_error;
mod values;
mod verify;
mod verify_report;
mod version;
mod workers;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use cli::{Cli, Command};
use profile::error_chain;

use crate::host::explain_open_files;

/// Runs the command line. `commit`: what was built; empty if unknown.
///
/// Returns the exit status: 0 for success, 1 for failure, 2 for a wrong command line, or the status
/// of the profiled COMMAND.
pub fn run(commit: &str) -> ExitCode {
    signals::ignore_harmless();
    let version: &'static str = version::describe(commit).leak(); // once
    let matches = Cli::command().version(version).try_get_matches();
    let cli = matches.and_then(|matches| Cli::from_arg_matches(&matches)).unwrap_or_else(|error| {
        let first = std::env::args_os().nth(1).unwrap_or_default();
        usage_error::explain(error, !first.to_string_lossy().starts_with('-')).exit()
    });
    let result = match cli.command {
        Command::Record(arguments) => record::run(arguments),
        Command::Agent(arguments) => agent::run(&arguments),
        Command::Doctor => doctor::run(),
        Command::Debuginfo(arguments) => debuginfo::run(&arguments),
        Command::Runtimes(arguments) => runtimes::run(&arguments),
        Command::Unwind(arguments) => unwind::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Completions { shell } => completions::print_completions(shell),
        Command::Man { directory } => completions::man(directory.as_deref()),
        Command::SymbolizerWorker { memory } => workers::run_symbolizer(memory << 20),
        Command::FileHelper => workers::run_file_helper(),
        Command::Deriver => workers::run_deriver(),
    };
    result.unwrap_or_else(|error| {
        let text = explain_open_files(error_chain(error.as_ref()));
        terminal::last_line(&format!("everytick: {text}"));
        ExitCode::FAILURE
    })
}
