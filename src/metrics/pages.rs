//! The HTTP pages.

use super::health::HealthState;
use super::prometheus::render;
use super::server::{Page, PagePath};
use super::snapshot::Snapshot;

/// Content type of the Prometheus text format, which [`render`] writes.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The pages.
pub const PATHS: [PagePath; 4] = [
    PagePath { path: "/", is_probe: false },
    PagePath { path: "/metrics", is_probe: false },
    PagePath { path: "/healthz", is_probe: true },
    PagePath { path: "/readyz", is_probe: true },
];

/// How `/` describes the others.
const DESCRIPTIONS: [(&str, &str); 3] = [
    ("/metrics", "counters and gauges in the Prometheus text format"),
    ("/healthz", "200 while the agent is healthy, else 503 and the reason"),
    ("/readyz", "200 once profiles are being delivered, else 503 and what is missing"),
];

/// Returns the page at one of [`PATHS`]. `snapshot` is called if the page needs one, `health` if
/// that is enough for it.
pub fn page(
    path: &str,
    snapshot: impl FnOnce() -> Snapshot,
    health: impl FnOnce() -> HealthState,
) -> Page {
    match path {
        "/metrics" => {
            let body = render(&snapshot()).into();
            Page { status: 200, content_type: PROMETHEUS, body }
        }
        "/healthz" => check_page(health().check_health()),
        "/readyz" => check_page(health().check_readiness()),
        _ => Page::text(200, index()),
    }
}

fn index() -> String {
    let mut text = format!("everytick {}\n\n", env!("CARGO_PKG_VERSION"));
    for (path, description) in DESCRIPTIONS {
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

    fn page_at(path: &str) -> Page {
        page(path, Snapshot::default, HealthState::default)
    }

    #[test]
    fn index_lists_the_other_pages() {
        let index = String::from_utf8(page_at("/").body.to_vec()).expect("text");
        for PagePath { path, .. } in &PATHS[1..] {
            assert!(index.contains(path), "{path} is not in {index}");
            assert_ne!(page_at(path), page_at("/"), "{path}");
        }
    }

    #[test]
    fn checks_are_a_status_and_a_sentence() {
        assert_eq!(page_at("/healthz"), Page::text(200, "ok\n"));
        let missing = "sampling has not started and the sinks have not been started\n";
        assert_eq!(page_at("/readyz"), Page::text(503, missing));
        assert_eq!(page_at("/metrics").content_type, PROMETHEUS);
    }
}
