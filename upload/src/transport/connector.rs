//! Connections for gRPC: TCP, through a proxy where there is one, then TLS.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower_service::Service;

use super::classify::TransportError;
use super::connection::shown;
use super::proxy::shown_way;
use crate::batch::Failure;

/// Opens connections to one server.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    proxy: Option<Intercept>,
    tls: Option<TlsConnector>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Stream, TransportError>> + Send>>;

impl Connector {
    /// `limit`: for the TCP connection alone; what comes after is part of the request's time.
    pub fn new(limit: Duration, proxy: Option<Intercept>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(limit));
        Self { tcp, proxy, tls: None }
    }

    /// Encrypts connections that are opened from now on.
    pub fn set_tls(&mut self, config: ClientConfig) {
        self.tls = Some(TlsConnector::from(Arc::new(config)));
    }

    async fn open(mut self, url: Uri) -> Result<Stream, TransportError> {
        let url = with_port(url);
        let tcp = self.reach(&url).await?;
        let Some(tls) = &self.tls else { return Ok(Stream::new(tcp)) };
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|_| {
            TransportError::new(Failure::Tls, format!("{} has no name to check", shown(&url)))
        })?;
        let stream = tls.connect(name, tcp).await;
        stream.map(Stream::new).map_err(|error| TransportError::of(&shown(&url), &error))
    }

    /// Connects to the server, or through the proxy to the server.
    async fn reach(&mut self, url: &Uri) -> Result<TcpStream, TransportError> {
        let Some(proxy) = self.proxy.take() else {
            let tcp = self.tcp.call(url.clone()).await;
            return tcp
                .map(TokioIo::into_inner)
                .map_err(|error| TransportError::of(&shown(url), &error));
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp.clone());
        if let Some(auth) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(auth.clone());
        }
        tunnel
            .call(url.clone())
            .await
            .map(TokioIo::into_inner)
            .map_err(|error| TransportError::of(&shown_way(url, Some(&proxy)), &error))
    }
}

/// The address with its port, which proxies must be told.
fn with_port(url: Uri) -> Uri {
    if url.port().is_some() {
        return url;
    }
    let port = if url.scheme_str() == Some("https") { 443 } else { 80 };
    let authority = format!("{}:{port}", url.host().unwrap_or_default());
    let mut parts = url.clone().into_parts();
    parts.authority = authority.parse().ok();
    Uri::from_parts(parts).unwrap_or(url)
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = TransportError;
    type Future = Opening;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        Box::pin(self.clone().open(url))
    }
}

/// What tokio reads from and writes to.
trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// An open connection, encrypted or not.
pub(super) struct Stream(TokioIo<Box<dyn Both>>);

impl Stream {
    fn new(inner: impl Both + 'static) -> Self {
        Self(TokioIo::new(Box::new(inner)))
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().negotiated_h2()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_those_of_the_scheme() {
        let of = |url: &str| with_port(url.parse().unwrap()).authority().unwrap().to_string();
        assert_eq!(of("http://h/a"), "h:80");
        assert_eq!(of("https://h"), "h:443");
        assert_eq!(of("https://[::1]"), "[::1]:443");
        assert_eq!(of("https://h:7070"), "h:7070");
    }
}
