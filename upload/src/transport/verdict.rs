//! What an answer means for the request: there, later, never, or not in this size.
//!
//! | answer | OTLP | Parca |
//! |---|---|---|
//! | gRPC CANCELLED, DEADLINE_EXCEEDED, ABORTED, UNAVAILABLE | later | later |
//! | OUT_OF_RANGE, DATA_LOSS | later | never; in doubt |
//! | RESOURCE_EXHAUSTED with RetryInfo | later | later |
//! | RESOURCE_EXHAUSTED that speaks of a size | smaller | smaller |
//! | RESOURCE_EXHAUSTED without | never | later |
//! | UNKNOWN, INTERNAL | never | in doubt |
//! | UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED | later | later |
//! | other codes | never | never |
//! | HTTP 429, 502, 503, 504 | later | |
//! | HTTP 413 | smaller | smaller |
//! | HTTP 401, 403, 407, and 3xx, 404, 405, 415 | later | |
//! | other statuses | never | |
//!
//! What answers a call of gRPC in another way, such as a proxy, refuses nothing for good.
//!
//! OTLP says never to repeat what is refused for who we are or where we knock. That is not said of the
//! profiles: a person will correct a token or an address, so they wait in the spool, which has a bound.
//!
//! Sources: OTLP specification 1.11, "Failures"; gRPC status codes; `google.rpc.RetryInfo`.

use std::time::Duration;

use prost::Message;
use tonic::Code;

use super::grpc::CallError;
use super::http::{AFTER_MAX, Reply};
use crate::batch::Failure;

/// Longest text of a server that is kept, in bytes.
const TEXT_MAX: usize = 300;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it again.
    Later {
        /// Why not now.
        reason: Failure,
        /// When, if the server says so.
        after: Option<Duration>,
        /// One line.
        text: String,
    },
    /// Send it again, but not for ever: it may be what makes the server fail.
    InDoubt {
        /// One line.
        text: String,
    },
    /// Send it in smaller parts.
    TooLarge {
        /// One line.
        text: String,
    },
    /// Do not send it again.
    Never {
        /// Why.
        reason: Failure,
        /// One line.
        text: String,
    },
}

/// Which protocol says what is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// OTLP's own table.
    Otlp,
    /// gRPC's meaning of the codes, and what Parca makes of them: errors of its storage are UNKNOWN.
    Parca,
}

/// Judges a call that gave no message.
pub(crate) fn of_call(error: CallError, rules: Rules) -> Verdict {
    let (code, after, text) = match error {
        CallError::Transport(error) => {
            let (reason, text) = (error.reason(), error.to_string());
            return Verdict::Later { reason, after: None, text };
        }
        CallError::Foreign { status, after, text } => return of_foreign(status, after, &text),
        CallError::Status { code, after, text } => (code, after, text),
    };
    // Who says when to come again does not mean the size.
    let is_told_when = code == Code::ResourceExhausted && after.is_some();
    let is_too_large = !is_told_when && is_about_size(code, &text);
    let text = shorten(&format!("{} {text}", name_of(code)));
    if is_too_large {
        return Verdict::TooLarge { text };
    }
    match (later(code, after.is_some(), rules), rules, code) {
        (Some(reason), _, _) => Verdict::Later { reason, after, text },
        (None, Rules::Parca, Code::Unknown | Code::Internal | Code::DataLoss) => {
            Verdict::InDoubt { text }
        }
        (None, _, Code::ResourceExhausted) => Verdict::Never { reason: Failure::Throttled, text },
        _ => Verdict::Never { reason: Failure::Rejected, text },
    }
}

/// Who speaks no gRPC cannot refuse a profile for good, because he has not read it.
fn of_foreign(status: u16, after: Option<Duration>, text: &str) -> Verdict {
    let text = shorten(&format!("{status} {text}"));
    let reason = match status {
        413 => return Verdict::TooLarge { text },
        429 => Failure::Throttled,
        401 | 403 | 407 => Failure::Unauthenticated,
        408 | 504 => Failure::Timeout,
        500.. => Failure::Unavailable,
        _ => Failure::Protocol,
    };
    Verdict::Later { reason, after, text }
}

fn later(code: Code, is_told_when: bool, rules: Rules) -> Option<Failure> {
    Some(match code {
        Code::Unauthenticated | Code::PermissionDenied => Failure::Unauthenticated,
        Code::Unimplemented => Failure::Protocol,
        Code::DeadlineExceeded => Failure::Timeout,
        Code::Unavailable | Code::Cancelled | Code::Aborted => Failure::Unavailable,
        Code::OutOfRange | Code::DataLoss if rules == Rules::Otlp => Failure::Unavailable,
        Code::ResourceExhausted if is_told_when || rules == Rules::Parca => Failure::Throttled,
        _ => return None,
    })
}

/// Whether a server says that a message is larger than it takes. The texts are those of gRPC for Go, C, Java,
/// .NET and Rust.
fn is_about_size(code: Code, text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let says = ["larger than max", "exceeds maximum", "exceeds the maximum", "too large"];
    matches!(code, Code::ResourceExhausted | Code::OutOfRange)
        && says.iter().any(|says| text.contains(says))
}

/// Judges an answer of HTTP that is no success, by the rules of OTLP. `text`: what its body says.
pub(crate) fn of_reply(reply: &Reply, text: &str) -> Verdict {
    let text = shorten(&format!("{} {text}", reply.status));
    let reason = match reply.status {
        413 => return Verdict::TooLarge { text },
        429 => Failure::Throttled,
        502 | 503 => Failure::Unavailable,
        504 => Failure::Timeout,
        401 | 403 | 407 => Failure::Unauthenticated,
        ..=399 | 404 | 405 | 415 => Failure::Protocol,
        _ => return Verdict::Never { reason: Failure::Rejected, text },
    };
    Verdict::Later { reason, after: reply.retry_after, text }
}

/// One line of bounded length.
pub(crate) fn shorten(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.len() > TEXT_MAX {
        true => format!("{}...", &line[..line.floor_char_boundary(TEXT_MAX)]),
        false => line,
    }
}

/// The name that people know a code by.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// `google.rpc.Status`: the body of errors, and the details of a gRPC status.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct RpcStatus {
    /// The code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
    /// More of it.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Any {
    /// Which message it is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// Its bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// Finds how long the server asks to be left alone in the details of a status.
pub(super) fn retry_info(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay.unwrap_or_default();
    let seconds = Duration::from_secs(delay.seconds.try_into().unwrap_or(0));
    let nanos = Duration::from_nanos(delay.nanos.try_into().unwrap_or(0));
    Some(seconds.saturating_add(nanos).min(AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: Code, text: &str, after: Option<Duration>) -> CallError {
        CallError::Status { code, after, text: text.to_owned() }
    }

    /// The verdict as one word.
    fn word(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Later { .. } => "later",
            Verdict::InDoubt { .. } => "in doubt",
            Verdict::TooLarge { .. } => "smaller",
            Verdict::Never { .. } => "never",
        }
    }

    #[test]
    fn each_code_is_judged_as_its_protocol_says() {
        // Code, OTLP, Parca.
        let table = [
            (Code::Cancelled, "later", "later"),
            (Code::Unknown, "never", "in doubt"),
            (Code::InvalidArgument, "never", "never"),
            (Code::DeadlineExceeded, "later", "later"),
            (Code::NotFound, "never", "never"),
            (Code::AlreadyExists, "never", "never"),
            (Code::PermissionDenied, "later", "later"),
            (Code::ResourceExhausted, "never", "later"),
            (Code::FailedPrecondition, "never", "never"),
            (Code::Aborted, "later", "later"),
            (Code::OutOfRange, "later", "never"),
            (Code::Unimplemented, "later", "later"),
            (Code::Internal, "never", "in doubt"),
            (Code::Unavailable, "later", "later"),
            (Code::DataLoss, "later", "in doubt"),
            (Code::Unauthenticated, "later", "later"),
        ];
        for (code, otlp, parca) in table {
            let of = |rules| of_call(status(code, "text", None), rules);
            assert_eq!(word(&of(Rules::Otlp)), otlp, "{code:?}");
            assert_eq!(word(&of(Rules::Parca)), parca, "{code:?}");
        }
    }

    #[test]
    fn an_exhausted_resource_is_a_size_a_wait_or_the_end() {
        let of =
            |text: &str, after| of_call(status(Code::ResourceExhausted, text, after), Rules::Otlp);
        let sizes = [
            "grpc: received message larger than max (5242894 vs. 4194304)",
            "Received message larger than max (5242894 vs. 4194304)",
            "gRPC message exceeds maximum size 4194304: 5242894",
        ];
        for text in sizes {
            assert_eq!(word(&of(text, None)), "smaller", "{text}");
        }
        let rust = "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes";
        let verdict = of_call(status(Code::OutOfRange, rust, None), Rules::Otlp);
        assert_eq!(word(&verdict), "smaller");
        let after = Some(Duration::from_secs(7));
        let text = "RESOURCE_EXHAUSTED slow".to_owned();
        let later = Verdict::Later { reason: Failure::Throttled, after, text };
        assert_eq!(of("slow", after), later);
        assert_eq!(word(&of(sizes[0], after)), "later");
        assert_eq!(word(&of("slow", None)), "never");
    }

    #[test]
    fn each_status_of_http_is_judged_as_otlp_says() {
        let of = |status| {
            let reply =
                Reply { status, retry_after: None, body: [].as_slice().into(), sent_bytes: 0 };
            word(&of_reply(&reply, ""))
        };
        for status in [302, 401, 403, 404, 405, 407, 415, 429, 502, 503, 504] {
            assert_eq!(of(status), "later", "{status}");
        }
        for status in [400, 402, 406, 408, 409, 410, 422, 431, 500, 501, 505, 507, 599] {
            assert_eq!(of(status), "never", "{status}");
        }
        assert_eq!(of(413), "smaller");
    }

    #[test]
    fn who_speaks_no_grpc_refuses_nothing_for_good() {
        let of = |status| {
            of_call(CallError::Foreign { status, after: None, text: String::new() }, Rules::Otlp)
        };
        assert_eq!(word(&of(413)), "smaller");
        for status in [200, 301, 400, 404, 500, 502] {
            assert_eq!(word(&of(status)), "later", "{status}");
        }
        let Verdict::Later { reason, .. } = of(429) else { panic!("not later") };
        assert_eq!(reason, Failure::Throttled);
    }

    #[test]
    fn retry_info_is_found_among_other_details() {
        let any = |name: &str, value: Vec<u8>| Any {
            type_url: format!("type.googleapis.com/{name}"),
            value,
        };
        let delay = |seconds, nanos| {
            let info = RetryInfo { retry_delay: Some(Delay { seconds, nanos }) };
            let details = vec![
                any("google.rpc.DebugInfo", vec![1, 2, 3]),
                any("google.rpc.RetryInfo", info.encode_to_vec()),
            ];
            let status = RpcStatus { code: 8, message: "slow".into(), details };
            retry_info(&status.encode_to_vec())
        };
        assert_eq!(delay(3, 500_000_000), Some(Duration::from_millis(3500)));
        assert_eq!(delay(-3, -1), Some(Duration::ZERO));
        assert_eq!(delay(i64::MAX, i32::MAX), Some(AFTER_MAX));
        assert_eq!(retry_info(b"\xff\xff"), None);
        assert_eq!(retry_info(b""), None);
    }

    #[test]
    fn text_is_one_short_line() {
        let text = shorten(&format!("a\n  b {}", "\u{f6}".repeat(TEXT_MAX)));
        assert!(text.starts_with("a b \u{f6}") && text.len() <= TEXT_MAX + 3, "{text}");
    }
}
