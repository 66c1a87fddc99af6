//! `everytick completions` and `everytick man`: shell completions and man pages.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use upload::output;

use super::cli::Cli;

const PROGRAM: &str = "everytick";

/// Prints the completions of a shell.
pub(super) fn print_completions(shell: Shell) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut script);
    write(&script)
}

/// Prints the man page, or writes that of each command into a directory, without one of these
/// files half.
pub(super) fn man(directory: Option<&Path>) -> Result<ExitCode> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(directory) = directory else {
        return write(&page(command)?);
    };
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("{PROGRAM}-{}", subcommand.get_name());
        let page = page(subcommand.clone().display_name(&name))?;
        output::replace(&directory.join(format!("{name}.1")), &page)?;
    }
    output::replace(&directory.join(format!("{PROGRAM}.1")), &page(command)?)?;
    Ok(ExitCode::SUCCESS)
}

fn page(command: Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command).render(&mut text).context("cannot format the man page")?;
    Ok(text)
}

fn write(bytes: &[u8]) -> Result<ExitCode> {
    io::stdout().lock().write_all(bytes).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}
