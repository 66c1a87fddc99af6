//! The retry policy for Parca: gRPC's meaning of the codes, and what Parca makes of them.
//!
//! Errors of its storage are UNKNOWN. They may also be caused by the batch, so they are retried a
//! bounded number of times: no window blocks those behind it forever.

use tonic::Code;

use crate::transport::{Disposition, RetryPolicy, retry};

pub(super) const POLICY: RetryPolicy =
    RetryPolicy { by_code, by_status: retry::by_intermediary_status };

fn by_code(code: Code, _has_delay: bool) -> Disposition {
    match code {
        Code::Unknown | Code::Internal | Code::DataLoss => Disposition::RetryBounded,
        other => retry::by_code(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Failure::{
        Protocol, Rejected, Throttled, Timeout, Unauthenticated, Unavailable,
    };

    #[test]
    fn each_code_has_its_disposition() {
        use Disposition::{Reject, Retry, RetryBounded};
        let table = [
            (Code::Cancelled, Retry(Unavailable)),
            (Code::Unknown, RetryBounded),
            (Code::InvalidArgument, Reject(Rejected)),
            (Code::DeadlineExceeded, Retry(Timeout)),
            (Code::NotFound, Reject(Rejected)),
            (Code::AlreadyExists, Reject(Rejected)),
            (Code::PermissionDenied, Retry(Unauthenticated)),
            (Code::ResourceExhausted, Retry(Throttled)),
            (Code::FailedPrecondition, Reject(Rejected)),
            (Code::Aborted, Retry(Unavailable)),
            (Code::OutOfRange, Reject(Rejected)),
            (Code::Unimplemented, Retry(Protocol)),
            (Code::Internal, RetryBounded),
            (Code::Unavailable, Retry(Unavailable)),
            (Code::DataLoss, RetryBounded),
            (Code::Unauthenticated, Retry(Unauthenticated)),
        ];
        for (code, expected) in table {
            assert_eq!(by_code(code, false), expected, "{code:?}");
        }
    }
}
