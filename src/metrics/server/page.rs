//! A page, and the handler that builds it.

use bytes::Bytes;

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// Value of the `Content-Type` header.
    pub content_type: &'static str,
    /// Bytes after the head.
    pub body: Bytes,
}

impl Page {
    /// Returns a page of plain text in UTF-8.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        let body = Bytes::from(body.into());
        Self { status, content_type: "text/plain; charset=utf-8", body }
    }
}

/// A page that the server offers.
#[derive(Clone, Copy, Debug)]
pub struct PagePath {
    /// Begins with `/`.
    pub path: &'static str,
    /// The page is answered to any client, also to one that sends too many requests: a probe of an
    /// orchestrator, which restarts an agent that does not answer.
    pub is_probe: bool,
}

/// Builds the page at one of the offered paths.
///
/// It runs on a thread of its own, once a second for each path at most. A panic in it is answered
/// with status 500.
pub type Handler = dyn Fn(&str) -> Page + Send + Sync;
