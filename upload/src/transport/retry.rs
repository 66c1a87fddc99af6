//! The retry policy: what to do with a request that was not accepted.
//!
//! Each protocol has a [`RetryPolicy`] of its own, in the `retry.rs` of its sink: a table for
//! status codes of gRPC (Connect uses the same codes) and one for statuses of HTTP. What the
//! tables have in common is here.
//!
//! | code | meaning, unless a protocol says otherwise |
//! |---|---|
//! | CANCELLED, ABORTED, UNAVAILABLE, DEADLINE_EXCEEDED | retry |
//! | UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED | retry: a person will correct it |
//! | RESOURCE_EXHAUSTED | retry |
//! | all others | reject |
//!
//! RESOURCE_EXHAUSTED without a retry delay and OUT_OF_RANGE mean: split, if the text says that the
//! message is too large. An intermediary that answers instead of the server, such as a proxy,
//! rejects nothing permanently, and accepts nothing: a success without the message of the protocol
//! is retried.
//!
//! Sources: gRPC status codes; `google.rpc.RetryInfo`.

use std::time::Duration;

use tonic::Code;

use super::grpc::CallError;
use super::reply::Reply;
use super::status::name_of;
use super::text::shorten;
use crate::batch::Failure;

/// What to do with a request that was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Send it again later, without limit.
    Retry(Failure),
    /// Send it again, but not forever: it may be what makes the server fail.
    RetryBounded,
    /// Send it in smaller parts.
    Split {
        /// The server itself names its limit; otherwise it may be a proxy that finds everything
        /// too large.
        is_limit_stated: bool,
    },
    /// Do not send it again.
    Reject(Failure),
}

/// A request that was not accepted, and what to do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedRequest {
    pub disposition: Disposition,
    /// How long the server asks to be left alone.
    pub after: Option<Duration>,
    /// What happened, in one line without secrets.
    pub text: String,
}

/// Which failures a protocol allows or wants to be retried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryPolicy {
    /// Disposition by status code. The flag: the server sent a retry delay.
    pub by_code: fn(Code, bool) -> Disposition,
    /// Disposition by status of HTTP, for answers without a code.
    pub by_status: fn(u16) -> Disposition,
}

impl RetryPolicy {
    /// Judges a gRPC call that returned no message.
    pub fn judge_call(&self, error: CallError) -> FailedRequest {
        match error {
            CallError::Transport(error) => FailedRequest {
                disposition: Disposition::Retry(error.reason()),
                after: None,
                text: error.to_string(),
            },
            CallError::NotGrpc { status, after, text } => {
                let text = shorten(&format!("{status} {text}"));
                FailedRequest { disposition: by_intermediary_status(status), after, text }
            }
            CallError::Status { code, after, text } => {
                // A server that sends a retry delay limits the rate, not the size.
                let is_about_size = is_about_size(code, &text)
                    && !(code == Code::ResourceExhausted && after.is_some());
                let disposition = match is_about_size {
                    true => Disposition::Split { is_limit_stated: false },
                    false => (self.by_code)(code, after.is_some()),
                };
                FailedRequest {
                    disposition,
                    after,
                    text: shorten(&format!("{} {text}", name_of(code))),
                }
            }
        }
    }

    /// Judges an HTTP reply whose status is a success, but which is not the message of the
    /// protocol: something else answered, so the server does not have the profiles. `text`: what
    /// the reply is instead.
    pub fn judge_success_without_message(&self, reply: &Reply, text: &str) -> FailedRequest {
        FailedRequest {
            disposition: Disposition::Retry(Failure::Protocol),
            after: reply.retry_after,
            text: shorten(&format!("{} {text}", reply.status)),
        }
    }

    /// Judges an HTTP reply that is no success. `text`: what its body says.
    pub fn judge_reply(&self, reply: &Reply, text: &str) -> FailedRequest {
        FailedRequest {
            disposition: (self.by_status)(reply.status),
            after: reply.retry_after,
            text: shorten(&format!("{} {text}", reply.status)),
        }
    }
}

/// Returns the meaning of a code that the protocols agree on.
pub(crate) fn by_code(code: Code) -> Disposition {
    Disposition::Retry(match code {
        Code::Unauthenticated | Code::PermissionDenied => Failure::Unauthenticated,
        // Another service, which has not read the profiles.
        Code::Unimplemented => Failure::Protocol,
        Code::DeadlineExceeded => Failure::Timeout,
        Code::Unavailable | Code::Cancelled | Code::Aborted => Failure::Unavailable,
        Code::ResourceExhausted => Failure::Throttled,
        _ => return Disposition::Reject(Failure::Rejected),
    })
}

/// Returns the meaning of a status from something that does not speak the protocol. It has not
/// read the profiles, so it cannot reject them permanently.
pub(crate) fn by_intermediary_status(status: u16) -> Disposition {
    Disposition::Retry(match status {
        413 => return Disposition::Split { is_limit_stated: false },
        429 => Failure::Throttled,
        401 | 403 | 407 => Failure::Unauthenticated,
        408 | 504 => Failure::Timeout,
        500.. => Failure::Unavailable,
        _ => Failure::Protocol,
    })
}

/// Returns whether a server says that a message is larger than it takes. The texts are those of
/// gRPC for Go, C, Java, .NET and Rust.
fn is_about_size(code: Code, text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let phrases = ["larger than max", "exceeds maximum", "exceeds the maximum", "too large"];
    matches!(code, Code::ResourceExhausted | Code::OutOfRange)
        && phrases.iter().any(|phrase| text.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy =
        RetryPolicy { by_code: |code, _| by_code(code), by_status: by_intermediary_status };

    fn disposition(code: Code, text: &str, after: Option<Duration>) -> Disposition {
        POLICY.judge_call(CallError::Status { code, after, text: text.to_owned() }).disposition
    }

    #[test]
    fn a_message_too_large_is_split() {
        let split = Disposition::Split { is_limit_stated: false };
        let texts = [
            "grpc: received message larger than max (5242894 vs. 4194304)",
            "Received message larger than max (5242894 vs. 4194304)",
            "gRPC message exceeds maximum size 4194304: 5242894",
        ];
        for text in texts {
            assert_eq!(disposition(Code::ResourceExhausted, text, None), split, "{text}");
        }
        let rust = "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes";
        assert_eq!(disposition(Code::OutOfRange, rust, None), split);
        let after = Some(Duration::from_secs(7));
        let throttled = Disposition::Retry(Failure::Throttled);
        assert_eq!(disposition(Code::ResourceExhausted, texts[0], after), throttled);
    }

    #[test]
    fn retry_delay_and_text_are_passed_on() {
        let after = Some(Duration::from_secs(7));
        let code = Code::ResourceExhausted;
        let failed = POLICY.judge_call(CallError::Status { code, after, text: "slow".into() });
        assert_eq!((failed.after, failed.text.as_str()), (after, "RESOURCE_EXHAUSTED slow"));
    }

    #[test]
    fn an_intermediary_rejects_nothing_permanently() {
        let of = |status| {
            let error = CallError::NotGrpc { status, after: None, text: String::new() };
            POLICY.judge_call(error).disposition
        };
        assert_eq!(of(413), Disposition::Split { is_limit_stated: false });
        for status in [200, 301, 400, 404, 500, 502] {
            assert!(matches!(of(status), Disposition::Retry(_)), "{status}");
        }
        assert_eq!(of(429), Disposition::Retry(Failure::Throttled));
    }
}
