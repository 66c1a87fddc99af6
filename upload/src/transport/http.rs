//! HTTP requests to one server.

use std::fmt;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, Uri};
use hyper::body::{Body, Frame, SizeHint};
use hyper_util::client::proxy::matcher::Intercept;
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use tokio::sync::mpsc;

use super::connection::{Connection, display_url};
use super::endpoint::{Endpoint, USER_AGENT};
use super::error::TransportError;
use super::reply::{Reply, essence};
use super::responses::ResponseCounts;
use super::status::RETRY_AFTER_MAX;
use super::tls::unused_client_config;
use crate::batch::Failure;
use crate::config::ConfigError;

/// Largest response body that is read, in bytes. Source: OTLP specification, "OTLP/HTTP Response".
pub(super) const RESPONSE_BYTES_MAX: usize = 4 << 20;

/// Requests to one server. Nothing is connected before the first.
pub(crate) struct Http {
    endpoint: Endpoint,
    client: reqwest::Client,
    /// For addresses that the server gives out, which are not its own.
    foreign_client: Option<reqwest::Client>,
}

/// A request body of known length that is streamed.
pub(crate) struct StreamedBody {
    /// Bytes in all.
    pub length: u64,
    /// The chunks. If they end early, the request fails.
    pub chunks: mpsc::Receiver<Bytes>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("server", &self.endpoint.name).finish_non_exhaustive()
    }
}

impl Http {
    /// Checks the configuration and reads the files that it names. Connects to nothing.
    ///
    /// # Errors
    /// What is wrong with the configuration, and what to do.
    pub fn new(config: &Connection) -> Result<Self, ConfigError> {
        let (endpoint, tls) = Endpoint::new(config, b"http/1.1")?;
        let client = client(tls, endpoint.proxy_for(&endpoint.url)?)?;
        Ok(Self { endpoint, client, foreign_client: None })
    }

    /// Posts a body, compressed if so configured. Repeats the request once if the server rejects
    /// our credentials and their files have changed.
    pub async fn post(
        &mut self,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Reply, TransportError> {
        let body = if self.endpoint.is_gzip { gzip(&body) } else { body };
        let first = self.post_once(path, content_type, body.clone()).await?;
        match first.status {
            401 | 403 if self.endpoint.credentials.reload() => {
                self.post_once(path, content_type, body).await
            }
            _ => Ok(first),
        }
    }

    async fn post_once(
        &mut self,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Reply, TransportError> {
        let mut headers = self.headers(content_type)?;
        if self.endpoint.is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let length = body.len() as u64;
        self.send(path, headers, body.into(), length, self.endpoint.timeout).await
    }

    /// Posts a streamed body as it is, with a timeout of its own.
    pub async fn post_stream(
        &mut self,
        path: &str,
        content_type: &'static str,
        body: StreamedBody,
        timeout: Duration,
    ) -> Result<Reply, TransportError> {
        let headers = self.headers(content_type)?;
        let length = body.length;
        self.send(path, headers, reqwest::Body::wrap(body), length, timeout).await
    }

    fn headers(&mut self, content_type: &'static str) -> Result<HeaderMap, TransportError> {
        let mut headers = self.endpoint.credentials.headers()?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(headers)
    }

    async fn send(
        &mut self,
        path: &str,
        headers: HeaderMap,
        body: reqwest::Body,
        length: u64,
        timeout: Duration,
    ) -> Result<Reply, TransportError> {
        self.renew_tls()?;
        let url = self.endpoint.url.to_string();
        let url = format!("{}{path}", url.trim_end_matches('/'));
        let request = self.client.post(url).headers(headers).body(body);
        let mut reply = exchange(request, &self.endpoint.name, length, timeout).await?;
        self.endpoint.responses.add_status(reply.status);
        if !reply.is_success() || !reply.is_protobuf() {
            let text = String::from_utf8_lossy(&reply.body);
            let redacted = self.redact(text.to_string());
            if redacted != text {
                reply.body = redacted.into();
            }
        }
        Ok(reply)
    }

    /// Returns the responses since the last call, by code.
    pub fn take_responses(&mut self) -> ResponseCounts {
        std::mem::take(&mut self.endpoint.responses)
    }

    /// Replaces our secrets in what the server says.
    pub fn redact(&self, text: String) -> String {
        self.endpoint.credentials.redact(text)
    }

    /// Puts a body to an address that the server has given us. The address carries its own
    /// permission, so no credentials of ours are sent there, and it is never shown.
    pub async fn put_to_foreign(
        &mut self,
        url: &str,
        body: StreamedBody,
        timeout: Duration,
    ) -> Result<Reply, TransportError> {
        let invalid =
            || TransportError::new(Failure::Protocol, "the address for the upload is invalid");
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(invalid());
        }
        let client = self.client_for_foreign(&uri)?;
        let length = body.length;
        let request = client.request(Method::PUT, url).body(reqwest::Body::wrap(body));
        exchange(request, &display_url(&uri), length, timeout).await
    }

    fn client_for_foreign(&mut self, url: &Uri) -> Result<reqwest::Client, TransportError> {
        if let Some(client) = &self.foreign_client {
            return Ok(client.clone());
        }
        let endpoint = &self.endpoint;
        let client = endpoint
            .foreign_tls()
            .and_then(|tls| client(Some(tls), endpoint.proxy_for(url)?))
            .map_err(|error| TransportError::new(Failure::Tls, error.to_string()))?;
        self.foreign_client = Some(client.clone());
        Ok(client)
    }

    /// Connects with new certificates once they are there.
    fn renew_tls(&mut self) -> Result<(), TransportError> {
        let Some(tls) = self.endpoint.changed_tls() else { return Ok(()) };
        let proxy = self.endpoint.proxy_for(&self.endpoint.url);
        self.client = proxy
            .and_then(|proxy| client(Some(tls), proxy))
            .map_err(|error| TransportError::new(Failure::Tls, error.to_string()))?;
        Ok(())
    }
}

fn client(
    tls: Option<ClientConfig>,
    proxy: Option<Intercept>,
) -> Result<reqwest::Client, ConfigError> {
    client_builder(tls, proxy)?.build().map_err(unusable)
}

/// Returns a builder of clients that follow no redirect.
pub(super) fn client_builder(
    tls: Option<ClientConfig>,
    proxy: Option<Intercept>,
) -> Result<reqwest::ClientBuilder, ConfigError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .http1_only()
        .no_proxy();
    // Without a configuration of ours reqwest looks for a process-wide default, which is not set.
    builder = builder.tls_backend_preconfigured(match tls {
        Some(config) => config,
        None => unused_client_config()?,
    });
    if let Some(proxy) = proxy {
        let all = reqwest::Proxy::all(proxy.uri().to_string()).map_err(unusable)?;
        builder = builder.proxy(match proxy.basic_auth() {
            Some(auth) => all.custom_http_auth(auth.clone()),
            None => all,
        });
    }
    Ok(builder)
}

pub(super) fn unusable(error: reqwest::Error) -> ConfigError {
    ConfigError::Invalid(format!("cannot set up HTTP: {}", error.without_url()))
}

/// Sends a request and reads the reply.
async fn exchange(
    request: reqwest::RequestBuilder,
    server: &str,
    sent_bytes: u64,
    timeout: Duration,
) -> Result<Reply, TransportError> {
    let exchange = async {
        let mut response = request.send().await?;
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER);
        let retry_after = after.and_then(|v| parse_retry_after(v.as_bytes(), SystemTime::now()));
        let content_type = response.headers().get(CONTENT_TYPE);
        let content_type = content_type.map_or_else(String::new, |v| essence(v.as_bytes()));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            let space = RESPONSE_BYTES_MAX - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(space)]);
            if chunk.len() >= space {
                break;
            }
        }
        Ok(Reply { status, content_type, retry_after, body: body.into(), sent_bytes })
    };
    let Ok(result) = tokio::time::timeout(timeout, exchange).await else {
        return Err(TransportError::timeout(server, timeout));
    };
    result.map_err(|error: reqwest::Error| TransportError::of(server, &error.without_url()))
}

fn gzip(bytes: &Bytes) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    match encoder.write_all(bytes).and_then(|()| encoder.finish()) {
        Ok(compressed) => compressed.into(),
        // Writes to memory do not fail.
        Err(_) => Bytes::new(),
    }
}

/// Parses Retry-After: seconds or a date.
///
/// Source: RFC 9110, 10.2.3.
pub(super) fn parse_retry_after(value: &[u8], now: SystemTime) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let after = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        // A date that has passed asks for no delay.
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(after.min(RETRY_AFTER_MAX))
}

impl Body for StreamedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let chunk = std::task::ready!(self.chunks.poll_recv(cx));
        self.length -= chunk.as_ref().map_or(0, Bytes::len).min(self.length as usize) as u64;
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let of = |text: &str| parse_retry_after(text.as_bytes(), now);
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of(" 0 "), Some(Duration::ZERO));
        assert_eq!(of("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(of("Sunday, 06-Nov-94 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(of("Sat, 05 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(of("99999999999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(of("Sat, 06 Nov 2094 08:49:37 GMT"), Some(RETRY_AFTER_MAX));
        for nonsense in ["", "-1", "1.5", "soon", "99999999999999999999999"] {
            assert_eq!(of(nonsense), None, "{nonsense:?}");
        }
    }
}
