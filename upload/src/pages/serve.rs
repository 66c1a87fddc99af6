//! The server's loop: who gets a seat, how long it may be kept, and one answer for each.

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

use super::{Answering, Page};

/// Bytes of a request's head: the least that hyper can be held to. Prometheus sends some 300.
const HEAD_BYTES_MAX: usize = 8192;
/// How long to wait when the system gives no connection, because none of its files are free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// That is said at most so often.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at once. For one beyond, that which waits longest for a head is closed, or itself if none does.
    pub connections: usize,
    /// Until the head of the request is there.
    pub head_time: Duration,
    /// Until the answer is taken, head included.
    pub connection_time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let (head_time, connection_time) = (Duration::from_secs(5), Duration::from_secs(15));
        Self { connections: 16, head_time, connection_time }
    }
}

/// A connection that is served.
struct Seat {
    task: AbortHandle,
    /// The head of its request is there.
    has_head: Arc<AtomicBool>,
}

/// Takes connections until `stopped` is heard of.
pub(super) async fn serve(
    listener: TcpListener,
    answer: Arc<Answering>,
    bounds: Bounds,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut seats = Vec::new();
    let mut said = None;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // Without a seat it is dropped, which closes it.
                if has_room(&mut seats, bounds.connections) {
                    let has_head = Arc::new(AtomicBool::new(false));
                    let served = connection(stream, answer.clone(), bounds, has_head.clone());
                    seats.push(Seat { task: tokio::spawn(served).abort_handle(), has_head });
                }
            }
            Err(error) => {
                say(&error, &mut said);
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Looks for a free seat. When there is none, that goes which waits longest for the head of its request: who
/// connects and says nothing keeps no probe out.
fn has_room(seats: &mut Vec<Seat>, most: usize) -> bool {
    seats.retain(|seat| !seat.task.is_finished());
    if seats.len() < most {
        return true;
    }
    let idle = seats.iter().position(|seat| !seat.has_head.load(Ordering::Relaxed));
    if let Some(place) = idle {
        seats.remove(place).task.abort();
    }
    idle.is_some()
}

fn say(error: &io::Error, said: &mut Option<Instant>) {
    if said.is_none_or(|said: Instant| said.elapsed() >= SAID_EVERY) {
        tracing::warn!("a connection to our pages was not taken: {error}");
        *said = Some(Instant::now());
    }
}

/// Serves one request. What goes wrong is the client's affair.
async fn connection(
    stream: TcpStream,
    answer: Arc<Answering>,
    bounds: Bounds,
    has_head: Arc<AtomicBool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        has_head.store(true, Ordering::Relaxed);
        let response = respond(&request, &*answer);
        async move { Ok::<_, Infallible>(response) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_time)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .half_close(true) // who has sent its request may say that there is no more
        .serve_connection(TokioIo::new(stream), service);
    let _ = time::timeout(bounds.connection_time, served).await;
}

fn respond(request: &Request<Incoming>, answer: &Answering) -> Response<Full<Bytes>> {
    let page = match *request.method() {
        Method::GET | Method::HEAD => answer(request.uri().path()).unwrap_or_else(not_found),
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
        // Whoever made the page gave a status or a type that HTTP does not have.
        let mut broken = Response::new(Full::default());
        *broken.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        broken
    })
}

fn not_found() -> Page {
    Page::text(404, "There is no such page; / names those that there are.\n")
}
