//! The context of a capture: where a profile was taken, how, and of what.

use std::fmt;

use crate::printable;

/// Where a profile was taken, how, and of what. One line among the comments of pprof, so that a
/// stored profile can still be introduced to its reader.
///
/// ```
/// use profile::CaptureContext;
///
/// let context = CaptureContext {
///     host: "build-7".into(),
///     kernel: "6.1.0".into(),
///     frequency: 99,
///     cpus: 4,
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
    /// Number of CPUs that were online.
    pub cpus: u32,
    /// What was selected: [`WHOLE_MACHINE`](Self::WHOLE_MACHINE), a command, processes.
    pub scope: String,
}

const HOST: &str = "host ";
const KERNEL: &str = ", Linux ";
const FREQUENCY: &str = ", cpu-clock at ";
const CPUS: &str = " Hz on ";
const SCOPE: &str = " CPUs, ";

/// Longest text of a host, a kernel or a scope that is written, in bytes.
const TEXT_MAX: usize = 512;

impl CaptureContext {
    /// The scope of a profile of all processes.
    pub const WHOLE_MACHINE: &str = "the whole machine";

    /// Parses the line of a context; `None` if it is none.
    pub fn parse(line: &str) -> Option<Self> {
        let (host, rest) = line.strip_prefix(HOST)?.split_once(KERNEL)?;
        let (kernel, rest) = rest.split_once(FREQUENCY)?;
        let (frequency, rest) = rest.split_once(CPUS)?;
        let (cpus, scope) = rest.split_once(SCOPE)?;
        Some(Self {
            host: host.to_owned(),
            kernel: kernel.to_owned(),
            frequency: frequency.parse().ok()?,
            cpus: cpus.parse().ok()?,
            scope: scope.to_owned(),
        })
    }
}

/// Writes one line that a terminal shows as it is, as the comments of a profile show it.
impl fmt::Display for CaptureContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, kernel, frequency, cpus, scope } = self;
        let [host, kernel, scope] = [host, kernel, scope]
            .map(|text| printable(&text[..text.floor_char_boundary(TEXT_MAX)]));
        write!(f, "{HOST}{host}{KERNEL}{kernel}{FREQUENCY}{frequency}{CPUS}{cpus}{SCOPE}{scope}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(host: &str, scope: &str) -> CaptureContext {
        let (host, kernel, scope) = (host.into(), "6.1.0-18-amd64".into(), scope.into());
        CaptureContext { host, kernel, frequency: 19, cpus: 64, scope }
    }

    #[test]
    fn parses_what_it_displays() {
        for (host, scope) in
            [("n1", CaptureContext::WHOLE_MACHINE), ("", ""), ("a, b", "sh -c 'x, y' CPUs, z")]
        {
            let context = context(host, scope);
            assert_eq!(CaptureContext::parse(&context.to_string()), Some(context));
        }
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
