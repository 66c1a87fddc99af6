//! `everytick runtimes`: which interpreters processes run, and whether their frames are walked.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use profile::{error_chain, printable};

use super::code_file::{CodeFile, Place, write_field};
use super::examples::RUNTIMES_EXAMPLES;
use super::terminal::line;
use super::values;
use crate::procfs;
use crate::runtimes::{
    Libc, LibcKind, RecognitionError, RuntimeFile, ThreadValue, recognize, supported_versions,
};

/// Arguments of `runtimes`.
#[derive(Debug, Args)]
#[command(after_help = RUNTIMES_EXAMPLES)]
pub(super) struct RuntimesArguments {
    /// Processes by their IDs; without any, all that run an interpreter.
    #[arg(value_name = "PID", value_parser = values::pid)]
    pub pids: Vec<u32>,
}

/// What the files of a process are recognized as.
struct ProcessRuntimes {
    /// Path and runtime of each file with an interpreter.
    runtimes: Vec<(String, Result<RuntimeFile, RecognitionError>)>,
    libc: Option<Result<Libc, RecognitionError>>,
}

/// Prints a paragraph per interpreter of a process. Returns failure if a process that is named
/// cannot be read.
pub(super) fn run(arguments: &RuntimesArguments) -> Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (mut has_failed, mut found) = (false, 0);
    let is_listed = arguments.pids.is_empty();
    let pids = if is_listed { procfs::pids().collect() } else { arguments.pids.clone() };
    for pid in pids {
        match read(pid) {
            Ok(process) => found += describe(pid, &process, is_listed, &mut out)?,
            Err(_) if is_listed => {} // it has ended, or is a thread of the kernel
            Err(error) => {
                has_failed = true;
                let cause = error_chain(error.as_ref());
                line(&format!("everytick: process {pid}: {}", printable(&cause)));
            }
        }
    }
    if is_listed && found == 0 {
        writeln!(out, "no process runs an interpreter that is known: {}", supported_versions())?;
    }
    out.flush()?;
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn read(pid: u32) -> Result<ProcessRuntimes> {
    let (mut runtimes, mut libc) = (Vec::new(), None);
    for CodeFile { name, place } in CodeFile::of_process(pid)? {
        let Place::Here { file, .. } = place else { continue };
        let recognition = recognize(&file);
        runtimes.extend(recognition.runtime.map(|runtime| (name, runtime)));
        libc = libc.or(recognition.libc);
    }
    Ok(ProcessRuntimes { runtimes, libc })
}

/// Returns the number of interpreters.
fn describe(
    pid: u32,
    process: &ProcessRuntimes,
    is_listed: bool,
    out: &mut impl Write,
) -> io::Result<usize> {
    let comm = procfs::comm(pid).unwrap_or_default();
    let head = format!("{pid} {}", printable(&comm));
    if process.runtimes.is_empty() && !is_listed {
        writeln!(out, "{head}")?;
        write_field(out, "runtime", &format!("none that is known: {}", supported_versions()))?;
    }
    for (path, runtime) in &process.runtimes {
        writeln!(out, "{head}")?;
        write_field(out, "file", &printable(path))?;
        match runtime {
            Ok(file) => describe_runtime(file, process.libc, out)?,
            Err(error) => {
                write_field(out, "problem", &format!("{}: {}", error.text(), next_step(*error)))?;
            }
        }
    }
    Ok(process.runtimes.len())
}

fn describe_runtime(
    file: &RuntimeFile,
    libc: Option<Result<Libc, RecognitionError>>,
    out: &mut impl Write,
) -> io::Result<()> {
    write_field(out, "runtime", &file.version.to_string())?;
    let layout = match file.version.has_layout_in_file() {
        true => "as the file describes it, equal to that of other builds of the version",
        false => "that of all builds of the version",
    };
    write_field(out, "structures", layout)?;
    let values = file.values.iter().filter_map(|value| match value {
        ThreadValue::None => None,
        ThreadValue::Static(_) | ThreadValue::Dynamic { .. } => Some("a thread-local variable"),
        ThreadValue::Key(_) => Some("a pthread key"),
    });
    let values: Vec<&str> = values.collect();
    let library = match libc {
        Some(Ok(Libc { kind: LibcKind::Glibc, .. })) => "glibc",
        Some(Ok(Libc { kind: LibcKind::Musl, .. })) => "musl",
        Some(Err(error)) => error.text(),
        None => "no C library that is known",
    };
    write_field(out, "threads", &format!("by {}; {library}", values.join(", else by ")))
}

/// Returns what can be done about an interpreter whose frames are not walked.
fn next_step(error: RecognitionError) -> String {
    let step = match error {
        RecognitionError::UnsupportedVersion => format!("use {}", supported_versions()),
        _ => "please report this build".to_owned(),
    };
    format!("its native frames are shown; {step}")
}
