//! A small HTTP/1.1 server for the agent's own pages: metrics, health, readiness.
//!
//! Any client that reaches the port may be slow, broken or hostile, so every resource is bounded:
//! concurrent connections, connections per second of each client and of all, bytes of a request
//! head, time to receive the head, time to finish the connection, and CPU time, which has a share
//! of its own. A page is built once a second at most, whatever is requested. Probes are answered
//! also to a client that sends too many requests.
//!
//! A connection serves one request, because a client that may keep its connection alive may also
//! hold its slot. All connections are served on one thread; pages are built on others, so that a
//! page that takes long delays no probe.
//!
//! The server answers GET and HEAD of names of this machine only. Access control and TLS are left
//! to a proxy in front of the port.

mod accept;
mod client_rate;
mod config;
mod connections;
mod context;
mod counts;
mod host_header;
mod page;
mod page_cache;
mod respond;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use config::ClientLimits;
use context::ServerContext;
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

pub use config::ServerConfig;
pub use counts::{HttpCounters, HttpCounts, Refusal};
pub use page::{Handler, Page, PagePath};

/// Name of the server's threads, by which their CPU time is known.
const THREAD: &str = "metrics-server";

/// Time at the end for a page that is being built: its builder uses what the agent stops next.
const LAST_PAGE: Duration = Duration::from_millis(500);
/// Threads that build pages: one for each page, so that none waits for another.
const BUILDERS_MAX: usize = 4;

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is in use, not local, or not permitted.
    #[error("cannot listen on {address}: {source}; choose another address or port")]
    Listen {
        /// Requested address.
        address: SocketAddr,
        /// Error of the system call.
        source: io::Error,
    },
    /// The system provides no thread, or no descriptor for the event loop.
    #[error(
        "cannot start the thread that serves {address}: {source}; check the limits of threads and \
         open files"
    )]
    Start {
        /// Requested address.
        address: SocketAddr,
        /// Error of the system call.
        source: io::Error,
    },
}

/// A running server. It ends when it is stopped or dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `address` (port 0 selects any free port) and serves from its own thread.
    ///
    /// # Errors
    /// [`ServerError`], with the next step.
    pub fn start(address: SocketAddr, config: ServerConfig) -> Result<Self, ServerError> {
        Self::start_with_limits(address, config, ClientLimits::default())
    }

    fn start_with_limits(
        address: SocketAddr,
        config: ServerConfig,
        limits: ClientLimits,
    ) -> Result<Self, ServerError> {
        let listen_error = |source| ServerError::Listen { address, source };
        let start_error = |source| ServerError::Start { address, source };
        let listener = TcpListener::bind(address).map_err(listen_error)?;
        let local_address = listener.local_addr().map_err(listen_error)?;
        listener.set_nonblocking(true).map_err(listen_error)?;
        let runtime = new_runtime().map_err(start_error)?;
        let listener = {
            let _guard = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(start_error)?
        };
        let (stop, stopped) = oneshot::channel();
        // Open connections end with the runtime, and the runtime ends with the thread.
        let context = Arc::new(ServerContext::new(config, limits));
        let run = move || {
            runtime.block_on(accept::run(listener, context, stopped));
            runtime.shutdown_timeout(LAST_PAGE);
        };
        let thread = thread::Builder::new().name(THREAD.into());
        let thread = thread.spawn(run).map_err(start_error)?;
        Ok(Self { address: local_address, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the local address, with the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops at once: open connections are closed and the port is free again.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic was reported by the panic hook already
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}

fn new_runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .thread_name(THREAD)
        .max_blocking_threads(BUILDERS_MAX)
        .build()
}
