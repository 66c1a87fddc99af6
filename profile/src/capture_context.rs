//! The context of a capture: where a profile was taken, how, and of what.

use std::fmt;

use crate::{ClockScope, pluralize, printable};

/// Where a profile was taken, how, and of what. One line among the comments of pprof, so that a
/// stored profile can still be introduced to its reader.
///
/// ```
/// use profile::{CaptureContext, ClockScope};
///
/// let context = CaptureContext {
///     host: "build-7".into(),
///     kernel: "6.1.0".into(),
///     frequency: 99,
///     clocks: ClockScope::Cpus,
///     cpus: 4,
///     selects_cpus: false,
///     scope: "make -j8 and its descendants".into(),
/// };
/// assert_eq!(
///     context.to_string(),
///     "host build-7, Linux 6.1.0, cpu-clock at 99 Hz on 4 CPUs, make -j8 and its descendants"
/// );
/// assert_eq!(CaptureContext::parse(&context.to_string()), Some(context));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CaptureContext {
    /// Name of the machine.
    pub host: String,
    /// Release of its kernel.
    pub kernel: String,
    /// Configured sampling frequency in Hz, on each CPU.
    pub frequency: u32,
    /// Whose time the clocks measured.
    pub clocks: ClockScope,
    /// Number of CPUs that were profiled.
    pub cpus: u32,
    /// Whether these are a selection, and not all that were online.
    pub selects_cpus: bool,
    /// What was selected: [`WHOLE_MACHINE`](Self::WHOLE_MACHINE), a command, processes.
    pub scope: String,
}

const HOST: &str = "host ";
const KERNEL: &str = ", Linux ";
const CPUS: &str = " Hz on ";
const SELECTED: &str = " selected";
const SCOPE: &str = " CPUs, ";

/// Longest text of a host, a kernel or a scope that is written, in bytes.
const TEXT_MAX: usize = 512;

impl CaptureContext {
    /// The scope of a profile of all processes.
    pub const WHOLE_MACHINE: &str = "the whole machine";

    /// Parses the line of a context; `None` if it is none.
    pub fn parse(line: &str) -> Option<Self> {
        let (host, rest) = line.strip_prefix(HOST)?.split_once(KERNEL)?;
        let split = |clocks| Some((clocks, rest.split_once(&clock(clocks))?));
        let found = [ClockScope::Cpus, ClockScope::Tasks].into_iter().filter_map(split);
        let (clocks, (kernel, rest)) = found.min_by_key(|(_, (kernel, _))| kernel.len())?;
        let (frequency, rest) = rest.split_once(CPUS)?;
        let (cpus, scope) = rest.split_once(SCOPE)?;
        let selected = cpus.strip_suffix(SELECTED);
        Some(Self {
            host: host.to_owned(),
            kernel: kernel.to_owned(),
            frequency: frequency.parse().ok()?,
            clocks,
            cpus: selected.unwrap_or(cpus).parse().ok()?,
            selects_cpus: selected.is_some(),
            scope: scope.to_owned(),
        })
    }

    /// Returns the number of CPUs with its noun.
    pub fn cpus_text(&self) -> String {
        match self.selects_cpus {
            true => pluralize(self.cpus.into(), "selected CPU", "selected CPUs"),
            false => pluralize(self.cpus.into(), "CPU", "CPUs"),
        }
    }

    /// Returns what the busy share is of, as the start of a sentence: `the machine was`.
    pub fn busy_subject(&self) -> &'static str {
        match (self.selects_cpus, self.cpus) {
            (false, _) => "the machine was",
            (true, 1) => "the selected CPU was",
            (true, _) => "the selected CPUs were",
        }
    }
}

/// Returns the text before the frequency.
fn clock(clocks: ClockScope) -> String {
    format!(", {} at ", clocks.perf_event())
}

/// Writes one line that a terminal shows as it is, as the comments of a profile show it.
impl fmt::Display for CaptureContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, kernel, frequency, clocks, cpus, selects_cpus, scope } = self;
        let (clock, selected) = (clock(*clocks), if *selects_cpus { SELECTED } else { "" });
        let [host, kernel, scope] = [host, kernel, scope]
            .map(|text| printable(&text[..text.floor_char_boundary(TEXT_MAX)]));
        write!(
            f,
            "{HOST}{host}{KERNEL}{kernel}{clock}{frequency}{CPUS}{cpus}{selected}{SCOPE}{scope}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(host: &str, scope: &str) -> CaptureContext {
        let (host, kernel, scope) = (host.into(), "6.1.0-18-amd64".into(), scope.into());
        let (frequency, clocks, cpus, selects_cpus) = (19, ClockScope::Cpus, 64, false);
        CaptureContext { host, kernel, frequency, clocks, cpus, selects_cpus, scope }
    }

    #[test]
    fn parses_what_it_displays() {
        for (host, scope) in
            [("n1", CaptureContext::WHOLE_MACHINE), ("", ""), ("a, b", "sh 'x, cpu-clock at' CPUs")]
        {
            for (selects_cpus, clocks) in [(false, ClockScope::Tasks), (true, ClockScope::Cpus)] {
                let context = CaptureContext { selects_cpus, clocks, ..context(host, scope) };
                assert_eq!(CaptureContext::parse(&context.to_string()), Some(context));
            }
        }
    }

    #[test]
    fn selected_cpus_are_called_so() {
        let all = context("n", "all");
        assert_eq!((all.cpus_text().as_str(), all.busy_subject()), ("64 CPUs", "the machine was"));
        let one = CaptureContext { cpus: 1, selects_cpus: true, ..all };
        assert!(one.to_string().contains(" Hz on 1 selected CPUs, "), "{one}");
        assert_eq!(one.cpus_text(), "1 selected CPU");
        assert_eq!(one.busy_subject(), "the selected CPU was");
    }

    #[test]
    fn other_lines_are_no_context() {
        let good = context("n", "all").to_string();
        for (from, to) in [("host ", ""), (" Hz", ""), ("19", "-19"), ("64 CPUs", "many CPUs")] {
            assert_eq!(CaptureContext::parse(&good.replacen(from, to, 1)), None, "{from}");
        }
    }

    #[test]
    fn hostile_text_stays_one_short_line() {
        let hostile = format!("\u{1b}[2J\n{}", "\u{202e}".repeat(1_000));
        let line = context(&hostile, &hostile).to_string();
        assert!(line.len() < 4_096 && !line.chars().any(char::is_control), "{line}");
    }
}
