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
use reqwest::redirect::Policy;
use rustls::ClientConfig;
use tokio::sync::mpsc;

use super::classify::TransportError;
use super::connection::{Compression, Connection, shown};
use super::credentials::Credentials;
use super::proxy::{Proxies, shown_way};
use super::tls::{TlsFiles, trust_of_nobody, trust_of_others};
use crate::batch::Failure;
use crate::sinks::StartError;

/// How we introduce ourselves.
pub(super) const AGENT: &str = concat!("everytick/", env!("CARGO_PKG_VERSION"));
/// Largest answer, in bytes. Source: OTLP specification, "OTLP/HTTP Response".
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Longest wait that a server can ask for.
pub(super) const AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// Requests to one server. Nothing is connected before the first.
pub(crate) struct Http {
    base: String,
    shown: String,
    limit: Duration,
    gzip: bool,
    credentials: Credentials,
    tls: Option<TlsFiles>,
    proxies: Proxies,
    client: reqwest::Client,
    /// For addresses that the server gives out, which are not its own.
    others: Option<reqwest::Client>,
    connection: Connection,
}

/// An answer, whatever it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The status.
    pub status: u16,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
    /// What follows; our secrets are taken out unless it is a success.
    pub body: Bytes,
    /// Bytes that left, headers not counted.
    pub sent_bytes: u64,
}

/// A body of known length that comes in pieces.
pub(crate) struct PutBody {
    /// Bytes in all.
    pub length: u64,
    /// The pieces. If they end early, the request fails.
    pub pieces: mpsc::Receiver<Bytes>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("server", &self.shown).finish_non_exhaustive()
    }
}

impl Http {
    /// Checks the settings and reads the files that they name. Speaks to nobody.
    ///
    /// # Errors
    /// What is wrong with them, and what to do.
    pub fn new(connection: &Connection) -> Result<Self, StartError> {
        let base = connection.base()?;
        let limit = connection.time_limit();
        let proxies = Proxies::new(connection, |name| std::env::var(name).ok())?;
        let mut tls = None;
        let mut config = None;
        if base.scheme_str() == Some("https") {
            let (files, made) = TlsFiles::new(&connection.tls, b"http/1.1")?;
            (tls, config) = (Some(files), Some(made));
        }
        Ok(Self {
            client: client(config, &proxies, &base)?,
            shown: shown_way(&base, proxies.on_the_way_to(&base)?.as_ref()),
            base: base.to_string().trim_end_matches('/').to_owned(),
            limit,
            gzip: connection.compression == Compression::Gzip,
            credentials: Credentials::new(connection)?,
            tls,
            proxies,
            others: None,
            connection: connection.clone(),
        })
    }

    /// Posts a body, compressed if the settings say so, and once more if the server does not know us but the
    /// files say something new by now.
    pub async fn post(
        &mut self,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Reply, TransportError> {
        let body = if self.gzip { gzip(&body) } else { body };
        let first = self.post_once(path, content_type, body.clone()).await?;
        match first.status {
            401 | 403 if self.credentials.read_anew() => {
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
        let mut headers = self.credentials.headers()?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if self.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let length = body.len() as u64;
        self.send(path, headers, body.into(), length, self.limit).await
    }

    /// Posts a body in pieces as it is, within another time limit.
    pub async fn post_pieces(
        &mut self,
        path: &str,
        content_type: &'static str,
        body: PutBody,
        limit: Duration,
    ) -> Result<Reply, TransportError> {
        let mut headers = self.credentials.headers()?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let length = body.length;
        self.send(path, headers, reqwest::Body::wrap(body), length, limit).await
    }

    async fn send(
        &mut self,
        path: &str,
        headers: HeaderMap,
        body: reqwest::Body,
        length: u64,
        limit: Duration,
    ) -> Result<Reply, TransportError> {
        self.follow_files()?;
        let request = self.client.post(format!("{}{path}", self.base)).headers(headers).body(body);
        let mut reply = answer(request, &self.shown, length, limit).await?;
        if !(200..300).contains(&reply.status) {
            let text = String::from_utf8_lossy(&reply.body);
            let hidden = self.hide(text.to_string());
            if hidden != text {
                reply.body = hidden.into();
            }
        }
        Ok(reply)
    }

    /// Takes our secrets out of what the server says.
    pub fn hide(&self, text: String) -> String {
        self.credentials.hide(text)
    }

    /// Puts a body to an address that the server has given us. It bears its own permission, so that nothing of
    /// ours is sent there, and it is never shown.
    pub async fn put_elsewhere(
        &mut self,
        url: &str,
        body: PutBody,
        limit: Duration,
    ) -> Result<Reply, TransportError> {
        let invalid = || TransportError::new(Failure::Protocol, "the upload's address is none");
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(invalid());
        }
        let client = self.client_for_others(&uri)?;
        let length = body.length;
        let request = client.request(Method::PUT, url).body(reqwest::Body::wrap(body));
        answer(request, &shown(&uri), length, limit).await
    }

    fn client_for_others(&mut self, url: &Uri) -> Result<reqwest::Client, TransportError> {
        if let Some(client) = &self.others {
            return Ok(client.clone());
        }
        let client = trust_of_others(&self.connection.tls)
            .and_then(|config| client(Some(config), &self.proxies, url))
            .map_err(|error| TransportError::new(Failure::Tls, error.to_string()))?;
        self.others = Some(client.clone());
        Ok(client)
    }

    /// Connects with new certificates once they are there.
    fn follow_files(&mut self) -> Result<(), TransportError> {
        let Some(config) = self.tls.as_mut().and_then(TlsFiles::changed) else { return Ok(()) };
        let made = self.base.parse().map_err(|_| StartError::Settings("no address".into()));
        self.client = made
            .and_then(|base| client(Some(config), &self.proxies, &base))
            .map_err(|error| TransportError::new(Failure::Tls, error.to_string()))?;
        Ok(())
    }
}

fn client(
    tls: Option<ClientConfig>,
    proxies: &Proxies,
    url: &Uri,
) -> Result<reqwest::Client, StartError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(AGENT)
        .redirect(Policy::none())
        .http1_only()
        .no_proxy();
    // Without one of ours the library would look for a default that nobody has set.
    builder = builder.tls_backend_preconfigured(match tls {
        Some(config) => config,
        None => trust_of_nobody()?,
    });
    if let Some(proxy) = proxies.on_the_way_to(url)? {
        let all = reqwest::Proxy::all(proxy.uri().to_string()).map_err(unusable)?;
        builder = builder.proxy(match proxy.basic_auth() {
            Some(auth) => all.custom_http_auth(auth.clone()),
            None => all,
        });
    }
    builder.build().map_err(unusable)
}

fn unusable(error: reqwest::Error) -> StartError {
    StartError::Settings(format!("cannot set up HTTP: {}", error.without_url()))
}

async fn answer(
    request: reqwest::RequestBuilder,
    server: &str,
    sent_bytes: u64,
    limit: Duration,
) -> Result<Reply, TransportError> {
    let exchange = async {
        let mut response = request.send().await?;
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER);
        let retry_after = after.and_then(|v| retry_after(v.as_bytes(), SystemTime::now()));
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await? {
            let room = ANSWER_BYTES_MAX - body.len();
            body.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() >= room {
                break;
            }
        }
        Ok(Reply { status, retry_after, body: body.into(), sent_bytes })
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(result) => {
            result.map_err(|e: reqwest::Error| TransportError::of(server, &e.without_url()))
        }
        Err(_) => Err(TransportError::timeout(server, limit.as_secs_f64())),
    }
}

fn gzip(bytes: &Bytes) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    match encoder.write_all(bytes).and_then(|()| encoder.finish()) {
        Ok(compressed) => compressed.into(),
        // Memory takes every write.
        Err(_) => Bytes::new(),
    }
}

/// Reads Retry-After: seconds or a date.
///
/// Source: RFC 9110, 10.2.3.
pub(super) fn retry_after(value: &[u8], now: SystemTime) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let after = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        // A date that has passed asks for nothing.
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(after.min(AFTER_MAX))
}

impl Body for PutBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = std::task::ready!(self.pieces.poll_recv(cx));
        self.length -= piece.as_ref().map_or(0, Bytes::len).min(self.length as usize) as u64;
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let of = |text: &str| retry_after(text.as_bytes(), now);
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of(" 0 "), Some(Duration::ZERO));
        assert_eq!(of("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(of("Sunday, 06-Nov-94 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(of("Sat, 05 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(of("99999999999999"), Some(AFTER_MAX));
        assert_eq!(of("Sat, 06 Nov 2094 08:49:37 GMT"), Some(AFTER_MAX));
        for nonsense in ["", "-1", "1.5", "soon", "99999999999999999999999"] {
            assert_eq!(of(nonsense), None, "{nonsense:?}");
        }
    }
}
