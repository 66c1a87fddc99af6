//! What a person types: `record`, `doctor`, `unwind`, `verify`, and the worker that `record` starts.

mod child;
mod cli;
mod doctor;
mod ends;
mod filters;
mod meter;
mod record;
mod refusal;
mod summary;
mod terminal;
mod unwind;
mod verify;
mod verify_report;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

/// Runs the command line. Its result is the exit status: 0 when all went well, 1 when
/// not, 2 for a wrong command line, or the status of the COMMAND that was profiled.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Record(arguments) => record::run(arguments),
        Command::Doctor => doctor::run(),
        Command::Unwind(arguments) => unwind::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::SymbolizerWorker => worker(),
    };
    outcome.unwrap_or_else(|error| {
        terminal::line(&format!("everytick: {error:#}"));
        ExitCode::FAILURE
    })
}

fn worker() -> anyhow::Result<ExitCode> {
    symbolizer::worker::serve(&mut std::io::stdin().lock(), &mut std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}
