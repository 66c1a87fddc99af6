//! Why a request got no response, from the error chains of the libraries.

use std::error::Error;
use std::fmt::{self, Write};
use std::io;
use std::time::Duration;

use crate::batch::Failure;

/// A request that got no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct TransportError {
    reason: Failure,
    text: String,
}

impl TransportError {
    /// `text`: what happened, without secrets.
    pub fn new(reason: Failure, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// No response within the time allowed.
    pub fn timeout(server: &str, timeout: Duration) -> Self {
        let seconds = timeout.as_secs_f64();
        Self::new(Failure::Timeout, format!("{server} did not answer within {seconds} s"))
    }

    /// Classifies what stopped a request to `server`.
    pub fn of(server: &str, error: &(dyn Error + 'static)) -> Self {
        if let Some(own) = chain(error).find_map(|e| e.downcast_ref::<Self>()) {
            return own.clone();
        }
        let reason = reason_of(error);
        let what = match reason {
            Failure::Tls => "TLS verification failed for",
            Failure::Timeout => "no answer in time from",
            _ => "no connection to",
        };
        Self::new(reason, format!("{what} {server}: {}", Causes(error)))
    }

    /// Returns the reason to count it under.
    pub fn reason(&self) -> Failure {
        self.reason
    }
}

fn reason_of(error: &(dyn Error + 'static)) -> Failure {
    let is_tls = |e: &(dyn Error + 'static)| {
        // HTTP/2 retains only the text of what broke its connection.
        e.is::<rustls::Error>() || e.to_string().contains("received fatal alert")
    };
    let is_timeout = |e: &(dyn Error + 'static)| {
        e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut)
    };
    if chain(error).any(|e| e.to_string().contains("proxy authorization required")) {
        Failure::Unauthenticated
    } else if chain(error).any(is_tls) {
        Failure::Tls
    } else if chain(error).any(is_timeout) {
        Failure::Timeout
    } else {
        Failure::Unreachable
    }
}

/// Returns an error and its causes, outermost first. An `io::Error` hides the error that it wraps
/// and shows only the cause of that; both are in the chain.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

/// Texts of libraries that name only the step that failed.
const NOISE: [&str; 7] = [
    "client error (",
    "connection error",
    "dns error",
    "error resolving DNS",
    "error sending request",
    "tcp connect error",
    "tunnel error: failed to create underlying connection",
];

/// The causes of an error in one line, without repetitions.
struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = chain(self.0).map(ToString::to_string).collect();
        let is_noise = |text: &str| NOISE.iter().any(|noise| text.starts_with(noise));
        let mut line = String::new();
        for text in texts.iter().filter(|text| !is_noise(text)) {
            if !line.contains(text.as_str()) {
                let comma = if line.is_empty() { "" } else { ": " };
                write!(line, "{comma}{text}")?;
            }
        }
        match (line.is_empty(), texts.last()) {
            (true, Some(last)) => f.write_str(last),
            _ => f.write_str(&line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_error_inside_an_io_error() {
        let hidden = io::Error::other(rustls::Error::DecryptError);
        let error = TransportError::of("https://h", &hidden);
        assert_eq!(error.reason(), Failure::Tls);
        assert!(
            error.to_string().starts_with("TLS verification failed for https://h: "),
            "{error}"
        );
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(TransportError::of("h", &refused).reason(), Failure::Unreachable);
        let late = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!(TransportError::of("h", &late).reason(), Failure::Timeout);
    }

    #[test]
    fn own_errors_pass_unchanged() {
        let own = TransportError::new(Failure::Unauthenticated, "the proxy wants a password");
        let wrapped = io::Error::other(own.clone());
        assert_eq!(TransportError::of("http://h", &wrapped), own);
    }
}
