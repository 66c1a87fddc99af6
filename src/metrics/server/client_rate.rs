//! Connections per second: of each client, and of all together.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::counts::Refusal;

/// Clients whose rates are kept. Others share one.
const CLIENTS_MAX: usize = 256;

/// A rate and the burst after rest, in connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub per_second: f64,
    pub burst: f64,
}

/// The connections of all clients.
#[derive(Debug)]
pub(super) struct ClientRates {
    each: Rate,
    all: TokenBucket,
    clients: HashMap<IpAddr, TokenBucket>,
    /// Clients beyond [`CLIENTS_MAX`].
    others: TokenBucket,
}

impl ClientRates {
    pub fn new(each: Rate, all: Rate, now: Instant) -> Self {
        let (all, others) = (TokenBucket::new(all, now), TokenBucket::new(each, now));
        Self { each, all, clients: HashMap::new(), others }
    }

    /// Counts a connection; returns why it is beyond the rate.
    pub fn count(&mut self, client: IpAddr, now: Instant) -> Option<Refusal> {
        if !self.bucket(client_of(client), now).take(now) {
            return Some(Refusal::ClientRate);
        }
        // A client beyond its own rate takes nothing from the others.
        (!self.all.take(now)).then_some(Refusal::Rate)
    }

    fn bucket(&mut self, client: IpAddr, now: Instant) -> &mut TokenBucket {
        if !self.clients.contains_key(&client) {
            if self.clients.len() >= CLIENTS_MAX {
                self.clients.retain(|_, bucket| !bucket.is_full(now));
            }
            if self.clients.len() >= CLIENTS_MAX {
                return &mut self.others;
            }
        }
        self.clients.entry(client).or_insert_with(|| TokenBucket::new(self.each, now))
    }
}

/// Returns the address by which a client is known: of IPv6 the network, whose addresses belong to
/// one machine.
pub(super) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[derive(Debug)]
struct TokenBucket {
    rate: Rate,
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, tokens: rate.burst, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let rest: Duration = now.saturating_duration_since(self.at);
        let refilled = self.tokens + self.rate.per_second * rest.as_secs_f64();
        (self.tokens, self.at) = (refilled.min(self.rate.burst), now);
    }

    fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let has_token = self.tokens >= 1.0;
        if has_token {
            self.tokens -= 1.0;
        }
        has_token
    }

    fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= self.rate.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: Rate = Rate { per_second: 2.0, burst: 4.0 };
    const ALL: Rate = Rate { per_second: 3.0, burst: 6.0 };

    fn address(number: u32) -> IpAddr {
        IpAddr::from(std::net::Ipv4Addr::from_bits(number))
    }

    #[test]
    fn a_client_has_a_rate_of_its_own() {
        let start = Instant::now();
        let mut rates = ClientRates::new(EACH, ALL, start);
        let mut count = |client, seconds: f64, times: usize| {
            let now = start + Duration::from_secs_f64(seconds);
            (0..times).filter(|_| rates.count(address(client), now).is_none()).count()
        };
        assert_eq!(count(1, 0.0, 1000), 4);
        assert_eq!(count(2, 0.0, 1), 1, "the flood of another client takes nothing");
        assert_eq!(count(1, 1.0, 1000), 2);
        assert_eq!(count(1, 100.0, 1000), 4);
        assert_eq!(count(2, 100.0, 1000), 2, "the rate of all clients");
    }

    #[test]
    fn many_clients_share_a_bounded_table() {
        let now = Instant::now();
        let all = Rate { per_second: 1e9, burst: 1e9 };
        let mut rates = ClientRates::new(EACH, all, now);
        let admitted =
            (0..100_000).filter(|number| rates.count(address(*number), now).is_none()).count();
        assert_eq!(admitted, CLIENTS_MAX + EACH.burst as usize);
        let later = now + Duration::from_secs(10);
        assert_eq!(rates.count(address(200_000), later), None);
        assert!(rates.clients.len() <= CLIENTS_MAX);
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let client = |text: &str| client_of(text.parse().expect("an address"));
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1:2:3"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:10.0.0.1"), client("10.0.0.1"));
    }
}
