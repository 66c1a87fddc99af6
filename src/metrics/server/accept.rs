//! The accept loop: admits connections within the limits, and serves one request on each.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, body::Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time;

use super::client_rate::{ClientRates, client_of};
use super::connections::{Connection, Connections};
use super::context::ServerContext;
use super::counts::Refusal;
use super::page_cache::{charge, thread_cpu};
use super::respond::respond;
use crate::limits::TimeShare;

/// Bytes of a request head: the smallest limit that hyper accepts. Prometheus sends some 300.
const HEAD_BYTES_MAX: usize = 8192;
/// Pause after a failed accept, which means that no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause when the CPU share is spent. Then one more connection is accepted: forty a second,
/// so that a probe behind a full queue of the kernel (128 connections) waits for three seconds.
const SHARE_PAUSE_MAX: Duration = Duration::from_millis(25);

/// Accepts connections until `stopped` resolves.
pub(super) async fn run(
    listener: TcpListener,
    context: Arc<ServerContext>,
    stopped: oneshot::Receiver<()>,
) {
    tokio::select! {
        biased;
        _ = stopped => {}
        () = accept_all(listener, context) => {}
    }
}

async fn accept_all(listener: TcpListener, context: Arc<ServerContext>) {
    let limits = context.limits;
    let mut connections = Connections::new(limits.connections);
    let mut rates = ClientRates::new(limits.client_rate, limits.rate, Instant::now());
    let mut cpu_before = thread_cpu();
    loop {
        // All connections are served by this thread.
        let cpu = thread_cpu();
        charge(&context.cpu, cpu.saturating_sub(std::mem::replace(&mut cpu_before, cpu)));
        pause_without_credit(&context).await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                let client = client_of(peer.ip());
                let beyond_rate = rates.count(client, Instant::now());
                admit(stream, client, beyond_rate, &mut connections, &context);
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection to the metrics server: {error}");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Waits while the CPU share is spent. The kernel queues connections meanwhile.
async fn pause_without_credit(context: &ServerContext) {
    let pause = until_credit(&context.cpu);
    if !pause.is_zero() {
        context.counters.add_pause(pause);
        time::sleep(pause).await;
    }
}

fn until_credit(cpu: &Mutex<TimeShare>) -> Duration {
    let mut cpu = cpu.lock().unwrap_or_else(PoisonError::into_inner);
    cpu.until_credit(Instant::now()).min(SHARE_PAUSE_MAX)
}

/// Serves a connection, or drops it, which closes it.
fn admit(
    stream: TcpStream,
    client: IpAddr,
    beyond_rate: Option<Refusal>,
    connections: &mut Connections,
    context: &Arc<ServerContext>,
) {
    let closed = connections.make_space();
    if closed != Some(0) {
        context.counters.count_refusal(Refusal::Connections);
    }
    if closed.is_some() {
        let connection = connections.create(client, beyond_rate.is_some());
        let served = serve(stream, Arc::clone(context), Arc::clone(&connection), beyond_rate);
        connections.add(tokio::spawn(served).abort_handle(), connection);
    }
}

/// Serves one request. Other errors of a connection are the client's and are ignored.
async fn serve(
    stream: TcpStream,
    context: Arc<ServerContext>,
    connection: Arc<Connection>,
    beyond_rate: Option<Refusal>,
) {
    let limits = context.limits;
    if beyond_rate.is_some() {
        delay(&stream, &connection, limits.delay).await;
    }
    // Held until the response is sent or given up.
    let page_in_flight = Mutex::new(None);
    let (context, connection, page_in_flight) = (&*context, &*connection, &page_in_flight);
    let answer = move |request: Request<Incoming>| async move {
        connection.set_answering();
        let answer = respond(&request, context, connection, beyond_rate).await;
        *page_in_flight.lock().unwrap_or_else(PoisonError::into_inner) = answer.page_in_flight;
        Ok::<_, Infallible>(answer.response)
    };
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false)
        .half_close(true) // a client may shut down its sending side after the request
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    let refusal = match time::timeout(limits.connection_time, served).await {
        Ok(Err(error)) if error.is_timeout() => Refusal::Timeout,
        Ok(Err(error)) if error.is_parse() => Refusal::Malformed,
        Ok(_) => return,
        Err(_) => Refusal::Timeout,
    };
    context.counters.count_refusal(refusal);
}

/// Waits before the request of a connection beyond its rate is read. A flood may fill all places
/// meanwhile, so the request of a probe is recognized by its first bytes and gives way last.
async fn delay(stream: &TcpStream, connection: &Connection, delay: Duration) {
    let until = time::Instant::now() + delay;
    let mut start = [0; 12];
    if let Ok(Ok(length)) = time::timeout_at(until, stream.peek(&mut start)).await {
        let is_probe = ["GET /healthz", "GET /readyz", "HEAD /health", "HEAD /readyz"]
            .iter()
            .any(|probe| start[..length].starts_with(probe.as_bytes()));
        if is_probe {
            connection.set_delayed_probe();
        }
    }
    time::sleep_until(until).await;
}
