//! Downloads of files from one server, within limits of time and bytes.
//!
//! The server is not trusted: it may not answer, redirect for ever, or send bytes without end.

use std::fmt;
use std::time::Duration;

use reqwest::Response;
use reqwest::redirect::{Attempt, Policy};
use tokio::time::timeout;

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::error::TransportError;
use super::http::{client_builder, unusable};
use crate::batch::Failure;
use crate::config::ConfigError;

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 5;
/// Bytes of an answer that is not used, and the time to read them: then the connection serves the
/// next request.
const DRAINED_BYTES: u64 = 64 << 10;
const DRAIN_MAX: Duration = Duration::from_millis(500);

/// What one download may take.
#[derive(Clone, Copy, Debug)]
pub struct DownloadLimits {
    /// Until the server has accepted the connection.
    pub connect: Duration,
    /// From the request to the head of the answer: a server may unpack the file first.
    pub answer: Duration,
    /// Between two pieces of the answer.
    pub pause: Duration,
    /// The whole download.
    pub total: Duration,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// Why a file was not downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadFailure {
    /// The server does not have it (404).
    NotFound,
    /// Another status of HTTP than success.
    Status(u16),
    /// Too many redirects, or one that leaves TLS.
    Redirects,
    /// It has more bytes than it may.
    TooLarge,
    /// The server did not answer, or stopped sending.
    TimedOut,
    /// The connection was closed in the middle.
    EndedEarly,
    /// The certificate of the server is not trusted.
    Tls,
    /// No connection to the server.
    Unreachable,
    /// The receiver did not take a piece.
    NotTaken,
}

/// A download that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct DownloadError {
    /// Why.
    pub failure: DownloadFailure,
    text: String,
}

/// Downloads files from one server. Nothing is connected before the first.
pub struct DownloadClient {
    /// The server and the proxy in front of it, without secrets.
    name: String,
    /// Address below which files are.
    url: String,
    client: reqwest::Client,
    limits: DownloadLimits,
}

impl fmt::Debug for DownloadClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DownloadClient").field("server", &self.name).finish_non_exhaustive()
    }
}

impl DownloadClient {
    /// Returns a client of the server at an `http://` or `https://` address. Certificates are those
    /// that the system trusts, the proxy is that of the environment.
    ///
    /// # Errors
    /// What is wrong with the address, the proxy or the certificates, and what to do.
    pub fn new(url: &str, limits: DownloadLimits) -> Result<Self, ConfigError> {
        let config = Connection { url: url.to_owned(), ..Connection::default() };
        let (endpoint, _) = Endpoint::new(&config, b"http/1.1")?;
        // The server may redirect to another one, by TLS, too.
        let tls = endpoint.foreign_tls()?;
        let builder = client_builder(Some(tls), endpoint.proxy_for(&endpoint.url)?)?
            .redirect(Policy::custom(follow))
            .connect_timeout(limits.connect);
        let client = builder.build().map_err(unusable)?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { name: endpoint.name, url, client, limits })
    }

    /// Gets a file. `take`: receives its pieces in order, and ends the download by returning false.
    /// Returns its bytes.
    ///
    /// # Errors
    /// Why it was not downloaded. What was received until then is of no use.
    pub async fn get(
        &self,
        path: &str,
        take: &mut (dyn FnMut(&[u8]) -> bool + Send),
    ) -> Result<u64, DownloadError> {
        match timeout(self.limits.total, self.receive(path, take)).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(self.limits.total)),
        }
    }

    async fn receive(
        &self,
        path: &str,
        take: &mut (dyn FnMut(&[u8]) -> bool + Send),
    ) -> Result<u64, DownloadError> {
        let request = self.client.get(format!("{}{path}", self.url)).send();
        let answer = timeout(self.limits.answer, request).await;
        let answer = answer.map_err(|_| self.timed_out(self.limits.answer))?;
        let mut response = answer.map_err(|error| self.no_answer(&error))?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        if response.content_length().is_some_and(|bytes| bytes > self.limits.bytes) {
            return Err(self.too_large());
        }
        let mut received = 0;
        loop {
            let piece = timeout(self.limits.pause, response.chunk()).await;
            let piece = piece.map_err(|_| self.timed_out(self.limits.pause))?;
            let Some(piece) = piece.map_err(|error| self.broken(&error))? else { break };
            received += piece.len() as u64;
            if received > self.limits.bytes {
                return Err(self.too_large());
            }
            if !take(&piece) {
                return Err(self.error(DownloadFailure::NotTaken, "a piece was not taken"));
            }
        }
        Ok(received)
    }

    /// Returns the error of an answer without a file.
    async fn refused(&self, response: Response) -> DownloadError {
        let status = response.status().as_u16();
        let _ = timeout(DRAIN_MAX, drain(response)).await;
        let failure = match status {
            404 => DownloadFailure::NotFound,
            status => DownloadFailure::Status(status),
        };
        self.error(failure, &format!("{} answers with status {status}", self.name))
    }

    fn no_answer(&self, error: &reqwest::Error) -> DownloadError {
        if error.is_redirect() {
            let text = format!("{} redirects too often, or without TLS", self.name);
            return self.error(DownloadFailure::Redirects, &text);
        }
        self.classify(error, DownloadFailure::Unreachable)
    }

    fn broken(&self, error: &reqwest::Error) -> DownloadError {
        self.classify(error, DownloadFailure::EndedEarly)
    }

    fn classify(&self, error: &reqwest::Error, other: DownloadFailure) -> DownloadError {
        let cause = TransportError::of(&self.name, error);
        let failure = match cause.reason() {
            Failure::Tls => DownloadFailure::Tls,
            Failure::Timeout => DownloadFailure::TimedOut,
            _ => other,
        };
        match failure {
            DownloadFailure::EndedEarly => {
                self.error(failure, &format!("{} closed the connection too early", self.name))
            }
            _ => self.error(failure, &cause.to_string()),
        }
    }

    fn timed_out(&self, limit: Duration) -> DownloadError {
        let text = TransportError::timeout(&self.name, limit).to_string();
        self.error(DownloadFailure::TimedOut, &text)
    }

    fn too_large(&self) -> DownloadError {
        let mib = self.limits.bytes >> 20;
        let text = format!("{} sends more than {mib} MiB", self.name);
        self.error(DownloadFailure::TooLarge, &text)
    }

    fn error(&self, failure: DownloadFailure, text: &str) -> DownloadError {
        DownloadError { failure, text: text.to_owned() }
    }
}

/// Decides whether to follow a redirect.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let is_encrypted = |url: Option<&reqwest::Url>| url.is_some_and(|url| url.scheme() == "https");
    let was_encrypted = is_encrypted(attempt.previous().last());
    let is_web = matches!(attempt.url().scheme(), "http" | "https");
    let leaves_tls = was_encrypted && !is_encrypted(Some(attempt.url()));
    match attempt.previous().len() > REDIRECTS_MAX || leaves_tls || !is_web {
        true => attempt.error("the redirect is not followed"),
        false => attempt.follow(),
    }
}

/// Reads the rest of a small answer.
async fn drain(mut response: Response) {
    let mut left = DRAINED_BYTES;
    while let Ok(Some(piece)) = response.chunk().await {
        left = left.saturating_sub(piece.len() as u64);
        if left == 0 {
            return;
        }
    }
}
