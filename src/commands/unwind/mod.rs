//! `everytick unwind`: the unwind table of each ELF file in a line, and a check against DWARF.

mod arguments;
mod derived;
mod files;

use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ::unwind::derived::{DerivedRows, derive};
use ::unwind::{
    CallFrames, CheckReport, Omissions, Table, check, read_with_derived, read_with_gaps,
};
use anyhow::Result;
use profile::{error_chain, printable, thousands};

use super::terminal::line;
pub(super) use arguments::UnwindArguments;
use files::{NamedFile, shown, with_next_step};

const HEADER: &str = "      rows       bytes  B/row   rules       ms  left out   checked  file";

/// The figures of one file, or their sums over all files.
#[derive(Default)]
struct Figures {
    files: u64,
    rows: u64,
    bytes: usize,
    rules: u64,
    time: Duration,
    omitted_rows: u64,
    checked: u64,
    /// Checked addresses that the table omits.
    omitted_addresses: u64,
    differences: u64,
}

/// Prints a line per file and one for the totals. Returns failure if a file on the command line
/// cannot be read, or a check found a difference.
pub(super) fn run(arguments: &UnwindArguments) -> Result<ExitCode> {
    if arguments.derived && arguments.check.is_some() {
        return derived::run(arguments);
    }
    let (mut total, mut has_failed) = (Figures::default(), false);
    let mut out = io::BufWriter::new(io::stdout().lock());
    writeln!(out, "{HEADER}")?;
    for NamedFile { path, is_found } in files::all(&arguments.files) {
        if let Err(error) = show(&path, arguments, &mut total, &mut out)?
            && !is_found
        {
            has_failed = true;
            let cause = error_chain(error.as_ref());
            line(&format!("everytick: {}: {}", shown(&path), printable(&cause)));
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
            thousands(total.omitted_addresses),
            thousands(total.differences)
        )?;
    }
    out.flush()?;
    let is_success = !has_failed && total.differences == 0;
    Ok(if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints one file and adds its figures to the total. The outer error is one of the output, the
/// inner one of the file.
fn show(
    path: &Path,
    arguments: &UnwindArguments,
    total: &mut Figures,
    out: &mut impl Write,
) -> io::Result<Result<()>> {
    let FileRows { frames, underived, report, time } = match read_file(path, arguments) {
        Ok(rows) => rows,
        Err(error) => return Ok(Err(error)),
    };
    let figures = Figures {
        files: 1,
        rows: frames.table.rows,
        bytes: frames.table.bytes(),
        rules: frames.table.rules,
        time,
        omitted_rows: frames.omissions.total(),
        checked: report.addresses,
        omitted_addresses: report.omitted,
        differences: report.disagreements.len() as u64,
    };
    print_line(out, &figures, &format!("{}{}", shown(path), reasons(&frames.omissions)))?;
    for difference in &report.disagreements {
        writeln!(out, "  {:#x}: {}", difference.address, difference.rule)?;
        writeln!(out, "    ours   {:x?}", difference.ours)?;
        writeln!(out, "    theirs {:x?}", difference.theirs)?;
    }
    if arguments.rows {
        for (address, rule) in frames.table.iter() {
            let has_source = |table: &Table| !table.rule_at(address).is_gap();
            let is_derived = !rule.is_gap() && !underived.as_ref().is_none_or(has_source);
            let mark = if is_derived { "  (derived)" } else { "" };
            writeln!(out, "  {address:>16x}  {rule}{mark}")?;
        }
    }
    total.add(&figures);
    Ok(Ok(()))
}

/// The rows of a file.
struct FileRows {
    frames: CallFrames,
    /// The table without rows derived from machine code, if the two are to be told apart.
    underived: Option<Table>,
    report: CheckReport,
    /// What reading took, without the check.
    time: Duration,
}

/// Reads the call frames of a file, and checks them if asked to.
fn read_file(path: &Path, arguments: &UnwindArguments) -> Result<FileRows> {
    let file = files::open(path)?;
    let at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
    let start = Instant::now();
    let derived = if arguments.derived { derive(&at) } else { Ok(DerivedRows::default()) };
    let derived = derived.map_err(with_next_step)?;
    let frames = read_with_derived(&at, &derived, &mut || {}).map_err(with_next_step)?;
    let time = start.elapsed();
    let report = match arguments.check {
        Some(count) => check(&at, &frames, count, arguments.seed)?,
        None => CheckReport::default(),
    };
    let underived = if arguments.derived && arguments.rows {
        Some(read_with_gaps(&at, &mut || {}).map_err(with_next_step)?.table)
    } else {
        None
    };
    Ok(FileRows { frames, underived, report, time })
}

fn reasons(omissions: &Omissions) -> String {
    let present = omissions.by_reason().into_iter().filter(|(_, count)| *count > 0);
    let texts: Vec<String> =
        present.map(|(reason, count)| format!("{reason}: {}", thousands(count))).collect();
    if texts.is_empty() { String::new() } else { format!(" ({})", texts.join(", ")) }
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.rows += other.rows;
        self.bytes += other.bytes;
        self.rules += other.rules;
        self.time += other.time;
        self.omitted_rows += other.omitted_rows;
        self.checked += other.checked;
        self.omitted_addresses += other.omitted_addresses;
        self.differences += other.differences;
    }
}

fn print_line(out: &mut impl Write, figures: &Figures, name: &str) -> io::Result<()> {
    writeln!(
        out,
        "{:>10}  {:>10}  {:>5.2}  {:>6}  {:>7.1}  {:>8}  {:>8}  {name}",
        thousands(figures.rows),
        thousands(figures.bytes as u64),
        figures.bytes as f64 / figures.rows.max(1) as f64,
        thousands(figures.rules),
        figures.time.as_secs_f64() * 1e3,
        thousands(figures.omitted_rows),
        thousands(figures.checked),
    )
}
