//! The open connections, and which one gives way when there are too many.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// Bounds of what is open at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    /// Connections.
    pub open: usize,
    /// Pages other than those of probes that are being sent. The rest of the connections is for
    /// probes and for requests that are still to arrive.
    pub pages: usize,
    /// The part of `pages` that one client may take.
    pub pages_of_client: usize,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It waits for the head of its request.
    Silent,
    /// It waits because its client opens too many connections.
    Delayed,
    /// As `Delayed`, and its request begins as that of a probe.
    DelayedProbe,
    /// Its request is answered.
    Answering,
}

/// The pages that are being sent, by client.
#[derive(Debug, Default)]
struct PagesInFlight(Mutex<Vec<IpAddr>>);

/// A connection, as its task and the accept loop see it.
#[derive(Debug)]
pub(super) struct Connection {
    client: IpAddr,
    stage: AtomicU8,
    limits: ConnectionLimits,
    pages: Arc<PagesInFlight>,
}

/// All open connections, oldest first.
pub(super) struct Connections {
    limits: ConnectionLimits,
    pages: Arc<PagesInFlight>,
    open: Vec<(AbortHandle, Arc<Connection>)>,
}

impl PagesInFlight {
    fn lock(&self) -> MutexGuard<'_, Vec<IpAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Marks that its request is being answered.
    pub fn set_answering(&self) {
        self.stage.store(Stage::Answering as u8, Ordering::Relaxed);
    }

    /// Marks that it is delayed and has the request of a probe, which gives way last.
    pub fn set_delayed_probe(&self) {
        self.stage.store(Stage::DelayedProbe as u8, Ordering::Relaxed);
    }

    /// Returns whether one more page may be sent. The connection counts until it is dropped.
    pub fn begin_page(&self) -> Option<PageInFlight> {
        let mut pages = self.pages.lock();
        let of_client = pages.iter().filter(|client| **client == self.client).count();
        if pages.len() >= self.limits.pages || of_client >= self.limits.pages_of_client {
            return None;
        }
        pages.push(self.client);
        Some(PageInFlight { client: self.client, pages: Arc::clone(&self.pages) })
    }

    fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            stage if stage == Stage::Silent as u8 => Stage::Silent,
            stage if stage == Stage::Delayed as u8 => Stage::Delayed,
            stage if stage == Stage::DelayedProbe as u8 => Stage::DelayedProbe,
            _ => Stage::Answering,
        }
    }
}

/// A page that is being sent, until it is dropped.
#[derive(Debug)]
pub(super) struct PageInFlight {
    client: IpAddr,
    pages: Arc<PagesInFlight>,
}

impl Drop for PageInFlight {
    fn drop(&mut self) {
        let mut pages = self.pages.lock();
        if let Some(at) = pages.iter().position(|client| *client == self.client) {
            pages.swap_remove(at);
        }
    }
}

impl Connections {
    pub fn new(limits: ConnectionLimits) -> Self {
        Self { limits, pages: Arc::default(), open: Vec::new() }
    }

    /// Makes space for a connection. Returns how many were closed for it, or `None` if all that are
    /// open are being answered.
    pub fn make_space(&mut self) -> Option<usize> {
        self.open.retain(|(task, _)| !task.is_finished());
        if self.open.len() < self.limits.open {
            return Some(0);
        }
        let index = self.least_useful()?;
        let (task, _) = self.open.remove(index);
        task.abort();
        Some(1)
    }

    /// Returns the connection to close: of the client that has most of them, the one that has been
    /// silent for longest, else the one that has been delayed for longest, probes last.
    fn least_useful(&self) -> Option<usize> {
        let of_client = |client| self.open.iter().filter(|(_, c)| c.client == client).count();
        let candidates = self.open.iter().enumerate().filter_map(|(index, (_, connection))| {
            let rank = match connection.stage() {
                Stage::Silent => 2,
                Stage::Delayed => 1,
                Stage::DelayedProbe => 0,
                Stage::Answering => return None,
            };
            Some((of_client(connection.client), rank, std::cmp::Reverse(index)))
        });
        candidates.max().map(|(_, _, index)| index.0)
    }

    /// Creates the state of a connection from `client`.
    pub fn create(&self, client: IpAddr, is_delayed: bool) -> Arc<Connection> {
        let stage = if is_delayed { Stage::Delayed } else { Stage::Silent };
        Arc::new(Connection {
            client,
            stage: AtomicU8::new(stage as u8),
            limits: self.limits,
            pages: Arc::clone(&self.pages),
        })
    }

    /// Adds a connection that `task` serves.
    pub fn add(&mut self, task: AbortHandle, connection: Arc<Connection>) {
        self.open.push((task, connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits { open: 4, pages: 3, pages_of_client: 2 };

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    #[tokio::test]
    async fn the_client_with_most_connections_loses_its_oldest_silent_one() {
        let mut connections = Connections::new(LIMITS);
        let mut all = Vec::new();
        for (client, is_delayed) in [(1, false), (2, true), (2, false), (2, false)] {
            assert_eq!(connections.make_space(), Some(0));
            let connection = connections.create(address(client), is_delayed);
            let task = tokio::spawn(std::future::pending::<()>());
            connections.add(task.abort_handle(), Arc::clone(&connection));
            all.push((task, connection));
        }
        all[2].1.set_answering();
        assert_eq!(connections.make_space(), Some(1));
        assert!(all.remove(3).0.await.is_err_and(|error| error.is_cancelled()));
        let task = tokio::spawn(std::future::pending::<()>());
        connections.add(task.abort_handle(), connections.create(address(3), false));
        assert_eq!(connections.make_space(), Some(1), "delayed, of the client with two");
        assert!(all.remove(1).0.await.is_err_and(|error| error.is_cancelled()));
    }

    #[tokio::test]
    async fn nothing_gives_way_while_all_are_answered() {
        let mut connections = Connections::new(LIMITS);
        for client in 0..4 {
            let connection = connections.create(address(client), false);
            connection.set_answering();
            let task = tokio::spawn(std::future::pending::<()>());
            connections.add(task.abort_handle(), connection);
        }
        assert_eq!(connections.make_space(), None);
    }

    #[test]
    fn pages_in_flight_are_bounded_for_each_client_and_in_all() {
        let connections = Connections::new(LIMITS);
        let of = |client| connections.create(address(client), false);
        let (first, second) = (of(1).begin_page(), of(1).begin_page());
        assert!(first.is_some() && second.is_some() && of(1).begin_page().is_none());
        let other = of(2).begin_page();
        assert!(other.is_some() && of(3).begin_page().is_none());
        drop(first);
        assert!(of(3).begin_page().is_some());
    }
}
