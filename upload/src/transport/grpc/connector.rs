//! Connections for gRPC: TCP, through a proxy if there is one, then TLS.

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

use super::super::connection::display_url;
use super::super::error::TransportError;
use super::super::proxy::display_route;
use crate::batch::Failure;

/// Opens connections to one server.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector,
    proxy: Option<Intercept>,
    tls: Option<TlsConnector>,
}

type ConnectFuture = Pin<Box<dyn Future<Output = Result<Stream, TransportError>> + Send>>;

impl Connector {
    /// `timeout`: of the TCP connection alone. What follows is part of the request's timeout.
    pub fn new(timeout: Duration, proxy: Option<Intercept>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        Self { tcp, proxy, tls: None }
    }

    /// Encrypts connections from now on.
    pub fn set_tls(&mut self, config: ClientConfig) {
        self.tls = Some(TlsConnector::from(Arc::new(config)));
    }

    async fn connect(mut self, url: Uri) -> Result<Stream, TransportError> {
        let url = with_port(url);
        let tcp = self.connect_tcp(&url).await?;
        let Some(tls) = &self.tls else { return Ok(Stream::new(tcp)) };
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|_| {
            TransportError::new(
                Failure::Tls,
                format!("{} has no name to verify", display_url(&url)),
            )
        })?;
        let stream = tls.connect(name, tcp).await;
        stream.map(Stream::new).map_err(|error| TransportError::of(&display_url(&url), &error))
    }

    /// Connects to the server, through a tunnel if there is a proxy.
    async fn connect_tcp(&mut self, url: &Uri) -> Result<TcpStream, TransportError> {
        let Some(proxy) = self.proxy.take() else {
            let tcp = self.tcp.call(url.clone()).await;
            return tcp
                .map(TokioIo::into_inner)
                .map_err(|error| TransportError::of(&display_url(url), &error));
        };
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp.clone());
        if let Some(auth) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(auth.clone());
        }
        tunnel
            .call(url.clone())
            .await
            .map(TokioIo::into_inner)
            .map_err(|error| TransportError::of(&display_route(url, Some(&proxy)), &error))
    }
}

/// Returns the address with its port, which the CONNECT request of a tunnel needs.
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
    type Future = ConnectFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        Box::pin(self.clone().connect(url))
    }
}

/// A TCP connection, with or without TLS.
trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// An open connection.
pub(super) struct Stream(TokioIo<Box<dyn ByteStream>>);

impl Stream {
    fn new(inner: impl ByteStream + 'static) -> Self {
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
mod tests {
    use super::*;

    #[test]
    fn the_default_port_is_that_of_the_scheme() {
        let of = |url: &str| with_port(url.parse().unwrap()).authority().unwrap().to_string();
        assert_eq!(of("http://h/a"), "h:80");
        assert_eq!(of("https://h"), "h:443");
        assert_eq!(of("https://[::1]"), "[::1]:443");
        assert_eq!(of("https://h:7070"), "h:7070");
    }
}
