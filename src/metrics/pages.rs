//! The HTTP pages.

use super::server::Page;

use super::prometheus::render;
use super::snapshot::Snapshot;

/// Content type of the Prometheus text format, which [`render`] writes.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The paths, and how `/` describes them.
const PAGES: [(&str, &str); 3] = [
    ("/metrics", "counters and gauges in the Prometheus text format"),
    ("/healthz", "200 while the agent is healthy, else 503 and the reason"),
    ("/readyz", "200 once profiles are being delivered, else 503 and what is missing"),
];

/// Returns the page at `path`, or `None` if there is none. `snapshot` is called if the page needs
/// one.
pub fn page(path: &str, snapshot: impl FnOnce() -> Snapshot) -> Option<Page> {
    match path {
        "/" => Some(Page::text(200, index())),
        "/metrics" => {
            let body = render(&snapshot()).into_bytes();
            Some(Page { status: 200, content_type: PROMETHEUS, body })
        }
        "/healthz" => Some(check_page(snapshot().health.check_health())),
        "/readyz" => Some(check_page(snapshot().health.check_readiness())),
        _ => None,
    }
}

fn index() -> String {
    let mut text = format!("everytick {}\n\n", env!("CARGO_PKG_VERSION"));
    for (path, description) in PAGES {
        text.push_str(&format!("{path:<10} {description}\n"));
    }
    text
}

fn check_page(result: Result<(), String>) -> Page {
    match result {
        Ok(()) => Page::text(200, "ok\n"),
        Err(reason) => Page::text(503, reason + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_lists_the_other_pages() {
        let index = page("/", Snapshot::default).expect("a page");
        let text = String::from_utf8(index.body).expect("text");
        for (path, _) in PAGES {
            assert!(text.contains(path), "{path} is not in {text}");
            assert!(page(path, Snapshot::default).is_some(), "{path}");
        }
        assert!(page("/elsewhere", Snapshot::default).is_none());
    }

    #[test]
    fn checks_are_a_status_and_a_sentence() {
        let page = |path: &str| page(path, Snapshot::default).expect("a page");
        assert_eq!(page("/healthz"), Page::text(200, "ok\n"));
        let missing = "sampling has not started and the sinks have not been started\n";
        assert_eq!(page("/readyz"), Page::text(503, missing));
        assert_eq!(page("/metrics").content_type, PROMETHEUS);
    }
}
