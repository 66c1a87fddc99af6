//! The retry policy for Pyroscope, and what its responses say of the profiles of a request.
//!
//! A push is not atomic: the server tries each profile, and joins the errors of those that failed
//! to one text, under the code of any of them. Newer versions name each failed profile by its ID,
//! so the others are known to have arrived. The server sends no Retry-After; a proxy in front of it
//! may.
//!
//! Sources: `Distributor.PushBatch` and `pkg/validation` of Pyroscope 2.2; the Connect protocol,
//! "Error codes".

use std::borrow::Cow;

use serde::Deserialize;
use tonic::Code;

use crate::batch::Failure;
use crate::transport::{
    Disposition, FailedRequest, Reply, RetryPolicy, connect_code, retry, shorten,
};

const POLICY: RetryPolicy = RetryPolicy { by_code, by_status: retry::by_intermediary_status };

fn by_code(code: Code, _has_delay: bool) -> Disposition {
    match code {
        Code::Unknown | Code::Internal => Disposition::RetryBounded,
        Code::DataLoss => Disposition::Retry(Failure::Unavailable),
        other => retry::by_code(other),
    }
}

/// What a response says of the profiles of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PushResult {
    /// All profiles have arrived.
    Accepted,
    /// All profiles but those with these IDs have arrived.
    AcceptedExcept(Vec<String>),
    /// It is unknown which profiles have arrived.
    Failed(FailedRequest),
}

/// An error of the Connect protocol.
#[derive(Deserialize)]
struct ConnectError {
    code: String,
    #[serde(default)]
    message: String,
}

/// Reads the reply to a request of `profiles` profiles.
pub(super) fn judge(reply: &Reply, profiles: usize) -> PushResult {
    if reply.is_success() {
        // The message of a success has no fields.
        return match reply.message::<()>() {
            Ok(()) => PushResult::Accepted,
            Err(text) => PushResult::Failed(POLICY.judge_success_without_message(reply, &text)),
        };
    }
    let error = serde_json::from_slice::<ConnectError>(&reply.body).ok();
    let message = match &error {
        Some(error) => Cow::Borrowed(error.message.as_str()),
        None => String::from_utf8_lossy(&reply.body),
    };
    if profiles > 1
        && let Some(ids) = failed_ids(&message)
    {
        return PushResult::AcceptedExcept(ids);
    }
    let code = error.as_ref().map_or("", |error| error.code.as_str());
    let is_limit = names_its_limit(&message);
    let disposition = match (connect_code(code), reply.status) {
        _ if is_limit => Disposition::Split { is_limit_stated: true },
        (_, 413) => Disposition::Split { is_limit_stated: false },
        (Some(code), _) => (POLICY.by_code)(code, false),
        (None, status) if code.is_empty() => (POLICY.by_status)(status),
        (None, _) => Disposition::Reject(Failure::Rejected),
    };
    PushResult::Failed(FailedRequest {
        disposition,
        after: reply.retry_after,
        text: shorten(&format!("{} {code} {message}", reply.status)),
    })
}

/// Returns whether the server says that a profile is too old or too new.
pub(super) fn is_outside_window(text: &str) -> bool {
    text.contains("outside of ingestion window") || text.contains("not_in_ingestion_window")
}

/// Returns whether Pyroscope itself finds a profile too large, not a proxy.
fn names_its_limit(text: &str) -> bool {
    text.contains("larger than configured max")
}

/// Returns the IDs that a joined error names. `None` unless it names as many as have failed:
/// profiles that it does not name count as delivered.
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
    use Disposition::{Reject, Retry, RetryBounded, Split};
    use Failure::{Protocol, Rejected, Throttled, Timeout, Unauthenticated, Unavailable};

    fn reply(status: u16, body: &[u8]) -> Reply {
        Reply {
            status,
            content_type: "application/proto".into(),
            retry_after: None,
            body: body.to_vec().into(),
            sent_bytes: 0,
        }
    }

    fn connect(code: &str, message: &str) -> Vec<u8> {
        serde_json::json!({ "code": code, "message": message }).to_string().into_bytes()
    }

    fn check(status: u16, body: &[u8], expected: Disposition) {
        let result = judge(&reply(status, body), 1);
        let PushResult::Failed(failed) = result else { panic!("{status}: {result:?}") };
        assert_eq!(failed.disposition, expected, "{status} {}", String::from_utf8_lossy(body));
    }

    #[test]
    fn each_code_has_its_disposition() {
        let rejected =
            ["invalid_argument", "out_of_range", "failed_precondition", "already_exists"];
        for code in rejected.into_iter().chain(["teapot"]) {
            check(400, &connect(code, "no"), Reject(Rejected));
        }
        check(429, &connect("resource_exhausted", "push rate limit"), Retry(Throttled));
        check(401, &connect("unauthenticated", "no org id"), Retry(Unauthenticated));
        check(403, &connect("permission_denied", ""), Retry(Unauthenticated));
        check(404, &connect("unimplemented", ""), Retry(Protocol));
        check(504, &connect("deadline_exceeded", ""), Retry(Timeout));
        for code in ["unavailable", "aborted", "canceled", "data_loss"] {
            check(503, &connect(code, ""), Retry(Unavailable));
        }
        for code in ["unknown", "internal"] {
            check(500, &connect(code, ""), RetryBounded);
        }
    }

    #[test]
    fn a_proxy_is_judged_by_its_status() {
        check(429, b"slow down", Retry(Throttled));
        check(401, b"", Retry(Unauthenticated));
        check(408, b"", Retry(Timeout));
        check(500, b"oops", Retry(Unavailable));
        check(502, b"<html>bad gateway</html>", Retry(Unavailable));
        check(504, b"", Retry(Timeout));
        check(404, b"404 page not found", Retry(Protocol));
        check(302, b"", Retry(Protocol));
        check(400, b"<html>bad request</html>", Retry(Protocol));
    }

    #[test]
    fn profiles_that_a_joined_error_does_not_name_have_arrived() {
        let judge =
            |text: &str, profiles| judge(&reply(400, &connect("invalid_argument", text)), profiles);
        let text = "2 errors: push series with index 3 and id aaaa failed: invalid_argument: a; \
                    push series with index 0 and id bbbb failed: resource_exhausted: b";
        let expected = PushResult::AcceptedExcept(vec!["aaaa".into(), "bbbb".into()]);
        assert_eq!(judge(text, 5), expected);
        let one = "push series with index 1 and id cccc failed: invalid_argument: c";
        assert_eq!(judge(one, 2), PushResult::AcceptedExcept(vec!["cccc".into()]));
    }

    #[test]
    fn a_joined_error_must_name_all_that_failed() {
        let text =
            "2 errors: cannot read a profile; push series with index 0 and id aaaa failed: x";
        let result = judge(&reply(400, &connect("invalid_argument", text)), 3);
        let PushResult::Failed(failed) = result else { panic!("{result:?}") };
        assert_eq!(failed.disposition, Reject(Rejected));
    }

    #[test]
    fn the_servers_own_limit_is_distinguished_from_a_proxys() {
        let text = "message size 300 is larger than configured max 256";
        check(429, &connect("resource_exhausted", text), Split { is_limit_stated: true });
        check(413, b"<html>", Split { is_limit_stated: false });
    }
}
