//! What an answer of Pyroscope means for the series of its request.
//!
//! A push is not atomic: each of its profiles is tried, and the errors of those that failed are joined to one
//! text, under the code of any of them. Newer versions name each in it by its id, so that the others
//! are known to be there. No answer bears Retry-After, but one of a proxy in front of it may.
//!
//! Sources: `Distributor.PushBatch` and `pkg/validation` of Pyroscope 2.2; the Connect protocol, "Error codes".

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;

use crate::batch::Failure;
use crate::transport::shorten;

/// What the answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it is there.
    Taken,
    /// What these ids are of failed; all else is there.
    Failed(Vec<String>),
    /// Not now.
    Later {
        /// Why.
        reason: Failure,
        /// When, if it says so.
        after: Option<Duration>,
        /// What it says.
        text: String,
    },
    /// Not now, but it may be this profile that the server stumbles over.
    Broken(String),
    /// Never.
    Refused(String),
    /// Never of this size.
    TooLarge(String),
}

/// An error of the Connect protocol.
#[derive(Deserialize)]
struct ConnectError {
    code: String,
    #[serde(default)]
    message: String,
}

/// Reads the answer to a request of `profiles` profiles.
pub(super) fn judge(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    profiles: usize,
) -> Verdict {
    if (200..300).contains(&status) {
        return Verdict::Taken;
    }
    let error = serde_json::from_slice::<ConnectError>(body).ok();
    let message = match &error {
        Some(error) => Cow::Borrowed(error.message.as_str()),
        None => String::from_utf8_lossy(body),
    };
    if profiles > 1
        && let Some(ids) = failed_ids(&message)
    {
        return Verdict::Failed(ids);
    }
    let code = error.as_ref().map_or("", |error| error.code.as_str());
    let text = shorten(&format!("{status} {code} {message}"));
    if status == 413 || names_its_limit(&message) {
        return Verdict::TooLarge(text);
    }
    if profiles == 1 && matches!(code, "unknown" | "internal") {
        return Verdict::Broken(text);
    }
    match later(status, code) {
        Some(reason) => Verdict::Later { reason, after: retry_after, text },
        None => Verdict::Refused(text),
    }
}

/// Whether the server says that a profile is too old or too new for it.
pub(super) fn is_outside_window(text: &str) -> bool {
    text.contains("outside of ingestion window") || text.contains("not_in_ingestion_window")
}

/// Whether it is Pyroscope itself that finds a profile too large.
pub(super) fn names_its_limit(text: &str) -> bool {
    text.contains("larger than configured max")
}

/// Why to come again; `None` when there is no use.
fn later(status: u16, code: &str) -> Option<Failure> {
    Some(match (code, status) {
        ("resource_exhausted", _) => Failure::Throttled,
        ("unauthenticated" | "permission_denied", _) => Failure::Unauthenticated,
        ("deadline_exceeded", _) => Failure::Timeout,
        ("unavailable" | "unknown" | "internal" | "data_loss" | "aborted" | "canceled", _) => {
            Failure::Unavailable
        }
        // Another service: that is no word on the profile.
        ("unimplemented", _) => Failure::Protocol,
        ("", 429) => Failure::Throttled,
        ("", 401 | 403 | 407) => Failure::Unauthenticated,
        ("", 408 | 504) => Failure::Timeout,
        ("", 500..) => Failure::Unavailable,
        // Who speaks another protocol has not read the profile, and cannot refuse it for good.
        ("", _) => Failure::Protocol,
        _ => return None,
    })
}

/// The ids that a joined error names. `None` unless it names as many as have failed, because what it does not
/// name would be taken for delivered.
fn failed_ids(message: &str) -> Option<Vec<String>> {
    let ids: Vec<String> = message
        .split("push series with index ")
        .skip(1)
        .filter_map(|rest| rest.split_once(" and id ")?.1.split_once(" failed: "))
        .map(|(id, _)| id.to_owned())
        .collect();
    let failed = message
        .split_once(" errors: ")
        .and_then(|(number, _)| number.parse::<usize>().ok())
        .unwrap_or(1);
    (!ids.is_empty() && ids.len() == failed).then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(code: &str, message: &str) -> Vec<u8> {
        serde_json::json!({ "code": code, "message": message }).to_string().into_bytes()
    }

    fn check(status: u16, body: &[u8], expected: Option<Failure>) {
        let found = match judge(status, None, body, 1) {
            Verdict::Later { reason, .. } => Some(reason),
            Verdict::Broken(_) => Some(Failure::Unavailable),
            Verdict::Refused(_) => None,
            other => panic!("{status}: {other:?}"),
        };
        assert_eq!(found, expected, "{status} {}", String::from_utf8_lossy(body));
    }

    #[test]
    fn codes_say_whether_to_come_again() {
        for code in ["invalid_argument", "out_of_range", "failed_precondition", "already_exists"] {
            check(400, &connect(code, "no"), None);
        }
        check(429, &connect("resource_exhausted", "push rate limit"), Some(Failure::Throttled));
        check(401, &connect("unauthenticated", "no org id"), Some(Failure::Unauthenticated));
        check(403, &connect("permission_denied", ""), Some(Failure::Unauthenticated));
        check(504, &connect("deadline_exceeded", ""), Some(Failure::Timeout));
        for (status, code) in [(503, "unavailable"), (500, "unknown"), (500, "internal")] {
            check(status, &connect(code, ""), Some(Failure::Unavailable));
        }
    }

    #[test]
    fn a_proxy_speaks_by_its_status_alone() {
        check(429, b"slow down", Some(Failure::Throttled));
        check(401, b"", Some(Failure::Unauthenticated));
        check(408, b"", Some(Failure::Timeout));
        check(502, b"<html>bad gateway</html>", Some(Failure::Unavailable));
        check(504, b"", Some(Failure::Timeout));
        check(404, b"404 page not found", Some(Failure::Protocol));
        check(302, b"", Some(Failure::Protocol));
        check(400, b"<html>bad request</html>", Some(Failure::Protocol));
    }

    #[test]
    fn what_a_joined_error_does_not_name_is_there() {
        let text = "2 errors: push series with index 3 and id aaaa failed: invalid_argument: a; \
                    push series with index 0 and id bbbb failed: resource_exhausted: b";
        let expected = Verdict::Failed(vec!["aaaa".into(), "bbbb".into()]);
        assert_eq!(judge(400, None, &connect("invalid_argument", text), 5), expected);
        let one = "push series with index 1 and id cccc failed: invalid_argument: c";
        let expected = Verdict::Failed(vec!["cccc".into()]);
        assert_eq!(judge(400, None, &connect("invalid_argument", one), 2), expected);
    }

    #[test]
    fn an_error_that_does_not_name_all_names_none() {
        let text =
            "2 errors: cannot read a profile; push series with index 0 and id aaaa failed: x";
        let verdict = judge(400, None, &connect("invalid_argument", text), 3);
        assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
    }

    #[test]
    fn too_large_is_told_in_two_ways() {
        let text = "message size 300 is larger than configured max 256";
        let grpc = judge(429, None, &connect("resource_exhausted", text), 1);
        let proxy = judge(413, None, b"<html>", 1);
        for verdict in [grpc, proxy] {
            assert!(matches!(verdict, Verdict::TooLarge(_)), "{verdict:?}");
        }
    }

    #[test]
    fn a_profile_alone_may_be_what_breaks_the_server() {
        let body = connect("internal", "panic: nil map");
        assert!(matches!(judge(500, None, &body, 1), Verdict::Broken(_)));
        assert!(matches!(judge(500, None, &body, 2), Verdict::Later { .. }));
        assert!(matches!(judge(500, None, b"oops", 1), Verdict::Later { .. }));
    }
}
