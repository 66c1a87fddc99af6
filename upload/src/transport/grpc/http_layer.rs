//! The HTTP layer below tonic's codec.
//!
//! tonic panics at status details that are not base64, and reads any web page as a message. So this
//! layer hides the details of a status from it, and responses that are not gRPC. It also records
//! whether the server stated a status at all: tonic reports what it cannot decode under codes that
//! a server could have sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::{self, Client};
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tower_service::Service;

use super::super::http::parse_retry_after;
use super::super::reply::essence;
use super::super::status::retry_delay;
use super::connector::Connector;

/// Header that the details of a status are moved to.
const DETAILS: HeaderName = HeaderName::from_static("preserved-details-bin");

/// What was observed during one call.
#[derive(Default)]
pub(super) struct CallRecord {
    /// Bytes that were sent.
    pub sent_bytes: AtomicU64,
    /// Whether the server stated an error by a status of gRPC.
    pub has_stated_error: AtomicBool,
    /// A response that is not gRPC.
    pub not_grpc: OnceLock<NonGrpcResponse>,
}

/// A response that is not gRPC, such as a proxy's.
#[derive(Clone)]
pub(super) struct NonGrpcResponse {
    /// The status of HTTP.
    pub status: u16,
    /// How long it asks to be left alone.
    pub after: Option<Duration>,
    /// The beginning of the body, unredacted and of any length.
    pub text: String,
}

impl CallRecord {
    fn observe_status(&self, headers: &HeaderMap) {
        let status = headers.get(Status::GRPC_STATUS);
        if status.is_some_and(|status| status.as_bytes() != b"0") {
            self.has_stated_error.store(true, Ordering::Relaxed);
        }
    }
}

/// Performs one call: adds our headers, counts bytes, and filters the response.
pub(super) struct HttpLayer {
    pub client: Client<Connector, Body>,
    pub headers: HeaderMap,
    pub record: Arc<CallRecord>,
}

type ResponseFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, legacy::Error>> + Send>>;

impl Service<Request<Body>> for HttpLayer {
    type Response = Response<Body>;
    type Error = legacy::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> ResponseFuture {
        let (mut parts, body) = request.into_parts();
        parts.headers.extend(self.headers.clone());
        let record = self.record.clone();
        let counted = body.map_frame(move |frame| {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            record.sent_bytes.fetch_add(length, Ordering::Relaxed);
            frame
        });
        let response = self.client.request(Request::from_parts(parts, Body::new(counted)));
        let record = self.record.clone();
        Box::pin(async move {
            let response = response.await?;
            let kind = response.headers().get(CONTENT_TYPE);
            let kind = kind.map_or_else(String::new, |kind| essence(kind.as_bytes()));
            let is_grpc = kind == "application/grpc" || kind.starts_with("application/grpc+");
            let has_status = response.headers().contains_key(Status::GRPC_STATUS);
            if is_grpc && (has_status || response.status() == StatusCode::OK) {
                return Ok(observe(response, record));
            }
            let _ = record.not_grpc.set(NonGrpcResponse::read(response).await);
            Ok(Response::new(Body::empty()))
        })
    }
}

impl NonGrpcResponse {
    /// Reads the first chunk of a response.
    async fn read(response: Response<Incoming>) -> Self {
        let after = response.headers().get(RETRY_AFTER);
        let after = after.and_then(|v| parse_retry_after(v.as_bytes(), SystemTime::now()));
        let status = response.status().as_u16();
        let first = response.into_body().frame().await.and_then(Result::ok);
        let text = first.and_then(|frame| frame.into_data().ok()).unwrap_or_default();
        Self { status, after, text: String::from_utf8_lossy(&text).into_owned() }
    }
}

/// Preserves the details of the status, in headers or trailers, and records whether it is an error.
fn observe(response: Response<Incoming>, record: Arc<CallRecord>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    record.observe_status(&parts.headers);
    move_details(&mut parts.headers);
    let body = body.map_frame(move |frame| match frame.into_trailers() {
        Ok(mut trailers) => {
            record.observe_status(&trailers);
            move_details(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    });
    Response::from_parts(parts, Body::new(body))
}

fn move_details(headers: &mut HeaderMap) {
    if let Some(details) = headers.remove(Status::GRPC_STATUS_DETAILS) {
        headers.insert(DETAILS, details);
    }
}

/// Returns how long the server asks to be left alone, from preserved details.
pub(super) fn preserved_retry_delay(metadata: &MetadataMap) -> Option<Duration> {
    retry_delay(&metadata.get_bin(DETAILS.as_str())?.to_bytes().ok()?)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tonic::Code;

    use super::*;

    #[test]
    fn damaged_details_are_ignored() {
        let mut headers = HeaderMap::new();
        headers.insert(Status::GRPC_STATUS_DETAILS, HeaderValue::from_static("!!! no base64 !!!"));
        headers.insert("grpc-status", HeaderValue::from_static("8"));
        move_details(&mut headers);
        let status = Status::from_header_map(&headers).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(preserved_retry_delay(status.metadata()), None);
    }
}
