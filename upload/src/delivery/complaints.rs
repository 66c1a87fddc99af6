//! Lines in the log about what fails: for each sink and reason at most one a minute.

use std::time::{Duration, Instant};

use crate::batch::Failure;

/// Least time between two lines of one reason.
const BETWEEN: Duration = Duration::from_secs(60);

/// Bytes of a foreign text that are shown.
const TEXT_MAX: usize = 400;

/// What was complained of for one sink, or for the spool.
#[derive(Debug, Default)]
pub struct Complaints {
    of: [Complaint; Failure::COUNT],
    /// A line was written and none since that tells that it is over.
    is_open: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Complaint {
    written: Option<Instant>,
    /// Failures since that line.
    since: u64,
}

impl Complaints {
    /// Counts a failure and writes a line about it when one is due.
    ///
    /// `who`: as in "the sink `a`". `what`: what happens to the window. `text`: why.
    pub fn of(&mut self, who: &str, what: &str, reason: Failure, text: &str) {
        if let Some(times) = self.due(reason, Instant::now()) {
            let advice = reason.advice();
            let more = if times > 1 { format!(" ({times} times)") } else { String::new() };
            if is_for_people(reason) {
                tracing::error!("{who}: {what}{more}: {text}; {advice}");
            } else {
                tracing::warn!("{who}: {what}{more}: {text}; {advice}");
            }
        }
    }

    /// Writes a line that it is over, if one had told that something was wrong.
    pub fn over(&mut self, line: impl FnOnce() -> String) {
        if std::mem::take(&mut self.is_open) {
            let line = line(); // whether anybody listens or not
            tracing::info!("{line}");
        }
    }

    /// Counts a failure. When a line is due, gives the number of failures that it is about.
    fn due(&mut self, reason: Failure, now: Instant) -> Option<u64> {
        let complaint = &mut self.of[reason as usize];
        complaint.since += 1;
        if complaint.written.is_some_and(|written| now.duration_since(written) < BETWEEN) {
            return None;
        }
        complaint.written = Some(now);
        self.is_open = true;
        Some(std::mem::take(&mut complaint.since))
    }
}

/// Cuts a foreign text down to one line of reasonable length, as logs and metrics show it.
pub fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.trim();
    let cut = &text[..text.floor_char_boundary(TEXT_MAX)];
    if cut.len() < text.len() { format!("{cut}…") } else { cut.to_owned() }
}

/// What does not pass by itself.
fn is_for_people(reason: Failure) -> bool {
    use Failure::{DiskFull, ReadOnly, Tls, Unauthenticated};
    matches!(reason, Tls | Unauthenticated | DiskFull | ReadOnly)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_once_a_minute_with_what_came_meanwhile() {
        let mut complaints = Complaints::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut due = |seconds, reason| complaints.due(reason, at(seconds));
        assert_eq!(due(0, Failure::Timeout), Some(1));
        assert_eq!(due(1, Failure::Timeout), None);
        assert_eq!(due(1, Failure::Tls), Some(1));
        assert_eq!(due(59, Failure::Timeout), None);
        assert_eq!(due(60, Failure::Timeout), Some(3));
        assert_eq!(due(119, Failure::Timeout), None);
        assert_eq!(due(121, Failure::Timeout), Some(2));
    }

    #[test]
    fn that_it_is_over_is_told_once_for_each_line() {
        let mut complaints = Complaints::default();
        let mut times = 0;
        let mut over = |complaints: &mut Complaints| {
            complaints.over(|| {
                times += 1;
                String::new()
            });
            times
        };
        assert_eq!(over(&mut complaints), 0);
        complaints.of("the sink `a`", "windows wait", Failure::Timeout, "slow");
        assert_eq!(over(&mut complaints), 1);
        complaints.of("the sink `a`", "windows wait", Failure::Timeout, "slow");
        assert_eq!(over(&mut complaints), 1);
    }

    #[test]
    fn a_server_does_not_write_lines_of_its_own() {
        assert_eq!(one_line(" no\nERROR you\x1b[31m \n"), "no ERROR you [31m");
        let long = one_line(&"ä".repeat(1_000));
        assert_eq!(long, format!("{}…", "ä".repeat(200)));
    }
}
