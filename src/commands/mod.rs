//! What a person types: `record`, `doctor`, `unwind`, `verify`, and the workers that these start.

mod agent;
mod child;
mod cli;
mod doctor;
mod ends;
pub mod export;
mod filters;
mod load_diagnostics;
mod meter;
mod record;
mod summary;
mod terminal;
mod unwind;
mod verify;
mod verify_report;

use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// This program, from which workers are started: its file may be replaced while it runs.
const OURSELVES: &str = "/proc/self/exe";

/// Runs the command line. Its result is the exit status: 0 when all went well, 1 when
/// not, 2 for a wrong command line, or the status of the COMMAND that was profiled.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Record(arguments) => record::run(arguments),
        Command::Agent(arguments) => agent::run(&arguments),
        Command::Doctor => doctor::run(),
        Command::Unwind(arguments) => unwind::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::SymbolizerWorker { memory } => symbolizer_worker(memory << 20),
        Command::FileHelper => file_helper(),
    };
    outcome.unwrap_or_else(|error| {
        terminal::line(&format!("everytick: {error:#}"));
        ExitCode::FAILURE
    })
}

fn symbolizer_worker(memory_max: u64) -> anyhow::Result<ExitCode> {
    let (mut requests, mut responses) = (std::io::stdin().lock(), std::io::stdout().lock());
    symbolizer::worker::serve(&mut requests, &mut responses, memory_max)?;
    Ok(ExitCode::SUCCESS)
}

fn file_helper() -> anyhow::Result<ExitCode> {
    crate::processes::serve_file_helper(std::io::stdin().as_fd())?;
    Ok(ExitCode::SUCCESS)
}
