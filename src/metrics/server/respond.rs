//! The answer to one request: its page, or a refusal.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use super::connections::{Connection, PageInFlight};
use super::context::ServerContext;
use super::counts::Refusal;
use super::host_header::names_this_machine;
use super::page::{Page, PagePath};

/// An answer, and what counts as long as it is being sent.
pub(super) struct Answer {
    pub response: Response<Full<Bytes>>,
    pub page_in_flight: Option<PageInFlight>,
}

/// Answers a request. `beyond_rate`: why its connection is beyond the rate of connections, if so.
pub(super) async fn respond(
    request: &Request<Incoming>,
    context: &ServerContext,
    connection: &Connection,
    beyond_rate: Option<Refusal>,
) -> Answer {
    let (page, refusal, page_in_flight) = match check(request, context, connection, beyond_rate) {
        Ok((path, page_in_flight)) => (context.pages.page(path).await, None, page_in_flight),
        Err(Some(refusal)) => (refusal_page(refusal), Some(refusal), None),
        Err(None) => (Page::text(404, "There is no such page; / lists the pages.\n"), None, None),
    };
    match refusal {
        Some(refusal) => context.counters.count_refusal(refusal),
        None => context.counters.count_answer(),
    }
    Answer { response: response(page, refusal), page_in_flight }
}

/// Returns the page to answer; without it why the request is refused, or nothing if there is no
/// such page.
fn check(
    request: &Request<Incoming>,
    context: &ServerContext,
    connection: &Connection,
    beyond_rate: Option<Refusal>,
) -> Result<(PagePath, Option<PageInFlight>), Option<Refusal>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Err(Some(Refusal::Method));
    }
    if !names_this_machine(request, &context.host_names) {
        return Err(Some(Refusal::Host));
    }
    if !request.body().is_end_stream() {
        return Err(Some(Refusal::Body));
    }
    match (context.pages.find(request.uri().path()), beyond_rate) {
        (Some(path), _) if path.is_probe => Ok((path, None)),
        (_, Some(refusal)) => Err(Some(refusal)),
        (Some(path), None) => match connection.begin_page() {
            Some(page_in_flight) => Ok((path, Some(page_in_flight))),
            None => Err(Some(Refusal::Connections)),
        },
        (None, None) => Err(None),
    }
}

fn refusal_page(refusal: Refusal) -> Page {
    let (status, text) = match refusal {
        Refusal::ClientRate => (429, "Too many requests of this client; slow down.\n"),
        Refusal::Rate => (503, "Too many requests; try again later.\n"),
        Refusal::Connections => (503, "Too many connections; try again later.\n"),
        Refusal::Method => (405, "Only GET and HEAD are answered here.\n"),
        Refusal::Host => (
            421,
            "The Host header is no name of this machine; use its address, or list the name in \
             agent.host_names.\n",
        ),
        Refusal::Body => (413, "A request has no body here.\n"),
        Refusal::Malformed => (400, "This is not HTTP/1.1.\n"),
        Refusal::Timeout => (408, "The request came too slowly.\n"),
    };
    Page::text(status, text)
}

fn response(page: Page, refusal: Option<Refusal>) -> Response<Full<Bytes>> {
    let mut response = Response::builder()
        .status(page.status)
        .header(CONTENT_TYPE, page.content_type)
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(CACHE_CONTROL, "no-store");
    let extra: Option<(HeaderName, &str)> = match refusal {
        Some(Refusal::Method) => Some((ALLOW, "GET, HEAD")),
        Some(Refusal::ClientRate | Refusal::Rate | Refusal::Connections) => {
            Some((RETRY_AFTER, "1"))
        }
        _ => None,
    };
    if let Some((name, value)) = extra {
        response = response.header(name, value);
    }
    response.body(Full::new(page.body)).unwrap_or_else(|_| {
        // The handler returned a status or a content type that HTTP does not allow.
        let mut invalid = Response::new(Full::default());
        *invalid.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        invalid
    })
}
