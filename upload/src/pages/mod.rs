//! A small HTTP/1.1 server for pages that this program makes itself: metrics, health, what comes later.
//!
//! Whoever can reach the port may be slow, broken or hostile, so everything has a bound: connections at once, bytes of a
//! request's head, the time until the head is there, the time until a connection is over. Each connection is one request
//! and one answer, because a client that may keep its connection may also keep its seat. All of it runs on one thread, and
//! what is asked for is answered there: answers are made from memory, without waiting.
//!
//! Only GET and HEAD are answered. Who may connect, and over TLS, is for whoever puts something in front of the port.

mod serve;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use serve::Bounds;
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

/// What is answered to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// The header Content-Type.
    pub content_type: &'static str,
    /// What follows the head.
    pub body: Vec<u8>,
}

impl Page {
    /// Plain text in UTF-8.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        let body = body.into().into_bytes();
        Self { status, content_type: "text/plain; charset=utf-8", body }
    }
}

/// Makes the page at a path, which begins with `/` and has no query; `None` where there is none. Is called on the server's
/// only thread, so it must not wait. A panic in it ends that one connection.
pub type Answering = dyn Fn(&str) -> Option<Page> + Send + Sync;

/// Why there are no pages.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// The address is taken, not ours, or not allowed.
    #[error("cannot listen on {address}: {source}; choose another address or port")]
    Listen {
        /// Where to.
        address: SocketAddr,
        /// What the system answered.
        source: io::Error,
    },
    /// The system gave no thread or nothing to wait with.
    #[error(
        "cannot start the thread that serves {address}: {source}; look at the limits of threads and open files"
    )]
    Start {
        /// Where to.
        address: SocketAddr,
        /// What the system answered.
        source: io::Error,
    },
}

/// A running server. It ends when it is stopped or dropped.
#[derive(Debug)]
pub struct Pages {
    address: SocketAddr,
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pages {
    /// Listens on an address, where port 0 means any that is free, and answers from a thread of its own.
    ///
    /// # Errors
    /// [`PagesError`], with what to do.
    pub fn start(address: SocketAddr, answer: Arc<Answering>) -> Result<Self, PagesError> {
        Self::start_within(address, answer, Bounds::default())
    }

    fn start_within(
        address: SocketAddr,
        answer: Arc<Answering>,
        bounds: Bounds,
    ) -> Result<Self, PagesError> {
        let refused = |source| PagesError::Listen { address, source };
        let failed = |source| PagesError::Start { address, source };
        let listener = TcpListener::bind(address).map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let runtime = runtime().map_err(failed)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(failed)?
        };
        let (stop, stopped) = oneshot::channel();
        // Connections that are still open end with the runtime, which ends with the thread.
        let run = move || runtime.block_on(serve::serve(listener, answer, bounds, stopped));
        let thread = thread::Builder::new().name("pages".into()).spawn(run).map_err(failed)?;
        Ok(Self { address: bound, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens, with the port that was free.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it at once: connections are cut, and the port is free again.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic was told of already
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.end();
    }
}

fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread().enable_io().enable_time().build()
}
