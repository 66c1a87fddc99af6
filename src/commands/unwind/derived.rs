//! `everytick unwind --check --derived`: what rows derived from machine code are worth.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use profile::{error_chain, printable, thousands};
use unwind::derived::{DerivedReport, GapReport, KnownStarts, Reason, check_derived, check_gaps};

use super::super::terminal::line;
use super::arguments::UnwindArguments;
use super::files::{self, NamedFile, shown, with_next_step};

const HEADER: &str =
    "         code  starts   row %  equal %   wrong %  file wrong %       s  file (no row, %)";
/// Share of wrong instructions from which the check fails, if the starts of functions are known.
const WRONG_MAX_KNOWN: f64 = 0.0002;
/// The same if they are hidden.
const WRONG_MAX_HIDDEN: f64 = 0.001;

/// The figures of one file in one mode, or their sums.
#[derive(Default)]
struct Figures {
    files: u64,
    /// Instructions, or in gaps bytes.
    code: u64,
    with_row: u64,
    equal: u64,
    wrong: u64,
    inconsistent: u64,
    given_up: BTreeMap<Reason, u64>,
    time: Duration,
}

/// What is derived of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Rows of code with call frames, whose functions are known to begin where those say.
    Known,
    /// Rows of code with call frames, of which nothing is known.
    Hidden,
    /// Rows of code without call frames.
    Gaps,
}

const MODES: [Mode; 3] = [Mode::Known, Mode::Hidden, Mode::Gaps];

/// Prints three lines per file, and three for the totals. Returns failure if a file on the command
/// line cannot be read, or more of its rows are wrong than the limits allow.
pub(super) fn run(arguments: &UnwindArguments) -> Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut totals = MODES.map(|_| Figures::default());
    let mut has_failed = false;
    writeln!(out, "{HEADER}")?;
    for NamedFile { path, is_found } in files::all(&arguments.files) {
        match read(&path) {
            Ok(figures) => {
                let modes = MODES.iter().zip(figures).zip(&mut totals);
                for ((mode, (figures, wrong)), total) in modes {
                    let name = format!("{}{}", shown(&path), reasons(&figures));
                    print_line(&mut out, *mode, &figures, &name)?;
                    out.write_all(wrong.as_bytes())?;
                    has_failed |= figures.has_failed(*mode);
                    total.add(&figures);
                }
                out.flush()?;
            }
            Err(_) if is_found => {}
            Err(error) => {
                has_failed = true;
                let cause = error_chain(error.as_ref());
                line(&format!("everytick: {}: {}", shown(&path), printable(&cause)));
            }
        }
    }
    if totals[0].files > 1 {
        for (mode, total) in MODES.iter().zip(&totals) {
            let name = format!("{} files{}", thousands(total.files), reasons(total));
            print_line(&mut out, *mode, total, &name)?;
        }
    }
    out.flush()?;
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Returns the figures of a file in each mode, with the text of what is wrong.
fn read(path: &Path) -> Result<[(Figures, String); 3]> {
    let file = files::open(path)?;
    let at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
    let checked = |starts| -> Result<(Figures, String)> {
        let start = Instant::now();
        let report = check_derived(&at, starts).map_err(with_next_step)?;
        let wrong = differences(&report);
        Ok((Figures::of_report(report, start.elapsed()), wrong))
    };
    let known = checked(KnownStarts::FromCallFrames)?;
    let hidden = checked(KnownStarts::None)?;
    let start = Instant::now();
    let gaps = check_gaps(&at).map_err(with_next_step)?;
    let gaps = Figures::of_gaps(gaps, start.elapsed());
    Ok([known, hidden, (gaps, String::new())])
}

fn differences(report: &DerivedReport) -> String {
    let each = report.wrong.iter().map(|difference| {
        format!(
            "  {:#x}: {}\n    derived {:x?}\n    theirs  {:x?}\n",
            difference.address, difference.rule, difference.ours, difference.theirs
        )
    });
    each.collect()
}

/// Returns the reasons of missing rows, the most frequent first.
fn reasons(figures: &Figures) -> String {
    let mut counts: Vec<(f64, &str)> = figures
        .given_up
        .iter()
        .map(|(reason, count)| (figures.percent(*count), reason.text()))
        .collect();
    counts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let texts: Vec<String> =
        counts.iter().map(|(share, reason)| format!("{reason} {share:.3}")).collect();
    if texts.is_empty() { String::new() } else { format!(" ({})", texts.join(", ")) }
}

impl Figures {
    fn of_report(report: DerivedReport, time: Duration) -> Self {
        let without_row: u64 = report.given_up.values().sum();
        Self {
            files: 1,
            code: report.instructions,
            with_row: report.instructions - without_row,
            equal: report.equal,
            wrong: report.wrong.len() as u64,
            inconsistent: report.inconsistent,
            given_up: report.given_up,
            time,
        }
    }

    fn of_gaps(report: GapReport, time: Duration) -> Self {
        Self {
            files: 1,
            code: report.code,
            with_row: report.with_row,
            given_up: report.given_up,
            time,
            ..Self::default()
        }
    }

    fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.code += other.code;
        self.with_row += other.with_row;
        self.equal += other.equal;
        self.wrong += other.wrong;
        self.inconsistent += other.inconsistent;
        self.time += other.time;
        for (reason, count) in &other.given_up {
            *self.given_up.entry(*reason).or_default() += count;
        }
    }

    fn percent(&self, count: u64) -> f64 {
        100.0 * count as f64 / self.code.max(1) as f64
    }

    fn has_failed(&self, mode: Mode) -> bool {
        let limit = match mode {
            Mode::Known => WRONG_MAX_KNOWN,
            Mode::Hidden => WRONG_MAX_HIDDEN,
            Mode::Gaps => return false,
        };
        self.wrong as f64 > limit * self.code as f64
    }
}

fn print_line(out: &mut impl Write, mode: Mode, figures: &Figures, name: &str) -> io::Result<()> {
    let starts = match mode {
        Mode::Known => "known",
        Mode::Hidden => "hidden",
        Mode::Gaps => "gaps",
    };
    write!(
        out,
        "{:>13}  {starts:<6}  {:>6.2}  ",
        thousands(figures.code),
        figures.percent(figures.with_row)
    )?;
    if mode == Mode::Gaps {
        write!(out, "{:>7}  {:>8}  {:>12}", "-", "-", "-")?;
    } else {
        write!(
            out,
            "{:>7.3}  {:>8.4}  {:>12.4}",
            figures.percent(figures.equal),
            figures.percent(figures.wrong),
            figures.percent(figures.inconsistent)
        )?;
    }
    writeln!(out, "  {:>6.1}  {name}", figures.time.as_secs_f64())
}
