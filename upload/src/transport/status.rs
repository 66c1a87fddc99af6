//! Status codes of gRPC, and the details of a status: `google.rpc.Status`.

use std::time::Duration;

use prost::Message;
use tonic::Code;

use super::proto::{RetryInfo, Status};

/// Longest delay that a server can ask for.
pub(super) const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Codes and their names in the gRPC specification.
const NAMES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

/// Returns the name of a code.
pub(super) fn name_of(code: Code) -> &'static str {
    NAMES[code as usize].1
}

/// Returns the code that the Connect protocol calls so: names in lower case, and "canceled".
pub(crate) fn connect_code(name: &str) -> Option<Code> {
    if name == "canceled" {
        return Some(Code::Cancelled);
    }
    let found = NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
    found.map(|(code, _)| *code)
}

/// Finds how long the server asks to be left alone in the details of a status.
pub(super) fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = Status::decode(details).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay.unwrap_or_default();
    let seconds = Duration::from_secs(delay.seconds.try_into().unwrap_or(0));
    let nanos = Duration::from_nanos(delay.nanos.try_into().unwrap_or(0));
    Some(seconds.saturating_add(nanos).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::super::proto::{Any, Duration as Delay};
    use super::*;

    #[test]
    fn each_name_is_at_its_code() {
        for (index, (code, _)) in NAMES.iter().enumerate() {
            assert_eq!(*code as usize, index);
        }
        assert_eq!(connect_code("resource_exhausted"), Some(Code::ResourceExhausted));
        assert_eq!(connect_code("canceled"), Some(Code::Cancelled));
        assert_eq!(connect_code("teapot"), None);
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
            let status = Status { code: 8, message: "slow".into(), details };
            retry_delay(&status.encode_to_vec())
        };
        assert_eq!(delay(3, 500_000_000), Some(Duration::from_millis(3500)));
        assert_eq!(delay(-3, -1), Some(Duration::ZERO));
        assert_eq!(delay(i64::MAX, i32::MAX), Some(RETRY_AFTER_MAX));
        assert_eq!(retry_delay(b"\xff\xff"), None);
        assert_eq!(retry_delay(b""), None);
    }
}
