//! The accept loop: admits connections within the limits and answers one request on each.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time;

use super::page::{Handler, Page};

/// Bytes of a request head: the smallest limit that hyper accepts. Prometheus sends some 300.
const HEAD_BYTES_MAX: usize = 8192;
/// Pause after a failed accept, which means that no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Least time between two warnings about failed accepts.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// ClientLimits for clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientLimits {
    /// Concurrent connections. One beyond the limit replaces the connection that has waited
    /// longest for a request head, and is closed at once if there is none.
    pub connections: usize,
    /// Time until the request head is complete.
    pub head_time: Duration,
    /// Time until the response is sent, request head included.
    pub connection_time: Duration,
}

impl Default for ClientLimits {
    fn default() -> Self {
        let (head_time, connection_time) = (Duration::from_secs(5), Duration::from_secs(15));
        Self { connections: 16, head_time, connection_time }
    }
}

/// An open connection.
struct Connection {
    task: AbortHandle,
    has_head: Arc<AtomicBool>,
}

/// Accepts connections until `stopped` resolves.
pub(super) async fn run(
    listener: TcpListener,
    handler: Arc<Handler>,
    limits: ClientLimits,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut connections = Vec::new();
    let mut last_warning = None;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // A stream that is not admitted is dropped, which closes it.
                if admit(&mut connections, limits.connections) {
                    let has_head = Arc::new(AtomicBool::new(false));
                    let served = serve(stream, handler.clone(), limits, has_head.clone());
                    let task = tokio::spawn(served).abort_handle();
                    connections.push(Connection { task, has_head });
                }
            }
            Err(error) => {
                warn(&error, &mut last_warning);
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Returns whether another connection fits, evicting the one that has waited longest for its
/// request head if necessary: a client that connects and stays silent locks out no probe.
fn admit(connections: &mut Vec<Connection>, connections_max: usize) -> bool {
    connections.retain(|connection| !connection.task.is_finished());
    if connections.len() < connections_max {
        return true;
    }
    let idle = connections.iter().position(|c| !c.has_head.load(Ordering::Relaxed));
    if let Some(index) = idle {
        connections.remove(index).task.abort();
    }
    idle.is_some()
}

fn warn(error: &io::Error, last_warning: &mut Option<Instant>) {
    if last_warning.is_none_or(|at: Instant| at.elapsed() >= WARN_INTERVAL) {
        tracing::warn!("cannot accept a connection to the metrics server: {error}");
        *last_warning = Some(Instant::now());
    }
}

/// Serves one request. Connection errors are the client's and are ignored.
async fn serve(
    stream: TcpStream,
    handler: Arc<Handler>,
    limits: ClientLimits,
    has_head: Arc<AtomicBool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        has_head.store(true, Ordering::Relaxed);
        let response = respond(&request, &*handler);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .half_close(true) // a client may shut down its sending side after the request
        .serve_connection(TokioIo::new(stream), service);
    let _ = time::timeout(limits.connection_time, served).await;
}

fn respond(request: &Request<Incoming>, handler: &Handler) -> Response<Full<Bytes>> {
    let page = match *request.method() {
        Method::GET | Method::HEAD => handler(request.uri().path()).unwrap_or_else(not_found),
        _ => Page::text(405, "Only GET and HEAD are answered here.\n"),
    };
    let mut response = Response::builder()
        .status(page.status)
        .header(CONTENT_TYPE, page.content_type)
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(CACHE_CONTROL, "no-store");
    if page.status == 405 {
        response = response.header(ALLOW, "GET, HEAD");
    }
    response.body(Full::new(Bytes::from(page.body))).unwrap_or_else(|_| {
        // The handler returned a status or a content type that HTTP does not allow.
        let mut invalid = Response::new(Full::default());
        *invalid.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        invalid
    })
}

fn not_found() -> Page {
    Page::text(404, "There is no such page; / lists the pages.\n")
}
