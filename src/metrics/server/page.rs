//! A page, and the handler that builds it.

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// Value of the `Content-Type` header.
    pub content_type: &'static str,
    /// Bytes after the head.
    pub body: Vec<u8>,
}

impl Page {
    /// Returns a page of plain text in UTF-8.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        let body = body.into().into_bytes();
        Self { status, content_type: "text/plain; charset=utf-8", body }
    }
}

/// Builds the page at a path, or returns `None` if the path is unknown.
///
/// The path begins with `/` and has no query. The handler runs on the server's only thread and must
/// not block. A panic in it ends that one connection.
pub type Handler = dyn Fn(&str) -> Option<Page> + Send + Sync;
