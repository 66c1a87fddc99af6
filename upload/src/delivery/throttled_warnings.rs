//! Log lines about failures: at most one a minute for each reason.

use std::time::{Duration, Instant};

use crate::batch::Failure;

/// Least time between two lines about the same reason. Longer than that of the agent's log, which
/// would leave out a line that comes too early.
const INTERVAL: Duration = Duration::from_secs(61);

/// Most bytes of a server's text that are logged.
const TEXT_MAX: usize = 400;

/// Failures of one sink, or of the spool, since their last log line.
#[derive(Debug, Default)]
pub struct ThrottledWarnings {
    by_reason: [ReasonState; Failure::COUNT],
    /// A failure was logged, and no recovery since.
    is_failing: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct ReasonState {
    last_logged: Option<Instant>,
    /// Failures since then.
    suppressed: u64,
}

impl ThrottledWarnings {
    /// Counts a failure and logs it if a line is due.
    ///
    /// `subject`: such as "the sink `a`". `effect`: what happens to the batch. `cause`: why.
    pub fn warn(&mut self, subject: &str, effect: &str, reason: Failure, cause: &str) {
        if let Some(times) = self.count(reason, Instant::now()) {
            let advice = reason.advice();
            let repeats = if times > 1 { format!(" ({times} times)") } else { String::new() };
            if needs_operator(reason) {
                tracing::error!("{subject}: {effect}{repeats}: {cause}; {advice}");
            } else {
                tracing::warn!("{subject}: {effect}{repeats}: {cause}; {advice}");
            }
        }
    }

    /// Logs a recovery if a failure was logged since the last one.
    pub fn recovered(&mut self, line: impl FnOnce() -> String) {
        if std::mem::take(&mut self.is_failing) {
            let line = line(); // evaluated even if the log level discards it
            tracing::info!("{line}");
        }
    }

    /// Counts a failure. Returns the failures that a line covers, if one is due.
    fn count(&mut self, reason: Failure, now: Instant) -> Option<u64> {
        let state = &mut self.by_reason[reason as usize];
        state.suppressed += 1;
        if state.last_logged.is_some_and(|at| now.duration_since(at) < INTERVAL) {
            return None;
        }
        state.last_logged = Some(now);
        self.is_failing = true;
        Some(std::mem::take(&mut state.suppressed))
    }
}

/// Reduces a server's text to one line of bounded length, as logs and metrics show it.
pub fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.trim();
    let cut = &text[..text.floor_char_boundary(TEXT_MAX)];
    if cut.len() < text.len() { format!("{cut}…") } else { cut.to_owned() }
}

/// Returns whether a failure persists until somebody acts.
fn needs_operator(reason: Failure) -> bool {
    use Failure::{DiskFull, ReadOnly, Tls, Unauthenticated};
    matches!(reason, Tls | Unauthenticated | DiskFull | ReadOnly)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_logged_once_a_minute_with_its_count() {
        let mut warnings = ThrottledWarnings::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut count = |seconds, reason| warnings.count(reason, at(seconds));
        assert_eq!(count(0, Failure::Timeout), Some(1));
        assert_eq!(count(1, Failure::Timeout), None);
        assert_eq!(count(1, Failure::Tls), Some(1));
        assert_eq!(count(60, Failure::Timeout), None);
        assert_eq!(count(61, Failure::Timeout), Some(3));
        assert_eq!(count(121, Failure::Timeout), None);
        assert_eq!(count(123, Failure::Timeout), Some(2));
    }

    #[test]
    fn recovery_is_logged_once_per_logged_failure() {
        let mut warnings = ThrottledWarnings::default();
        let mut lines = 0;
        let mut recover = |warnings: &mut ThrottledWarnings| {
            warnings.recovered(|| {
                lines += 1;
                String::new()
            });
            lines
        };
        assert_eq!(recover(&mut warnings), 0);
        warnings.warn("the sink `a`", "batches wait", Failure::Timeout, "slow");
        assert_eq!(recover(&mut warnings), 1);
        warnings.warn("the sink `a`", "batches wait", Failure::Timeout, "slow");
        assert_eq!(recover(&mut warnings), 1);
    }

    #[test]
    fn server_text_is_reduced_to_one_short_line() {
        assert_eq!(one_line(" no\nERROR you\x1b[31m \n"), "no ERROR you [31m");
        let long = one_line(&"ä".repeat(1_000));
        assert_eq!(long, format!("{}…", "ä".repeat(200)));
    }
}
