//! gRPC calls to one server.
//!
//! Messages are passed as bytes, because a sink has to know their size beforehand. Every response
//! becomes a message or a [`CallError`], which tells what the server says from a missing answer.

mod connector;
mod http_layer;

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes};
use http::Uri;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
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

use super::connection::Connection;
use super::endpoint::{Endpoint, USER_AGENT};
use super::error::TransportError;
use super::http::{RESPONSE_BYTES_MAX, parse_retry_after};
use super::responses::ResponseCounts;
use super::text::shorten;
use crate::batch::Failure;
use crate::config::ConfigError;
use connector::Connector;
use http_layer::{CallRecord, HttpLayer, NonGrpcResponse, preserved_retry_delay};

/// Calls to one server. Nothing is connected before the first.
pub(crate) struct Grpc {
    endpoint: Endpoint,
    /// The server's URL without a slash at its end.
    origin: Uri,
    connector: Connector,
    client: Client<Connector, Body>,
}

/// Why a call returned no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// There was no response.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The server returned an error.
    #[error("{code:?}: {text}")]
    Status {
        code: Code,
        /// How long the server asks to be left alone.
        after: Option<Duration>,
        /// One line.
        text: String,
    },
    /// Something that does not speak gRPC answered, such as a proxy.
    #[error("{status} {text}")]
    NotGrpc {
        /// The status of HTTP.
        status: u16,
        /// How long it asks to be left alone.
        after: Option<Duration>,
        /// One line.
        text: String,
    },
}

/// A response message and the bytes that were sent for it.
#[derive(Debug)]
pub(crate) struct CallResponse<A> {
    pub message: A,
    /// Bytes that were sent, headers not counted.
    pub sent_bytes: u64,
}

impl fmt::Debug for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grpc").field("server", &self.endpoint.name).finish_non_exhaustive()
    }
}

impl Grpc {
    /// Checks the configuration and reads the files that it names. Connects to nothing.
    ///
    /// # Errors
    /// What is wrong with the configuration, and what to do.
    pub fn new(config: &Connection) -> Result<Self, ConfigError> {
        let (endpoint, tls) = Endpoint::new(config, b"h2")?;
        let mut connector = Connector::new(endpoint.timeout, endpoint.proxy_for(&endpoint.url)?);
        if let Some(tls) = tls {
            connector.set_tls(tls);
        }
        let origin = without_trailing_slash(endpoint.url.clone());
        Ok(Self { endpoint, origin, client: client(&connector), connector })
    }

    /// Sends messages uncompressed from now on: for those whose large fields are compressed
    /// themselves.
    pub fn without_compression(mut self) -> Self {
        self.endpoint.is_gzip = false;
        self
    }

    /// Calls a method with one message. Repeats the call once if the server rejects our
    /// credentials and their files have changed, or if it does not support gzip.
    pub async fn unary<A: Message + Default + 'static>(
        &mut self,
        path: &'static str,
        message: Bytes,
    ) -> Result<CallResponse<A>, CallError> {
        let timeout = self.endpoint.timeout;
        let first = self.call(path, once(message.clone()), timeout).await;
        match &first {
            Err(error) if self.may_succeed_if_repeated(error) => {
                self.call(path, once(message), timeout).await
            }
            _ => first,
        }
    }

    /// Calls a method with a stream of messages, with a timeout of its own.
    pub async fn client_streaming<A: Message + Default + 'static>(
        &mut self,
        path: &'static str,
        messages: mpsc::Receiver<Bytes>,
        timeout: Duration,
    ) -> Result<CallResponse<A>, CallError> {
        self.call(path, MessageStream(messages), timeout).await
    }

    /// Returns the responses since the last call, by code.
    pub fn take_responses(&mut self) -> ResponseCounts {
        std::mem::take(&mut self.endpoint.responses)
    }

    fn count(&mut self, error: &CallError) {
        match error {
            CallError::Transport(_) => {}
            CallError::Status { code, .. } => self.endpoint.responses.add_code(*code),
            CallError::NotGrpc { status, .. } => self.endpoint.responses.add_status(*status),
        }
    }

    /// Replaces our secrets in what the server says. To be called before the text is shortened,
    /// because part of a secret is not recognized.
    pub fn redact(&self, text: String) -> String {
        self.endpoint.credentials.redact(text)
    }

    fn may_succeed_if_repeated(&mut self, error: &CallError) -> bool {
        let CallError::Status { code, text, .. } = error else { return false };
        match code {
            Code::Unauthenticated | Code::PermissionDenied => self.endpoint.credentials.reload(),
            Code::Unimplemented if self.endpoint.is_gzip && is_about_compression(text) => {
                self.endpoint.is_gzip = false;
                true
            }
            _ => false,
        }
    }

    async fn call<A: Message + Default + 'static>(
        &mut self,
        path: &'static str,
        messages: impl Stream<Item = Bytes> + Send + 'static,
        timeout: Duration,
    ) -> Result<CallResponse<A>, CallError> {
        self.renew_tls();
        let record = Arc::new(CallRecord::default());
        let layer = HttpLayer {
            client: self.client.clone(),
            headers: self.headers(timeout)?,
            record: record.clone(),
        };
        let mut grpc = tonic::client::Grpc::with_origin(layer, self.origin.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(RESPONSE_BYTES_MAX);
        if self.endpoint.is_gzip {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        let path = PathAndQuery::from_static(path);
        let codec = BytesCodec(PhantomData);
        let call = grpc.client_streaming(tonic::Request::new(messages), path, codec);
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(response)) => {
                self.endpoint.responses.add_code(Code::Ok);
                Ok(CallResponse {
                    message: response.into_inner(),
                    sent_bytes: record.sent_bytes.load(Ordering::Relaxed),
                })
            }
            Ok(Err(status)) => {
                let error = self.call_error(&status, &record);
                self.count(&error);
                Err(error)
            }
            Err(_) => {
                self.reconnect();
                Err(TransportError::timeout(&self.endpoint.name, timeout).into())
            }
        }
    }

    fn headers(&mut self, timeout: Duration) -> Result<HeaderMap, TransportError> {
        let mut headers = self.endpoint.credentials.headers()?;
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        let milliseconds = format!("{}m", timeout.as_millis().clamp(1, 99_999_999));
        if let Ok(value) = HeaderValue::try_from(milliseconds) {
            headers.insert(HeaderName::from_static("grpc-timeout"), value);
        }
        Ok(headers)
    }

    /// Connects with new certificates once they are there.
    fn renew_tls(&mut self) {
        if let Some(config) = self.endpoint.changed_tls() {
            self.connector.set_tls(config);
            self.reconnect();
        }
    }

    /// Drops the connection. One that is dead, but not closed, would be used for the next call.
    fn reconnect(&mut self) {
        self.client = client(&self.connector);
    }

    fn call_error(&mut self, status: &Status, record: &CallRecord) -> CallError {
        let server = &self.endpoint.name;
        if let Some(NonGrpcResponse { status, after, text }) = record.not_grpc.get().cloned() {
            return CallError::NotGrpc { status, after, text: shorten(&self.redact(text)) };
        }
        if let Some(source) = std::error::Error::source(status) {
            let error = TransportError::of(server, source);
            self.reconnect();
            return error.into();
        }
        let text = shorten(&self.redact(status.message().to_owned()));
        if status.code() == Code::Unknown && text.contains("missing grpc-status trailer") {
            let text = format!("{server} ended its answer in the middle");
            self.reconnect();
            return TransportError::new(Failure::Unreachable, text).into();
        }
        if !record.has_stated_error.load(Ordering::Relaxed) {
            // What it sent could not be decoded, or had no message.
            let text = format!("the answer of {server} is not of its protocol: {text}");
            return TransportError::new(Failure::Protocol, text).into();
        }
        let metadata = status.metadata();
        let after = preserved_retry_delay(metadata).or_else(|| {
            let value = metadata.get(header::RETRY_AFTER.as_str())?;
            parse_retry_after(value.as_bytes(), SystemTime::now())
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

/// tonic appends the method's path, which begins with a slash, to that of the origin.
fn without_trailing_slash(url: Uri) -> Uri {
    let path = url.path().trim_end_matches('/').to_owned();
    let mut parts = url.clone().into_parts();
    parts.path_and_query = if path.is_empty() { "/".parse().ok() } else { path.parse().ok() };
    Uri::from_parts(parts).unwrap_or(url)
}

fn is_about_compression(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    ["compress", "encoding", "gzip"].iter().any(|word| text.contains(word))
}

/// Messages from a channel.
struct MessageStream(mpsc::Receiver<Bytes>);

impl Stream for MessageStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(cx)
    }
}

/// Sends messages that are bytes already, and decodes responses with prost.
struct BytesCodec<A>(PhantomData<fn() -> A>);

impl<A: Message + Default + 'static> Codec for BytesCodec<A> {
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
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_url_precedes_that_of_the_method() {
        let of = |url: &str| without_trailing_slash(url.parse().unwrap()).to_string();
        assert_eq!(of("http://h:1"), "http://h:1/");
        assert_eq!(of("http://h:1/a/b/"), "http://h:1/a/b");
    }
}
