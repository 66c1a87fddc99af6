//! One server, and its backoff: one that does not work is not asked for every build ID.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use upload::config::ConfigError;
use upload::transport::{DownloadClient, DownloadError, DownloadLimits};

/// The first backoff; it doubles with each failure in a row.
const BACKOFF_FIRST: Duration = Duration::from_secs(30);
const BACKOFF_MAX: Duration = Duration::from_secs(30 * 60);

/// A server that is asked for debug info.
#[derive(Debug)]
pub(super) struct DebuginfodServer {
    client: DownloadClient,
    backoff: Mutex<Backoff>,
}

#[derive(Debug, Default)]
struct Backoff {
    /// Failures in a row.
    failures: u32,
    until: Option<Instant>,
}

impl DebuginfodServer {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// What is wrong with the address, the proxy or the certificates.
    pub fn new(url: &str, limits: DownloadLimits) -> Result<Self, ConfigError> {
        Ok(Self { client: DownloadClient::new(url, limits)?, backoff: Mutex::default() })
    }

    /// Returns whether the server is not to be asked now.
    pub fn is_in_backoff(&self, now: Instant) -> bool {
        self.backoff().until.is_some_and(|until| now < until)
    }

    /// Records that it failed.
    pub fn failed(&self, now: Instant) {
        let mut backoff = self.backoff();
        // Requests in flight fail together, for one cause.
        if backoff.until.is_none_or(|until| until <= now) {
            let doubled = BACKOFF_FIRST.saturating_mul(1 << backoff.failures.min(10));
            backoff.until = Some(now + doubled.min(BACKOFF_MAX));
            backoff.failures += 1;
        }
    }

    /// Records that it works.
    pub fn answered(&self) {
        *self.backoff() = Backoff::default();
    }

    /// Gets a file, see [`DownloadClient::get`].
    pub async fn get(
        &self,
        path: &str,
        take: &mut (dyn FnMut(&[u8]) -> bool + Send),
    ) -> Result<u64, DownloadError> {
        self.client.get(path, take).await
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_and_ends_with_an_answer() {
        let second = Duration::from_secs(1);
        let limits = DownloadLimits {
            connect: second,
            answer: second,
            pause: second,
            total: second,
            bytes: 1,
        };
        let server = DebuginfodServer::new("http://127.0.0.1:1", limits).expect("an address");
        let now = Instant::now();
        assert!(!server.is_in_backoff(now));
        (0..3).for_each(|_| server.failed(now));
        assert!(server.is_in_backoff(now + BACKOFF_FIRST - second));
        assert!(!server.is_in_backoff(now + BACKOFF_FIRST));
        let later = now + BACKOFF_FIRST;
        server.failed(later);
        assert!(server.is_in_backoff(later + 2 * BACKOFF_FIRST - second));
        server.answered();
        assert!(!server.is_in_backoff(later));
    }
}
