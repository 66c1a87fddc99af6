//! What became of lookups.

use std::time::Duration;

use profile::{pluralize, thousands};

const MINUTE: Duration = Duration::from_secs(60);

/// What became of a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadOutcome {
    /// The file was downloaded.
    Fetched,
    /// The file was in the cache directory.
    Cached,
    /// No server has the file.
    NotFound,
    /// The file has another build ID.
    OtherBuildId,
    /// The answer is not an ELF file, or a truncated one.
    NotElf,
    /// The file has neither debug info nor a symbol table.
    NoDebugInfo,
    /// The file is larger than a file may be.
    TooLarge,
    /// The server redirects too often, or away from TLS.
    Redirects,
    /// The connection was closed in the middle.
    EndedEarly,
    /// The server did not answer, or stopped sending.
    TimedOut,
    /// The server answered with an error.
    ErrorStatus,
    /// The certificate of the server is not trusted.
    Tls,
    /// No connection to the server.
    Unreachable,
    /// The server failed a short time ago, and was not asked.
    InBackoff,
    /// The file could not be written to the cache directory.
    NotStored,
    /// Too many lookups or bytes within an hour: in all, or of this owner.
    RateLimited,
}

impl DownloadOutcome {
    /// Number of outcomes.
    pub const COUNT: usize = 16;

    /// All outcomes, in the order of their numbers.
    pub const ALL: &[Self; Self::COUNT] = &[
        Self::Fetched,
        Self::Cached,
        Self::NotFound,
        Self::OtherBuildId,
        Self::NotElf,
        Self::NoDebugInfo,
        Self::TooLarge,
        Self::Redirects,
        Self::EndedEarly,
        Self::TimedOut,
        Self::ErrorStatus,
        Self::Tls,
        Self::Unreachable,
        Self::InBackoff,
        Self::NotStored,
        Self::RateLimited,
    ];

    /// Returns the value of the label `result`.
    pub fn text(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Cached => "cached",
            Self::NotFound => "not found",
            Self::OtherBuildId => "other build ID",
            Self::NotElf => "not an ELF file",
            Self::NoDebugInfo => "no debug info",
            Self::TooLarge => "too large",
            Self::Redirects => "redirect not followed",
            Self::EndedEarly => "ended early",
            Self::TimedOut => "no answer in time",
            Self::ErrorStatus => "error status",
            Self::Tls => "TLS failed",
            Self::Unreachable => "server unreachable",
            Self::InBackoff => "server in backoff",
            Self::NotStored => "not stored",
            Self::RateLimited => "rate limited",
        }
    }

    /// Returns whether the file is there.
    pub(super) fn is_success(self) -> bool {
        matches!(self, Self::Fetched | Self::Cached)
    }

    /// Returns how long a failure is remembered: a server that has no such file is asked again
    /// after an hour, one that failed otherwise sooner.
    pub(super) fn retry_after(self) -> Duration {
        match self {
            Self::NotFound | Self::OtherBuildId | Self::NotElf | Self::NoDebugInfo => 60 * MINUTE,
            Self::TooLarge | Self::Redirects | Self::RateLimited => 60 * MINUTE,
            Self::InBackoff => MINUTE,
            _ => 10 * MINUTE,
        }
    }

    /// Returns whether a failure says that the server itself does not work now.
    pub(super) fn is_of_server(self) -> bool {
        matches!(self, Self::TimedOut | Self::ErrorStatus | Self::Tls | Self::Unreachable)
    }
}

/// Lookups by their outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DownloadCounts {
    /// Indexed by [`DownloadOutcome`].
    pub outcomes: [u64; DownloadOutcome::COUNT],
    /// Bytes received, those of no use included.
    pub bytes: u64,
    /// Lookups that have no outcome yet.
    pub pending: u64,
}

impl DownloadCounts {
    /// Returns the lookups with one outcome.
    pub fn count(&self, outcome: DownloadOutcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// Describes what was downloaded, and why the rest was not, a line each.
    pub fn describe(&self) -> Vec<String> {
        let executables = |count: u64| pluralize(count, "executable", "executables");
        let mut lines = Vec::new();
        let (fetched, cached) =
            (self.count(DownloadOutcome::Fetched), self.count(DownloadOutcome::Cached));
        if fetched > 0 {
            let (kib, executables) = (self.bytes as f64 / 1024.0, executables(fetched));
            let (size, unit) = if kib < 1024.0 { (kib, "KiB") } else { (kib / 1024.0, "MiB") };
            lines.push(format!("debug info of {executables} downloaded, {size:.1} {unit}"));
        }
        if cached > 0 {
            let executables = executables(cached);
            lines.push(format!("debug info of {executables} was downloaded before"));
        }
        let mut failures: Vec<(u64, &str)> = DownloadOutcome::ALL
            .iter()
            .filter(|outcome| !outcome.is_success())
            .map(|outcome| (self.count(*outcome), outcome.text()))
            .chain([(self.pending, "not waited for")])
            .filter(|(count, _)| *count > 0)
            .collect();
        failures.sort_by_key(|(count, _)| u64::MAX - count);
        if !failures.is_empty() {
            let all: u64 = failures.iter().map(|(count, _)| count).sum();
            let reason = |(count, text): &(u64, &str)| format!("{text}: {}", thousands(*count));
            let reasons: Vec<String> = failures.iter().map(reason).collect();
            let executables = executables(all);
            let reasons = reasons.join(", ");
            lines.push(format!("debug info of {executables} not downloaded ({reasons})"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_have_their_numbers_and_texts() {
        for (number, outcome) in DownloadOutcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, number);
        }
        let mut texts: Vec<_> = DownloadOutcome::ALL.iter().map(|o| o.text()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), DownloadOutcome::COUNT);
    }

    #[test]
    fn description_has_what_was_downloaded_and_why_the_rest_was_not() {
        let mut counts = DownloadCounts::default();
        assert_eq!(counts.describe(), Vec::<String>::new());
        counts.outcomes[DownloadOutcome::Fetched as usize] = 1;
        counts.outcomes[DownloadOutcome::NotFound as usize] = 3;
        counts.outcomes[DownloadOutcome::TimedOut as usize] = 1;
        (counts.bytes, counts.pending) = (3 << 19, 2);
        assert_eq!(
            counts.describe(),
            [
                "debug info of 1 executable downloaded, 1.5 MiB",
                "debug info of 6 executables not downloaded (not found: 3, not waited for: 2, \
                 no answer in time: 1)"
            ]
        );
    }
}
