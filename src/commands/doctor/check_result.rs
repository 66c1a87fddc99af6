//! The result of a check.

/// The result of a check, with the next step unless it passed.
pub(super) enum CheckResult {
    /// Everything works.
    Ok(String),
    /// `record` works, but profiles lack something.
    Degraded(String, &'static str),
    /// `record` cannot run.
    Failed(String, &'static str),
}
