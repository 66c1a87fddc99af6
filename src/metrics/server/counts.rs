//! Counts of requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Why a request was not answered with its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its client opens too many connections.
    ClientRate,
    /// All clients together open too many connections.
    Rate,
    /// There were too many connections at once; it was closed for others.
    Connections,
    /// The method is neither GET nor HEAD.
    Method,
    /// The `Host` header does not name this machine.
    Host,
    /// It has a body.
    Body,
    /// It is not HTTP/1, or its head is too large.
    Malformed,
    /// The client took too long to send the request or to receive the response.
    Timeout,
}

impl Refusal {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::ClientRate,
        Self::Rate,
        Self::Connections,
        Self::Method,
        Self::Host,
        Self::Body,
        Self::Malformed,
        Self::Timeout,
    ];

    /// Returns the value of the label `reason` of `everytick_http_refused_total`.
    pub fn text(self) -> &'static str {
        match self {
            Self::ClientRate => "client rate",
            Self::Rate => "rate",
            Self::Connections => "connections",
            Self::Method => "method",
            Self::Host => "host",
            Self::Body => "body",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
        }
    }
}

/// Requests so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpCounts {
    /// Requests that were answered with a page, or with 404.
    pub answered: u64,
    /// Requests and connections that were refused, indexed by [`Refusal`].
    pub refused: [u64; Refusal::ALL.len()],
    /// Time in which no connection was accepted, because the CPU share was spent.
    pub paused: Duration,
}

/// Counts as the server's threads update them.
#[derive(Debug, Default)]
pub struct HttpCounters {
    answered: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    paused_us: AtomicU64,
}

impl HttpCounters {
    /// Returns the counts so far.
    pub fn counts(&self) -> HttpCounts {
        HttpCounts {
            answered: self.answered.load(Ordering::Relaxed),
            refused: std::array::from_fn(|at| self.refused[at].load(Ordering::Relaxed)),
            paused: Duration::from_micros(self.paused_us.load(Ordering::Relaxed)),
        }
    }

    pub(super) fn count_answer(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refusal(&self, reason: Refusal) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add_pause(&self, time: Duration) {
        self.paused_us.fetch_add(time.as_micros() as u64, Ordering::Relaxed);
    }
}
