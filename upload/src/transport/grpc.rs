//! gRPC calls to one server.
//!
//! Messages go in as bytes, because a sink has to know how large they are before. Whatever an answer is, it
//! becomes a message or a [`CallError`], which keeps apart what the server says and that it says nothing.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes};
use http::Uri;
use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::uri::PathAndQuery;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prost::Message;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, CompressionEncoding, EncodeBuf, Encoder};
use tonic::codegen::tokio_stream::{Stream, once};
use tonic::{Code, Status};
use tonic_prost::ProstDecoder;

use super::classify::TransportError;
use super::connection::{Compression, Connection};
use super::connector::Connector;
use super::credentials::Credentials;
use super::http::{AGENT, retry_after};
use super::lane::{Foreign, Lane, Noted, kept_retry_info};
use super::proxy::{Proxies, shown_way};
use super::tls::TlsFiles;
use super::verdict::shorten;
use crate::batch::Failure;
use crate::sinks::StartError;

/// Largest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Calls to one server. Nothing is connected before the first.
pub(crate) struct Grpc {
    origin: Uri,
    shown: String,
    limit: Duration,
    gzip: bool,
    credentials: Credentials,
    tls: Option<TlsFiles>,
    connector: Connector,
    client: Client<Connector, Body>,
}

/// Why a call gave no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The server said nothing.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The server said no.
    #[error("{code:?}: {text}")]
    Status {
        /// Its code.
        code: Code,
        /// How long it asks to be left alone.
        after: Option<Duration>,
        /// One line.
        text: String,
    },
    /// Something that speaks no gRPC answered, such as a proxy.
    #[error("{status} {text}")]
    Foreign {
        /// The status of HTTP.
        status: u16,
        /// How long it asks to be left alone.
        after: Option<Duration>,
        /// One line.
        text: String,
    },
}

/// A message and what it took.
#[derive(Debug)]
pub(crate) struct Called<A> {
    /// The answer.
    pub message: A,
    /// Bytes that left, headers not counted.
    pub sent_bytes: u64,
}

impl fmt::Debug for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grpc").field("server", &self.shown).finish_non_exhaustive()
    }
}

impl Grpc {
    /// Checks the settings and reads the files that they name. Speaks to nobody.
    ///
    /// # Errors
    /// What is wrong with them, and what to do.
    pub fn new(connection: &Connection) -> Result<Self, StartError> {
        let origin = connection.base()?;
        let limit = connection.time_limit();
        let proxies = Proxies::new(connection, |name| std::env::var(name).ok())?;
        let proxy = proxies.on_the_way_to(&origin)?;
        let shown = shown_way(&origin, proxy.as_ref());
        let mut connector = Connector::new(limit, proxy);
        let mut tls = None;
        if origin.scheme_str() == Some("https") {
            let (files, config) = TlsFiles::new(&connection.tls, b"h2")?;
            connector.set_tls(config);
            tls = Some(files);
        }
        Ok(Self {
            shown,
            origin: without_slash(origin),
            limit,
            gzip: connection.compression == Compression::Gzip,
            credentials: Credentials::new(connection)?,
            tls,
            client: client(&connector),
            connector,
        })
    }

    /// Compresses nothing from now on: for messages whose large fields are compressed in themselves.
    pub fn without_compression(mut self) -> Self {
        self.gzip = false;
        self
    }

    /// Calls a method with one message, and once more if the server does not know us but the files say
    /// something new by now, or if it knows no gzip.
    pub async fn unary<A: Message + Default + 'static>(
        &mut self,
        path: &'static str,
        message: Bytes,
    ) -> Result<Called<A>, CallError> {
        let first = self.call(path, once(message.clone()), self.limit).await;
        match &first {
            Err(error) if self.may_help_to_repeat(error) => {
                self.call(path, once(message), self.limit).await
            }
            _ => first,
        }
    }

    /// Calls a method with a stream of messages, within another time limit.
    pub async fn client_streaming<A: Message + Default + 'static>(
        &mut self,
        path: &'static str,
        messages: mpsc::Receiver<Bytes>,
        limit: Duration,
    ) -> Result<Called<A>, CallError> {
        self.call(path, Received(messages), limit).await
    }

    /// Takes our secrets out of what the server says. Before it is shortened: part of one is not found.
    pub fn hide(&self, text: String) -> String {
        self.credentials.hide(text)
    }

    fn may_help_to_repeat(&mut self, error: &CallError) -> bool {
        let CallError::Status { code, text, .. } = error else { return false };
        match code {
            Code::Unauthenticated | Code::PermissionDenied => self.credentials.read_anew(),
            Code::Unimplemented if self.gzip && is_about_compression(text) => {
                self.gzip = false;
                true
            }
            _ => false,
        }
    }

    async fn call<A: Message + Default + 'static>(
        &mut self,
        path: &'static str,
        messages: impl Stream<Item = Bytes> + Send + 'static,
        limit: Duration,
    ) -> Result<Called<A>, CallError> {
        self.follow_files();
        let noted = Arc::new(Noted::default());
        let lane = Lane {
            client: self.client.clone(),
            headers: self.headers(limit)?,
            noted: noted.clone(),
        };
        let mut grpc = tonic::client::Grpc::with_origin(lane, self.origin.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(ANSWER_BYTES_MAX);
        if self.gzip {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        let path = PathAndQuery::from_static(path);
        let codec = AsBytes(PhantomData);
        let call = grpc.client_streaming(tonic::Request::new(messages), path, codec);
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(Called {
                message: response.into_inner(),
                sent_bytes: noted.sent.load(Ordering::Relaxed),
            }),
            Ok(Err(status)) => Err(self.error_of(&status, &noted)),
            Err(_) => {
                self.reconnect();
                Err(TransportError::timeout(&self.shown, limit.as_secs_f64()).into())
            }
        }
    }

    fn headers(&mut self, limit: Duration) -> Result<HeaderMap, TransportError> {
        let mut headers = self.credentials.headers()?;
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let milliseconds = format!("{}m", limit.as_millis().clamp(1, 99_999_999));
        if let Ok(value) = HeaderValue::try_from(milliseconds) {
            headers.insert(HeaderName::from_static("grpc-timeout"), value);
        }
        Ok(headers)
    }

    /// Connects with new certificates once they are there.
    fn follow_files(&mut self) {
        if let Some(config) = self.tls.as_mut().and_then(TlsFiles::changed) {
            self.connector.set_tls(config);
            self.reconnect();
        }
    }

    /// Gives the connection up: one that is dead, but not closed, would take the next call too.
    fn reconnect(&mut self) {
        self.client = client(&self.connector);
    }

    fn error_of(&mut self, status: &Status, noted: &Noted) -> CallError {
        if let Some(Foreign { status, after, text }) = noted.foreign.get().cloned() {
            return CallError::Foreign { status, after, text: shorten(&self.hide(text)) };
        }
        if let Some(source) = std::error::Error::source(status) {
            self.reconnect();
            return TransportError::of(&self.shown, source).into();
        }
        let text = shorten(&self.hide(status.message().to_owned()));
        if status.code() == Code::Unknown && text.contains("missing grpc-status trailer") {
            self.reconnect();
            let text = format!("{} ended its answer in the middle", self.shown);
            return TransportError::new(Failure::Unreachable, text).into();
        }
        let metadata = status.metadata();
        let after = kept_retry_info(metadata).or_else(|| {
            let value = metadata.get(RETRY_AFTER.as_str())?;
            retry_after(value.as_bytes(), SystemTime::now())
        });
        CallError::Status { code: status.code(), after, text }
    }
}

fn client(connector: &Connector) -> Client<Connector, Body> {
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .build(connector.clone())
}

/// The library puts the method's path, which begins with a slash, after that of the address.
fn without_slash(origin: Uri) -> Uri {
    let path = origin.path().trim_end_matches('/').to_owned();
    let mut parts = origin.clone().into_parts();
    parts.path_and_query = if path.is_empty() { "/".parse().ok() } else { path.parse().ok() };
    Uri::from_parts(parts).unwrap_or(origin)
}

fn is_about_compression(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["compress", "encoding", "gzip"].iter().any(|word| text.contains(word))
}

/// Messages from a channel.
struct Received(mpsc::Receiver<Bytes>);

impl Stream for Received {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(cx)
    }
}

/// Messages that are bytes already, answers by prost.
struct AsBytes<A>(PhantomData<fn() -> A>);

impl<A: Message + Default + 'static> Codec for AsBytes<A> {
    type Encode = Bytes;
    type Decode = A;
    type Encoder = BytesEncoder;
    type Decoder = ProstDecoder<A>;

    fn encoder(&mut self) -> BytesEncoder {
        BytesEncoder
    }

    fn decoder(&mut self) -> ProstDecoder<A> {
        ProstDecoder::new(BufferSettings::default())
    }
}

struct BytesEncoder;

impl Encoder for BytesEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_address_comes_before_that_of_the_method() {
        let of = |url: &str| without_slash(url.parse().unwrap()).to_string();
        assert_eq!(of("http://h:1"), "http://h:1/");
        assert_eq!(of("http://h:1/a/b/"), "http://h:1/a/b");
    }
}
