//! A scripted server that records requests: HTTP/1.1 and gRPC on one port.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;

/// A request that the server received.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    pub path: String,
    pub headers: HeaderMap,
    /// Decompressed, without the gRPC frame.
    pub body: Bytes,
    pub is_grpc: bool,
}

/// How the server replies to one request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The default reply of the server.
    Default,
    /// A gRPC message, or the body of a 200.
    Message(Vec<u8>),
    /// HTTP status, headers and body.
    Http(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// gRPC status, text, details and headers.
    Grpc(i32, &'static str, Option<Vec<u8>>, Vec<(&'static str, String)>),
    /// Never replies.
    Hang,
    /// Closes the connection after reading the request.
    Disconnect,
    /// Closes the connection in the middle of the response.
    Truncate,
}

pub fn http(status: u16) -> Reply {
    Reply::Http(status, vec![], b"scripted error".to_vec())
}

pub fn grpc(code: i32) -> Reply {
    Reply::Grpc(code, "scripted error", None, vec![])
}

type DefaultReply = dyn Fn(&RecordedRequest) -> Reply + Send + Sync;

struct Shared {
    requests: Mutex<Vec<RecordedRequest>>,
    script: Mutex<VecDeque<Reply>>,
    default_reply: Box<DefaultReply>,
    connections: Mutex<u64>,
}

/// The server, shut down on drop.
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Replies to each request with an empty message, which every protocol reads as success.
    pub async fn start(script: Vec<Reply>) -> Self {
        Self::with(script, None, |_| Reply::Message(vec![])).await
    }

    pub async fn with_tls(script: Vec<Reply>, tls: ServerConfig) -> Self {
        Self::with(script, Some(tls), |_| Reply::Message(vec![])).await
    }

    /// Uses `default_reply` for each request after the end of the script.
    pub async fn with(
        script: Vec<Reply>,
        tls: Option<ServerConfig>,
        default_reply: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::at("127.0.0.1:0", script, tls, default_reply).await
    }

    /// Listens on a given port.
    pub async fn on(port: u16, script: Vec<Reply>) -> Self {
        Self::at(&format!("127.0.0.1:{port}"), script, None, |_| Reply::Message(vec![])).await
    }

    async fn at(
        address: &str,
        script: Vec<Reply>,
        tls: Option<ServerConfig>,
        default_reply: impl Fn(&RecordedRequest) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            script: Mutex::new(script.into()),
            default_reply: Box::new(default_reply),
            connections: Mutex::new(0),
        });
        let scheme = if tls.is_some() { "https" } else { "http" };
        let acceptor = tls.map(|tls| TlsAcceptor::from(Arc::new(tls)));
        let task = tokio::spawn(accept(listener, acceptor, shared.clone()));
        Self { address, scheme, shared, task }
    }

    /// Replies so to the next requests.
    pub fn script(&self, replies: Vec<Reply>) {
        *self.shared.script.lock().unwrap() = replies.into();
    }

    pub fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the requests received so far.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Returns the bodies of the requests to a path.
    pub fn bodies(&self, path: &str) -> Vec<Bytes> {
        self.requests()
            .into_iter()
            .filter(|request| request.path == path)
            .map(|request| request.body)
            .collect()
    }

    /// Returns the number of accepted connections.
    pub fn connections(&self) -> u64 {
        *self.shared.connections.lock().unwrap()
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    // Open connections end with the server.
    let mut open = tokio::task::JoinSet::new();
    loop {
        let Ok((tcp, _)) = listener.accept().await else { return };
        *shared.connections.lock().unwrap() += 1;
        let (tls, shared) = (tls.clone(), shared.clone());
        open.spawn(async move {
            match tls {
                None => serve(tcp, shared).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(tcp).await {
                        serve(stream, shared).await;
                    }
                }
            }
        });
    }
}

async fn serve<S>(stream: S, shared: Arc<Shared>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let disconnect = Arc::new(Notify::new());
    let handler = {
        let disconnect = disconnect.clone();
        service_fn(move |request| answer(request, shared.clone(), disconnect.clone()))
    };
    let builder = Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), handler);
    tokio::select! {
        _ = connection => {}
        () = disconnect.notified() => {}
    }
}

type Body = StreamBody<Frames>;

/// Frames of a response body.
pub struct Frames(mpsc::Receiver<Result<Frame<Bytes>, Infallible>>);

impl tonic::codegen::tokio_stream::Stream for Frames {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
    disconnect: Arc<Notify>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(plain(400, vec![], vec![]).await) };
    let recorded = RecordedRequest::new(&parts, body.to_bytes());
    let is_grpc = recorded.is_grpc;
    let next = shared.script.lock().unwrap().pop_front().unwrap_or(Reply::Default);
    let reply = match next {
        Reply::Default => (shared.default_reply)(&recorded),
        other => other,
    };
    shared.requests.lock().unwrap().push(recorded);
    Ok(match reply {
        Reply::Default => unreachable!("the default reply is a real one"),
        Reply::Message(message) if is_grpc => grpc_message(message).await,
        Reply::Message(message) => {
            let content_type = ("content-type", "application/x-protobuf".to_owned());
            plain(200, vec![content_type], message).await
        }
        Reply::Http(status, headers, body) => plain(status, headers, body).await,
        Reply::Grpc(code, text, details, headers) => {
            grpc_status(code, text, details, headers).await
        }
        Reply::Hang => std::future::pending().await,
        Reply::Disconnect => {
            disconnect.notify_one();
            std::future::pending().await
        }
        Reply::Truncate => truncated(is_grpc, disconnect).await,
    })
}

impl RecordedRequest {
    fn new(parts: &http::request::Parts, body: Bytes) -> Self {
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let is_grpc = header("content-type").is_some_and(|t| t.starts_with("application/grpc"));
        let body = match (is_grpc, header("content-encoding")) {
            (true, _) => frames(&body),
            (false, Some("gzip")) => unzip(&body),
            (false, _) => body,
        };
        let path = parts.uri.path().to_owned();
        Self { path, headers: parts.headers.clone(), body, is_grpc }
    }
}

/// Concatenates the messages of a gRPC body, each decompressed.
fn frames(mut body: &[u8]) -> Bytes {
    let mut out = Vec::new();
    while body.len() >= 5 {
        let length = u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize;
        let message = Bytes::copy_from_slice(&body[5..5 + length]);
        out.extend_from_slice(&if body[0] == 1 { unzip(&message) } else { message });
        body = &body[5 + length..];
    }
    out.into()
}

fn unzip(bytes: &[u8]) -> Bytes {
    let mut out = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(bytes), &mut out).unwrap();
    out.into()
}

fn body_channel(capacity: usize) -> (mpsc::Sender<Result<Frame<Bytes>, Infallible>>, Body) {
    let (sender, receiver) = mpsc::channel(capacity);
    (sender, StreamBody::new(Frames(receiver)))
}

fn with_headers(
    mut response: Response<Body>,
    headers: Vec<(&'static str, String)>,
) -> Response<Body> {
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
    }
    response
}

async fn plain(status: u16, headers: Vec<(&'static str, String)>, body: Vec<u8>) -> Response<Body> {
    let (sender, stream) = body_channel(1);
    sender.send(Ok(Frame::data(body.into()))).await.unwrap();
    let response = Response::builder().status(status).body(stream).unwrap();
    with_headers(response, headers)
}

fn grpc_response(body: Body) -> Response<Body> {
    Response::builder().header("content-type", "application/grpc").body(body).unwrap()
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    frame.into()
}

async fn grpc_message(message: Vec<u8>) -> Response<Body> {
    let (sender, stream) = body_channel(2);
    sender.send(Ok(Frame::data(framed(&message)))).await.unwrap();
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    sender.send(Ok(Frame::trailers(trailers))).await.unwrap();
    grpc_response(stream)
}

async fn grpc_status(
    code: i32,
    text: &str,
    details: Option<Vec<u8>>,
    mut headers: Vec<(&'static str, String)>,
) -> Response<Body> {
    use base64::Engine;
    let (_, stream) = body_channel(1);
    headers.push(("grpc-status", code.to_string()));
    headers.push(("grpc-message", text.replace(' ', "%20")));
    if let Some(details) = details {
        let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(details);
        headers.push(("grpc-status-details-bin", text));
    }
    with_headers(grpc_response(stream), headers)
}

/// Starts a response and closes the connection 50 ms later.
async fn truncated(is_grpc: bool, disconnect: Arc<Notify>) -> Response<Body> {
    let (sender, stream) = body_channel(1);
    sender.send(Ok(Frame::data(Bytes::from_static(&[0, 0, 0, 1, 0, 7])))).await.unwrap();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        disconnect.notify_one();
        drop(sender);
    });
    if is_grpc {
        return grpc_response(stream);
    }
    Response::builder().header("content-length", "1000").body(stream).unwrap()
}
