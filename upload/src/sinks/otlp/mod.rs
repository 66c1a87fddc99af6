//! The sink for OTLP: profiles to an OpenTelemetry Collector or what speaks like it, by gRPC or HTTP.
//!
//! The signal is alpha: a Collector needs `--feature-gates=service.profilesSupport`. What becomes of labels is
//! told in `encode`. Requests are split below what servers take by default, 4 MiB. An answer is followed as the
//! protocol says; what it calls a partial success is never repeated, and counted.
//!
//! For Parca use its own sink: of OTLP it drops much, and shows the name of another function
//! (`pkg/profile/encode.go`, version 0.28).
//!
//! Source: OTLP specification and opentelemetry-proto 1.11.

mod config;
mod encode;
mod environment;
mod proto;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use crate::batch::{Answer, Batch, Failure};
use crate::sinks::StartError;
use crate::sinks::parts::{Parts, Piece, counted, smaller};
use crate::transport::{Grpc, Http, Reply, RpcStatus, Rules, Verdict, of_call, of_reply, shorten};
use proto::ExportResponse;

pub use config::{Config, Protocol};
pub use environment::{EnvironmentValue, VARIABLE_PREFIX, from_environment};

/// The method that takes profiles.
const EXPORT: &str = "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export";
/// What most receivers need that do not know the service.
const HINT: &str = "; an OpenTelemetry Collector needs --feature-gates=service.profilesSupport";
/// Least time between two warnings.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Sends batches to one receiver of OTLP.
#[derive(Debug)]
pub struct Sink {
    way: Way,
    /// Largest request in bytes; less than the setting once the server has found one too large.
    limit: usize,
    parts: Parts,
    warned: Option<Instant>,
}

#[derive(Debug)]
enum Way {
    Grpc(Box<Grpc>),
    Http(Box<Http>, String),
}

/// What a request led to.
enum Outcome {
    Taken { sent_bytes: u64, response: ExportResponse },
    Not(Verdict),
}

impl Sink {
    /// Checks the settings; sends nothing.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(config: &Config) -> Result<Self, StartError> {
        let limit = config.request_bytes_max as usize;
        let connection = &config.connection;
        let way = match config.protocol() {
            Protocol::Grpc => Way::Grpc(Box::new(Grpc::new(connection)?)),
            Protocol::Http => Way::Http(Box::new(Http::new(connection)?), config.path()),
        };
        Ok(Self { way, limit, parts: Parts::default(), warned: None })
    }

    /// Sends what is not there yet of a batch.
    pub async fn send(&mut self, batch: &Batch) -> Answer {
        let Some(counts) = batch.value_index("samples", "count") else {
            let text = "the window has no samples/count".to_owned();
            return Answer::Refused { reason: Failure::Defect, text };
        };
        self.parts.begin(batch, || pieces(batch));
        while let Some(part) = self.parts.front() {
            let request = encode::request(batch, part, counts);
            if request.encoded_len() > self.limit {
                self.parts.halve(batch, "a single stack is larger than a request may be");
                continue;
            }
            if let Some(answer) = self.export(batch, request.encode_to_vec().into()).await {
                return answer;
            }
        }
        self.parts.answer()
    }

    /// Sends the part in front. Gives an answer if that ends this attempt.
    async fn export(&mut self, batch: &Batch, request: Bytes) -> Option<Answer> {
        let length = request.len();
        match self.way.export(request).await {
            Outcome::Taken { sent_bytes, response } => {
                let partial = response.partial_success.unwrap_or_default();
                let rejected = u64::try_from(partial.rejected_profiles).unwrap_or(0);
                let text = shorten(&self.way.hide(partial.error_message));
                if rejected == 0 && !text.is_empty() {
                    self.warn(&text);
                }
                self.parts.took(batch, sent_bytes, rejected, &text);
            }
            Outcome::Not(Verdict::Later { reason, after, text }) => {
                let hint = if reason == Failure::Protocol { HINT } else { "" };
                return Some(Answer::Later { reason, after, text: format!("{text}{hint}") });
            }
            Outcome::Not(Verdict::InDoubt { text }) => return self.parts.doubt(batch, text),
            Outcome::Not(Verdict::TooLarge { text }) => {
                self.limit = smaller(self.limit, length);
                return self.parts.too_large(batch, length, &text);
            }
            Outcome::Not(Verdict::Never { reason, text }) => {
                self.parts.refuse(batch, reason, &text);
            }
        }
        None
    }

    /// The server has taken all of it, but is not content.
    fn warn(&mut self, text: &str) {
        if self.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            tracing::warn!("the OTLP receiver took the profiles, but warns: {text}");
        }
    }
}

impl Way {
    async fn export(&mut self, request: Bytes) -> Outcome {
        match self {
            Self::Grpc(grpc) => match grpc.unary::<ExportResponse>(EXPORT, request).await {
                Ok(called) => {
                    Outcome::Taken { sent_bytes: called.sent_bytes, response: called.message }
                }
                Err(error) => Outcome::Not(of_call(error, Rules::Otlp)),
            },
            Self::Http(http, path) => {
                match http.post(path, "application/x-protobuf", request).await {
                    Ok(reply) if (200..300).contains(&reply.status) => Outcome::Taken {
                        sent_bytes: reply.sent_bytes,
                        // An answer that cannot be read says no less than its status.
                        response: ExportResponse::decode(reply.body).unwrap_or_default(),
                    },
                    Ok(reply) => Outcome::Not(of_reply(&reply, &text_of(&reply))),
                    Err(error) => Outcome::Not(of_call(error.into(), Rules::Otlp)),
                }
            }
        }
    }

    fn hide(&self, text: String) -> String {
        match self {
            Self::Grpc(grpc) => grpc.hide(text),
            Self::Http(http, _) => http.hide(text),
        }
    }
}

/// What the body of an error says: a message of its own, or text.
fn text_of(reply: &Reply) -> String {
    match RpcStatus::decode(reply.body.clone()) {
        Ok(status) if !status.message.is_empty() => status.message,
        _ => String::from_utf8_lossy(&reply.body).into_owned(),
    }
}

/// The series of a batch.
fn pieces(batch: &Batch) -> Vec<Piece> {
    let piece = |series: crate::batch::Series| Piece {
        labels: Arc::new(series.labels),
        samples: counted(batch, series.samples),
    };
    batch.series().into_iter().map(piece).filter(|piece| !piece.samples.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_in_both_forms() {
        let reply = |body: Vec<u8>| Reply {
            status: 400,
            retry_after: None,
            body: body.into(),
            sent_bytes: 0,
        };
        let message = RpcStatus { code: 3, message: "bad profile".into(), details: vec![] };
        assert_eq!(text_of(&reply(message.encode_to_vec())), "bad profile");
        assert_eq!(text_of(&reply(b"404 page not found".to_vec())), "404 page not found");
    }
}
