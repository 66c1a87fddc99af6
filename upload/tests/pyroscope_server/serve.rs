//! The HTTP server: one task per connection, one response per request.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;

type Shared = Arc<Mutex<State>>;

/// Accepts connections forever.
pub async fn serve(listener: std::net::TcpListener, state: Shared) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, state.clone()));
            let http = hyper::server::conn::http1::Builder::new();
            // An injected fault ends the connection with an error.
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, state: Shared) -> io::Result<Response<Full<Bytes>>> {
    let fault = state.lock().unwrap().faults.pop_front().unwrap_or(Fault::None);
    let disconnect = || Err(io::Error::other("closed by the test"));
    let (path, headers) = (request.uri().path().to_owned(), headers(&request));
    match &fault {
        Fault::DisconnectBefore => return disconnect(),
        Fault::Hang => std::future::pending::<()>().await,
        Fault::Slow(time) => tokio::time::sleep(*time).await,
        _ => {}
    }
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let bytes = body.len();
    let (mut profiles, mut extra_headers) = (0, Vec::new());
    let (status, body) = match &fault {
        Fault::Answer(status, headers, body) => {
            extra_headers.clone_from(headers);
            (*status, body.as_bytes().to_vec())
        }
        _ => state.lock().unwrap().route(&path, &headers, &body, &fault, &mut profiles),
    };
    state.lock().unwrap().requests.push(RequestRecord { path, headers, status, profiles, bytes });
    if matches!(fault, Fault::DisconnectAfter) {
        return disconnect();
    }
    let mut response = Response::builder().status(status);
    if status == 200 && !matches!(fault, Fault::Answer(..)) {
        response = response.header("content-type", "application/proto");
    }
    for (name, value) in extra_headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(Bytes::from(body))).unwrap())
}

fn headers(request: &Request<Incoming>) -> BTreeMap<String, String> {
    let text = |value: &hyper::header::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

impl State {
    fn route(
        &mut self,
        path: &str,
        headers: &BTreeMap<String, String>,
        body: &[u8],
        fault: &Fault,
        profiles: &mut usize,
    ) -> (u16, Vec<u8>) {
        let header = |name: &str| headers.get(name).map_or("", String::as_str);
        if self.authorization.as_deref().is_some_and(|required| required != header("authorization"))
        {
            return (401, b"Unauthorized".to_vec());
        }
        let tenant = match (header("x-scope-orgid"), self.needs_tenant) {
            ("", true) => return connect_error(("unauthenticated", "no org id".into())),
            ("", false) => "anonymous",
            (tenant, _) => tenant,
        };
        if self.has_no_debug_info && path.contains("debuginfo") {
            return (404, b"404 page not found\n".to_vec());
        }
        if let Some(build_id) = path.strip_prefix(debuginfo::UPLOAD) {
            return self.upload(build_id, body);
        }
        if header("content-type") != "application/proto" {
            return (415, Vec::new());
        }
        let plain = match header("content-encoding") {
            "" | "identity" => Some(body.to_vec()),
            "gzip" => wire::gunzip(body, self.limits.body_bytes),
            other => {
                let text = format!("unknown compression {other:?}");
                return connect_error(("unimplemented", text));
            }
        };
        let Some(plain) = plain.filter(|plain| plain.len() <= self.limits.body_bytes) else {
            let text =
                format!("message size is larger than configured max {}", self.limits.body_bytes);
            return connect_error(("resource_exhausted", text));
        };
        let result = match path {
            "/push.v1.PusherService/Push" => Push::decode(plain.as_slice())
                .map_err(|error| ("invalid_argument", format!("unmarshal message: {error}")))
                .and_then(|push| {
                    *profiles = push.series.iter().map(|series| series.samples.len()).sum();
                    self.push(tenant, push, fault).map(|()| Vec::new())
                }),
            _ => match self.debug_info_call(path, &plain) {
                Some(result) => result,
                None => return (404, b"404 page not found\n".to_vec()),
            },
        };
        match result {
            Ok(body) => (200, body),
            Err(error) => connect_error(error),
        }
    }
}
