//! The `Host` header: names that may mean this machine.
//!
//! A page of a browser may name any domain of its own and let that resolve to this machine (DNS
//! rebinding); the browser then lets its script read our pages. Such a request carries the name of
//! the domain. So addresses are answered, names that no one can register on the Internet, and names
//! that the configuration lists.

use std::net::{IpAddr, Ipv6Addr};

use hyper::header::HOST;
use hyper::http::uri::Authority;
use hyper::{Request, Version};

/// Ends of names that are resolved inside of a machine, a cluster or a site only (RFC 6761, RFC
/// 6762, and `internal.`, which ICANN has reserved for private use).
const PRIVATE_ENDS: [&str; 4] = [".localhost", ".local", ".internal", ".svc"];

/// Returns whether the request names this machine. `names`: those of the configuration.
pub(super) fn names_this_machine<B>(request: &Request<B>, names: &[String]) -> bool {
    let mut headers = request.headers().get_all(HOST).iter();
    let is_ours = |name: &str| {
        let host = name.parse::<Authority>().ok().map(|authority| authority.host().to_owned());
        host.is_some_and(|host| is_allowed(&host, names))
    };
    let is_header_allowed = match (headers.next(), headers.next()) {
        (Some(header), None) => header.to_str().is_ok_and(is_ours),
        // Required since HTTP/1.1; browsers send it always.
        (None, _) => request.version() == Version::HTTP_10,
        (Some(_), Some(_)) => false,
    };
    // `GET http://name/metrics`, which is meant for a proxy.
    let is_target_allowed = request.uri().host().is_none_or(|host| is_allowed(host, names));
    is_header_allowed && is_target_allowed
}

fn is_allowed(host: &str, names: &[String]) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_address = host.parse::<IpAddr>().is_ok()
        || host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|address| {
            address.split('%').next().unwrap_or_default().parse::<Ipv6Addr>().is_ok()
        });
    let lower = host.to_ascii_lowercase();
    is_address
        || (!lower.is_empty() && !lower.contains('.') && !lower.contains(':'))
        || PRIVATE_ENDS.iter().any(|end| lower.ends_with(end))
        || names.iter().any(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Version, hosts: &[&str], target: &str, expected: bool) {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let request = request.body(()).expect("a request");
        let names = ["node-1.example.com".to_owned()];
        assert_eq!(names_this_machine(&request, &names), expected, "{hosts:?} {target}");
    }

    #[test]
    fn addresses_and_private_names_are_answered() {
        for host in [
            "127.0.0.1:7171",
            "10.1.2.3",
            "[::1]:7171",
            "[fe80::1]",
            "localhost",
            "LocalHost:80",
            "everytick",
            "everytick.monitoring.svc:7171",
            "everytick.monitoring.svc.cluster.local.",
            "ip-10-0-0-1.ec2.internal",
            "node-1.example.com:7171",
            "NODE-1.example.com.",
        ] {
            check(Version::HTTP_11, &[host], "/metrics", true);
        }
    }

    #[test]
    fn other_names_are_refused() {
        for host in [
            "evil.example.com",
            "evil.example.com:7171",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "node-1.example.com.evil.example",
            "1.2.3.4.5",
            "",
            "a b",
            "[::1",
            "user@evil.example",
            "svc.evil.example",
        ] {
            check(Version::HTTP_11, &[host], "/metrics", false);
        }
        check(Version::HTTP_11, &["localhost", "localhost"], "/metrics", false);
        check(Version::HTTP_11, &["localhost"], "http://evil.example/metrics", false);
        check(Version::HTTP_11, &[], "/metrics", false);
        check(Version::HTTP_10, &[], "/metrics", true);
        check(Version::HTTP_10, &["evil.example"], "/metrics", false);
    }
}
