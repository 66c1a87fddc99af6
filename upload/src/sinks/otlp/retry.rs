//! The retry policy of OTLP: its own tables for gRPC and HTTP.
//!
//! | answer | disposition |
//! |---|---|
//! | gRPC OUT_OF_RANGE, DATA_LOSS | retry |
//! | RESOURCE_EXHAUSTED | retry with RetryInfo, else reject |
//! | UNKNOWN, INTERNAL | reject |
//! | other codes | as in `transport/retry.rs` |
//! | HTTP 429, 502, 503, 504 | retry |
//! | HTTP 413 | split |
//! | HTTP 401, 403, 407, and 3xx, 404, 405, 415 | retry |
//! | other statuses | reject |
//! | success without the message of the protocol | retry |
//!
//! With `retry_server_errors`, UNKNOWN, INTERNAL and all statuses of 500 and above are retried too.
//!
//! OTLP forbids retrying UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED and the statuses in the
//! row of HTTP 401. These concern the credentials or the address, not the data: a person will
//! correct them, so the batch waits in the spool, which is bounded.
//!
//! Source: OTLP specification 1.11, "Failures".

use tonic::Code;

use crate::batch::Failure;
use crate::transport::{Disposition, RetryPolicy, retry};

/// Returns the policy; `retry_server_errors`: as configured.
pub(super) fn policy(retry_server_errors: bool) -> RetryPolicy {
    match retry_server_errors {
        false => RetryPolicy { by_code, by_status },
        true => RetryPolicy {
            by_code: |code, has_delay| match code {
                Code::Unknown | Code::Internal => Disposition::Retry(Failure::Unavailable),
                other => by_code(other, has_delay),
            },
            by_status: |status| match status {
                500..=503 | 505.. => Disposition::Retry(Failure::Unavailable),
                other => by_status(other),
            },
        },
    }
}

fn by_code(code: Code, has_delay: bool) -> Disposition {
    match code {
        Code::OutOfRange | Code::DataLoss => Disposition::Retry(Failure::Unavailable),
        Code::ResourceExhausted if !has_delay => Disposition::Reject(Failure::Throttled),
        other => retry::by_code(other),
    }
}

fn by_status(status: u16) -> Disposition {
    Disposition::Retry(match status {
        413 => return Disposition::Split { is_limit_stated: false },
        429 => Failure::Throttled,
        502 | 503 => Failure::Unavailable,
        504 => Failure::Timeout,
        401 | 403 | 407 => Failure::Unauthenticated,
        ..=399 | 404 | 405 | 415 => Failure::Protocol,
        _ => return Disposition::Reject(Failure::Rejected),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Failure::{
        Protocol, Rejected, Throttled, Timeout, Unauthenticated, Unavailable,
    };

    #[test]
    fn each_code_has_its_disposition() {
        use Disposition::{Reject, Retry};
        let table = [
            (Code::Cancelled, Retry(Unavailable)),
            (Code::Unknown, Reject(Rejected)),
            (Code::InvalidArgument, Reject(Rejected)),
            (Code::DeadlineExceeded, Retry(Timeout)),
            (Code::NotFound, Reject(Rejected)),
            (Code::AlreadyExists, Reject(Rejected)),
            (Code::PermissionDenied, Retry(Unauthenticated)),
            (Code::ResourceExhausted, Reject(Throttled)),
            (Code::FailedPrecondition, Reject(Rejected)),
            (Code::Aborted, Retry(Unavailable)),
            (Code::OutOfRange, Retry(Unavailable)),
            (Code::Unimplemented, Retry(Protocol)),
            (Code::Internal, Reject(Rejected)),
            (Code::Unavailable, Retry(Unavailable)),
            (Code::DataLoss, Retry(Unavailable)),
            (Code::Unauthenticated, Retry(Unauthenticated)),
        ];
        for (code, expected) in table {
            assert_eq!(by_code(code, false), expected, "{code:?}");
        }
        assert_eq!(by_code(Code::ResourceExhausted, true), Retry(Throttled));
    }

    #[test]
    fn each_status_of_http_has_its_disposition() {
        for status in [302, 401, 403, 404, 405, 407, 415, 429, 502, 503, 504] {
            assert!(matches!(by_status(status), Disposition::Retry(_)), "{status}");
        }
        for status in [400, 402, 406, 408, 409, 410, 422, 431, 500, 501, 505, 507, 599] {
            assert_eq!(by_status(status), Disposition::Reject(Rejected), "{status}");
        }
        assert_eq!(by_status(413), Disposition::Split { is_limit_stated: false });
    }

    #[test]
    fn server_errors_are_retried_if_configured() {
        let policy = policy(true);
        for status in [500, 501, 502, 503, 505, 507, 599] {
            assert_eq!((policy.by_status)(status), Disposition::Retry(Unavailable), "{status}");
        }
        assert_eq!((policy.by_status)(504), Disposition::Retry(Timeout));
        assert_eq!((policy.by_status)(400), Disposition::Reject(Rejected));
        for code in [Code::Unknown, Code::Internal] {
            assert_eq!((policy.by_code)(code, false), Disposition::Retry(Unavailable), "{code:?}");
        }
        let invalid = (policy.by_code)(Code::InvalidArgument, false);
        assert_eq!(invalid, Disposition::Reject(Rejected));
    }
}
