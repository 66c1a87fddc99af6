//! `everytick unwind`: what the unwinder makes of ELF files, a line each, and whether it is right.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ::unwind::{CallFrames, CheckReport, Error, Omissions, check, read};
use anyhow::{Context, Result};
use profile::thousands;

use super::cli::UnwindArguments;
use super::terminal::line;

const HEADER: &str = "      rows       bytes  B/row   rules       ms  left out   checked  file";

/// Sums over all files.
#[derive(Default)]
struct Total {
    files: u64,
    rows: u64,
    bytes: usize,
    rules: u64,
    time: Duration,
    left_out: u64,
    checked: u64,
    unknown: u64,
    differences: u64,
    failed: bool,
}

/// Prints a line for each file, and a last one for all. Gives failure if a file that was named
/// could not be read, or if a check found a difference.
pub(super) fn run(arguments: &UnwindArguments) -> Result<ExitCode> {
    let mut total = Total::default();
    let mut out = io::BufWriter::new(io::stdout().lock());
    writeln!(out, "{HEADER}")?;
    for path in &arguments.files {
        if path.is_dir() {
            for file in files_below(path) {
                // What is no ELF file here is no mistake of the caller's.
                let _ = show(&file, arguments, &mut total, &mut out)?;
            }
        } else if let Err(reason) = show(path, arguments, &mut total, &mut out)? {
            total.failed = true;
            line(&format!("everytick: {}: {reason:#}", path.display()));
        }
    }
    if total.files > 1 {
        let name = format!("{} files", thousands(total.files));
        print_line(&mut out, &total, &name)?;
    }
    if arguments.check.is_some() {
        writeln!(
            out,
            "checked {} addresses: {} left out by the table, {} differences",
            thousands(total.checked),
            thousands(total.unknown),
            thousands(total.differences)
        )?;
    }
    out.flush()?;
    let is_good = !total.failed && total.differences == 0;
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows one file. The outer error is that of writing, the inner one tells what is wrong with the file.
fn show(
    path: &Path,
    arguments: &UnwindArguments,
    total: &mut Total,
    out: &mut impl Write,
) -> io::Result<Result<()>> {
    let read_file = || -> Result<(CallFrames, Option<CheckReport>, Duration)> {
        let file = File::open(path).context("cannot open it")?;
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        anyhow::ensure!(is_file, "it is no regular file; give an ELF file");
        let at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
        let start = Instant::now();
        let frames = read(&at).map_err(with_next_step)?;
        let time = start.elapsed();
        let checked = match arguments.check {
            Some(count) => Some(check(&at, &frames, count, arguments.seed)?),
            None => None,
        };
        Ok((frames, checked, time))
    };
    let (frames, checked, time) = match read_file() {
        Ok(all) => all,
        Err(error) => return Ok(Err(error)),
    };
    let one = Total {
        files: 1,
        rows: frames.table.rows,
        bytes: frames.table.bytes(),
        rules: frames.table.rules,
        time,
        left_out: frames.omissions.total(),
        checked: checked.as_ref().map_or(0, |checked| checked.addresses),
        unknown: checked.as_ref().map_or(0, |checked| checked.omitted),
        differences: checked.as_ref().map_or(0, |checked| checked.disagreements.len() as u64),
        failed: false,
    };
    print_line(out, &one, &format!("{}{}", path.display(), reasons(&frames.omissions)))?;
    for found in checked.iter().flat_map(|checked| &checked.disagreements) {
        writeln!(out, "  {:#x}: {}", found.address, found.rule)?;
        writeln!(out, "    ours   {:x?}", found.ours)?;
        writeln!(out, "    theirs {:x?}", found.theirs)?;
    }
    if arguments.rows {
        for (address, rule) in frames.table.iter() {
            writeln!(out, "  {address:>16x}  {rule}")?;
        }
    }
    total.add(&one);
    Ok(Ok(()))
}

fn with_next_step(error: Error) -> anyhow::Error {
    match error {
        Error::NoCallFrames => anyhow::anyhow!("{error}; its stacks are walked by frame pointer"),
        Error::NotElf => anyhow::anyhow!("{error}; give an executable or a shared library"),
        other => other.into(),
    }
}

fn reasons(omissions: &Omissions) -> String {
    let present = omissions.by_reason().into_iter().filter(|(_, count)| *count > 0);
    let texts: Vec<String> =
        present.map(|(reason, count)| format!("{reason}: {}", thousands(count))).collect();
    if texts.is_empty() { String::new() } else { format!(" ({})", texts.join(", ")) }
}

impl Total {
    fn add(&mut self, one: &Self) {
        self.files += one.files;
        self.rows += one.rows;
        self.bytes += one.bytes;
        self.rules += one.rules;
        self.time += one.time;
        self.left_out += one.left_out;
        self.checked += one.checked;
        self.unknown += one.unknown;
        self.differences += one.differences;
    }
}

fn print_line(out: &mut impl Write, sums: &Total, name: &str) -> io::Result<()> {
    writeln!(
        out,
        "{:>10}  {:>10}  {:>5.2}  {:>6}  {:>7.1}  {:>8}  {:>8}  {name}",
        thousands(sums.rows),
        thousands(sums.bytes as u64),
        sums.bytes as f64 / sums.rows.max(1) as f64,
        thousands(sums.rules),
        sums.time.as_secs_f64() * 1e3,
        thousands(sums.left_out),
        thousands(sums.checked),
    )
}

/// Gives the regular files below a directory, links not followed, in the order of their names.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut todo = vec![directory.to_owned()];
    while let Some(directory) = todo.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => todo.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    files
}
