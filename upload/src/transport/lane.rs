//! The HTTP half of a call of gRPC.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::{self, Client};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tower_service::Service;

use super::connector::Connector;
use super::http::retry_after;
use super::verdict::retry_info;

/// Where the details of a status are kept from the library, which panics at those that are damaged.
const DETAILS: HeaderName = HeaderName::from_static("kept-details-bin");

/// What happened during one call.
#[derive(Default)]
pub(super) struct Noted {
    /// Bytes that left.
    pub sent: AtomicU64,
    /// An answer that is none of gRPC.
    pub foreign: OnceLock<Foreign>,
}

/// What it says.
#[derive(Clone)]
pub(super) struct Foreign {
    /// The status of HTTP.
    pub status: u16,
    /// How long it asks to be left alone.
    pub after: Option<Duration>,
    /// First words of the body, as they are: with secrets of ours, and long.
    pub text: String,
}

/// The HTTP half of one call: adds our headers, counts bytes, and keeps of the answer what the library would
/// drop or stumble over.
pub(super) struct Lane {
    pub client: Client<Connector, Body>,
    pub headers: HeaderMap,
    pub noted: Arc<Noted>,
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, legacy::Error>> + Send>>;

impl Service<Request<Body>> for Lane {
    type Response = Response<Body>;
    type Error = legacy::Error;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let (mut parts, body) = request.into_parts();
        parts.headers.extend(self.headers.clone());
        let noted = self.noted.clone();
        let counted = body.map_frame(move |frame| {
            noted.sent.fetch_add(frame.data_ref().map_or(0, Bytes::len) as u64, Ordering::Relaxed);
            frame
        });
        let answer = self.client.request(Request::from_parts(parts, Body::new(counted)));
        let noted = self.noted.clone();
        Box::pin(async move {
            let response = answer.await?;
            let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
            if kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
                return Ok(with_details_kept(response));
            }
            let _ = noted.foreign.set(Foreign::of(response).await);
            Ok(Response::new(Body::empty()))
        })
    }
}

impl Foreign {
    /// Reads the first words of an answer.
    async fn of(response: Response<Incoming>) -> Self {
        let after = response.headers().get(RETRY_AFTER);
        let after = after.and_then(|v| retry_after(v.as_bytes(), SystemTime::now()));
        let status = response.status().as_u16();
        let first = response.into_body().frame().await.and_then(Result::ok);
        let words = first.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        Self { status, after, text: String::from_utf8_lossy(&words).into_owned() }
    }
}

fn with_details_kept(response: Response<Incoming>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    keep_details(&mut parts.headers);
    let body = body.map_frame(|frame| match frame.into_trailers() {
        Ok(mut trailers) => {
            keep_details(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    });
    Response::from_parts(parts, Body::new(body))
}

fn keep_details(headers: &mut HeaderMap) {
    if let Some(details) = headers.remove(Status::GRPC_STATUS_DETAILS) {
        headers.insert(DETAILS, details);
    }
}

/// How long the server asks to be left alone in details that were kept.
pub(super) fn kept_retry_info(metadata: &MetadataMap) -> Option<Duration> {
    retry_info(&metadata.get_bin(DETAILS.as_str())?.to_bytes().ok()?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn damaged_details_are_no_details() {
        let mut headers = HeaderMap::new();
        headers.insert(Status::GRPC_STATUS_DETAILS, HeaderValue::from_static("!!! no base64 !!!"));
        headers.insert("grpc-status", HeaderValue::from_static("8"));
        keep_details(&mut headers);
        let status = Status::from_header_map(&headers).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(kept_retry_info(status.metadata()), None);
    }
}
