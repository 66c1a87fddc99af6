//! The sink for OTLP: profiles to an OpenTelemetry Collector or a compatible receiver, by gRPC or
//! HTTP.
//!
//! The signal is alpha: a Collector needs `--feature-gates=service.profilesSupport`. `encode` tells
//! what becomes of labels. Requests are split below what servers take by default, 4 MiB. What the
//! protocol calls a partial success is counted and never repeated.
//!
//! For Parca use the sink `parca`: from OTLP, Parca drops much and shows wrong function names
//! (`pkg/profile/encode.go`, version 0.28).
//!
//! Source: OTLP specification and opentelemetry-proto 1.11.

mod config;
mod encode;
mod environment;
#[rustfmt::skip]
#[allow(dead_code, reason = "generated")]
mod proto;
mod retry;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use super::send_plan::{Acceptance, Piece, SendPlan, counted, lower_limit};
use crate::batch::{Answer, Batch, Failure, Series};
use crate::config::ConfigError;
use crate::debug_info::DebugInfoSource;
use crate::transport::{
    Disposition, FailedRequest, Grpc, Http, Reply, ResponseCounts, RetryPolicy, RpcStatus, shorten,
};
use proto::ExportProfilesServiceResponse;
use retry::policy;

pub use config::{Config, Protocol};
pub use environment::{EnvironmentValue, VARIABLE_PREFIX, from_environment};

/// The method that takes profiles.
const EXPORT: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
/// What most receivers need that do not know the service.
const HINT: &str = "; an OpenTelemetry Collector needs --feature-gates=service.profilesSupport";
/// Least time between two warnings.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Sends batches to one receiver of OTLP.
#[derive(Debug)]
pub struct Sink {
    client: Client,
    policy: RetryPolicy,
    /// Largest request in bytes; lowered once the server has found one too large.
    request_limit: usize,
    plan: SendPlan,
    warned: Option<Instant>,
}

/// The connection to a receiver, and for HTTP the path of the service.
#[derive(Debug)]
enum Client {
    Grpc(Box<Grpc>),
    Http(Box<Http>, String),
}

/// A request that the receiver accepted, at least in part.
struct Accepted {
    sent_bytes: u64,
    response: ExportProfilesServiceResponse,
}

impl Sink {
    /// Checks the configuration; connects to nothing. OTLP has no debug info.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(
        config: &Config,
        _debug_info: Option<&Arc<dyn DebugInfoSource>>,
    ) -> Result<Self, ConfigError> {
        let connection = &config.connection;
        let client = match config.protocol() {
            Protocol::Grpc => Client::Grpc(Box::new(Grpc::new(connection)?)),
            Protocol::Http => Client::Http(Box::new(Http::new(connection)?), config.path()),
        };
        let request_limit = config.request_bytes_max as usize;
        Ok(Self {
            client,
            policy: policy(config.retry_server_errors),
            request_limit,
            plan: SendPlan::new(Acceptance::Whole),
            warned: None,
        })
    }

    /// Returns the server's responses since the last call, by code.
    pub fn take_responses(&mut self) -> ResponseCounts {
        match &mut self.client {
            Client::Grpc(grpc) => grpc.take_responses(),
            Client::Http(http, _) => http.take_responses(),
        }
    }

    /// Sends what the server does not have yet of a batch.
    pub async fn send(&mut self, batch: &Batch) -> Answer {
        let Some(counts) = batch.value_index("samples", "count") else {
            let text = "the batch has no samples/count".to_owned();
            return Answer::Rejected { reason: Failure::Defect, text };
        };
        self.plan.begin(batch, || pieces(batch));
        while let Some(pieces) = self.plan.front() {
            let request = encode::request(batch, pieces, counts);
            if request.encoded_len() > self.request_limit {
                self.plan.split_front("a single stack is larger than a request may be");
                continue;
            }
            if let Some(answer) = self.export(request.encode_to_vec().into()).await {
                return answer;
            }
        }
        self.plan.answer()
    }

    /// Sends the front request. Returns an answer if that ends the attempt.
    async fn export(&mut self, request: Bytes) -> Option<Answer> {
        let length = request.len();
        match self.client.export(request, &self.policy).await {
            Ok(Accepted { sent_bytes, response }) => {
                let partial = response.partial_success.unwrap_or_default();
                let rejected = u64::try_from(partial.rejected_profiles).unwrap_or(0);
                let text = shorten(&self.client.redact(partial.error_message));
                if rejected == 0 && !text.is_empty() {
                    self.warn(&text);
                }
                self.plan.accepted(sent_bytes, rejected, &text);
                None
            }
            Err(failed) => {
                if matches!(failed.disposition, Disposition::Split { .. }) {
                    self.request_limit = lower_limit(self.request_limit, length);
                }
                self.plan.failed(failed, length)
            }
        }
    }

    /// Logs the warning of a receiver that has accepted all profiles.
    fn warn(&mut self, text: &str) {
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_INTERVAL) {
            self.warned = Some(Instant::now());
            tracing::warn!("the OTLP receiver accepted the profiles with a warning: {text}");
        }
    }
}

impl Client {
    async fn export(
        &mut self,
        request: Bytes,
        policy: &RetryPolicy,
    ) -> Result<Accepted, FailedRequest> {
        match self {
            Self::Grpc(grpc) => match grpc.unary(EXPORT, request).await {
                Ok(call) => Ok(Accepted { sent_bytes: call.sent_bytes, response: call.message }),
                Err(error) => Err(with_hint(policy.judge_call(error))),
            },
            Self::Http(http, path) => {
                match http.post(path, "application/x-protobuf", request).await {
                    Ok(reply) if reply.is_success() => match reply.message() {
                        Ok(response) => Ok(Accepted { sent_bytes: reply.sent_bytes, response }),
                        Err(text) => Err(policy.judge_success_without_message(&reply, &text)),
                    },
                    Ok(reply) => Err(with_hint(policy.judge_reply(&reply, &error_text(&reply)))),
                    Err(error) => Err(policy.judge_call(error.into())),
                }
            }
        }
    }

    fn redact(&self, text: String) -> String {
        match self {
            Self::Grpc(grpc) => grpc.redact(text),
            Self::Http(http, _) => http.redact(text),
        }
    }
}

/// Adds what most receivers need that do not know the service.
fn with_hint(mut failed: FailedRequest) -> FailedRequest {
    if failed.disposition == Disposition::Retry(Failure::Protocol) {
        failed.text.push_str(HINT);
    }
    failed
}

/// Returns the text of an error's body: a `google.rpc.Status`, or plain text.
fn error_text(reply: &Reply) -> String {
    match RpcStatus::decode(reply.body.clone()) {
        Ok(status) if !status.message.is_empty() => status.message,
        _ => String::from_utf8_lossy(&reply.body).into_owned(),
    }
}

/// Returns the series of a batch, without samples whose count is 0.
fn pieces(batch: &Batch) -> Vec<Piece> {
    let piece = |series: Series| Piece::of_series(series.labels, counted(batch, series.samples));
    batch.series().into_iter().map(piece).filter(|piece| !piece.samples().is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_in_both_forms() {
        let reply = |body: Vec<u8>| Reply {
            status: 400,
            content_type: String::new(),
            retry_after: None,
            body: body.into(),
            sent_bytes: 0,
        };
        let status = RpcStatus { code: 3, message: "bad profile".into(), details: vec![] };
        assert_eq!(error_text(&reply(status.encode_to_vec())), "bad profile");
        assert_eq!(error_text(&reply(b"404 page not found".to_vec())), "404 page not found");
    }
}
