//! What can be asked of a running agent: metrics, health, readiness.
//!
//! [`TABLE`] is the one list of metrics, with name, help, labels and where each value comes from; `docs/metrics.md` is made
//! from it. The agent fills a [`Snapshot`] when it is asked, and [`page`] makes the answer from it: everything here is a
//! pure function, so that what is said can be tested without an agent.

mod health;
pub mod server;
mod snapshot;
mod table;
mod text;
mod totals;

use server::Page;

pub use health::State;
pub use snapshot::{Budget, Names, Own, Part, Reloads, Series, Snapshot, Windows};
pub use table::{Kind, Label, Metric, TABLE, Values};
pub use text::render;
pub use totals::{Totals, frames};

/// Content type of the Prometheus text format, which [`render`] writes.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The pages, and what `/` says of each.
const PAGES: [(&str, &str); 3] = [
    ("/metrics", "counters and gauges for Prometheus"),
    ("/healthz", "200 while everything runs, else 503 and why"),
    ("/readyz", "200 once profiles are on their way, else 503 and what is missing"),
];

/// Makes the page at a path; `None` where there is none. `snapshot` is called when the page needs it.
pub fn page(path: &str, snapshot: impl FnOnce() -> Snapshot) -> Option<Page> {
    match path {
        "/" => Some(Page::text(200, front())),
        "/metrics" => {
            let body = render(&snapshot()).into_bytes();
            Some(Page { status: 200, content_type: PROMETHEUS, body })
        }
        "/healthz" => Some(verdict(snapshot().state.health())),
        "/readyz" => Some(verdict(snapshot().state.readiness())),
        _ => None,
    }
}

/// Names the other pages.
fn front() -> String {
    let mut text = format!("everytick {}\n\n", env!("CARGO_PKG_VERSION"));
    for (path, what) in PAGES {
        text.push_str(&format!("{path:<10} {what}\n"));
    }
    text
}

fn verdict(verdict: Result<(), String>) -> Page {
    match verdict {
        Ok(()) => Page::text(200, "ok\n"),
        Err(why) => Page::text(503, why + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_page_names_pages_that_there_are() {
        let front = page("/", Snapshot::default).expect("a page");
        let text = String::from_utf8(front.body).expect("text");
        for (path, _) in PAGES {
            assert!(text.contains(path), "{path} is not in {text}");
            assert!(page(path, Snapshot::default).is_some(), "{path}");
        }
        assert!(page("/elsewhere", Snapshot::default).is_none());
    }

    #[test]
    fn health_and_readiness_are_a_status_and_a_sentence() {
        let page = |path: &str| page(path, Snapshot::default).expect("a page");
        assert_eq!(page("/healthz"), Page::text(200, "ok\n"));
        let missing = "sampling has not begun and the sinks have not been started\n";
        assert_eq!(page("/readyz"), Page::text(503, missing));
        assert_eq!(page("/metrics").content_type, PROMETHEUS);
    }
}
