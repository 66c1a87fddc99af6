//! Shared by the tests of sinks: synthetic windows, scripted servers, proxies and certificates.
#![allow(dead_code, clippy::unwrap_used)]

pub mod batches;
pub mod certificates;
pub mod otlp_rules;
pub mod parca_rules;
pub mod proxy;
pub mod server;

use std::time::Duration;

use upload::transport::Connection;
use upload::{Answer, Failure};

/// Returns the connection settings for a server, with a short timeout.
pub fn connection(url: &str) -> Connection {
    Connection { url: url.to_owned(), timeout_seconds: 5.0, ..Connection::default() }
}

/// Returns the kind of an answer, its reason, and the requested delay.
pub fn short(answer: &Answer) -> (&'static str, Option<Failure>, Option<Duration>) {
    match answer {
        Answer::Delivered { .. } => ("delivered", None, None),
        Answer::Partly { .. } => ("partly", None, None),
        Answer::Later { reason, after, .. } => ("later", Some(*reason), *after),
        Answer::Rejected { reason, .. } => ("rejected", Some(*reason), None),
    }
}

/// Returns the error message of an answer.
pub fn text(answer: &Answer) -> &str {
    match answer {
        Answer::Delivered { .. } => "",
        Answer::Partly { text, .. }
        | Answer::Later { text, .. }
        | Answer::Rejected { text, .. } => text,
    }
}

pub fn assert_delivered(answer: &Answer) {
    assert!(matches!(answer, Answer::Delivered { bytes } if *bytes > 0), "{answer:?}");
}
