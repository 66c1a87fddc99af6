//! The sink for Parca: profiles by gRPC, and debug info of the files that Parca symbolizes.
//!
//! A batch is sent in one `WriteRaw` request, or in several where it exceeds what the server takes.
//! All its series have the same time and duration, from which Parca computes rates. With
//! [`Symbolize::Server`](super::Symbolize) frames in files with a build ID are sent without names,
//! and Parca symbolizes them with the debug info that `debug_info` uploads.
//!
//! Needs Parca 0.20 or newer, or a compatible server. Source: Parca 0.28.

mod config;
mod debug_info;
mod encode;
#[rustfmt::skip]
#[allow(dead_code, reason = "generated")]
mod proto;
mod retry;

use std::sync::Arc;

use super::send_plan::{Acceptance, SendPlan, lower_limit};
use super::symbolize::Symbolize;
use crate::batch::{Answer, Batch, Failure};
use crate::config::ConfigError;
use crate::debug_info::{DebugInfoSource, Uploader};
use crate::transport::{Compression, Disposition, Grpc, ResponseCounts};
use encode::Encoder;
use proto::WriteRawResponse;
use retry::POLICY;

pub use config::Config;

/// The method that takes profiles.
const WRITE_RAW: &str = "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw";

/// Sends batches to one Parca.
pub struct Sink {
    grpc: Grpc,
    symbolize: Symbolize,
    is_gzip: bool,
    /// Largest request in bytes; lowered once the server has found one too large.
    request_limit: usize,
    plan: SendPlan,
    uploader: Option<Uploader>,
}

impl Sink {
    /// Checks the configuration; connects to nothing. Must be called within a tokio runtime, on
    /// which debug info of `debug_info` is uploaded from now on.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(
        config: &Config,
        debug_info: Option<&Arc<dyn DebugInfoSource>>,
    ) -> Result<Self, ConfigError> {
        let source = debug_info.filter(|_| config.uploads_debug_info());
        let uploader = source.map(|source| debug_info::start(&config.connection, source));
        Ok(Self {
            // The pprof messages inside are compressed.
            grpc: Grpc::new(&config.connection)?.without_compression(),
            symbolize: config.symbolize,
            is_gzip: config.connection.compression == Compression::Gzip,
            request_limit: config.request_bytes_max as usize,
            plan: SendPlan::new(Acceptance::Whole),
            uploader: uploader.transpose()?,
        })
    }

    /// Returns the server's responses since the last call, by code.
    pub fn take_responses(&mut self) -> ResponseCounts {
        self.grpc.take_responses()
    }

    /// Sends what the server does not have yet of a batch.
    pub async fn send(&mut self, batch: &Batch) -> Answer {
        let Some(encoder) = Encoder::new(batch, self.symbolize) else {
            let text = "the batch has no samples/count".to_owned();
            return Answer::Rejected { reason: Failure::Defect, text };
        };
        if let Some(uploader) = &self.uploader {
            uploader.offer(batch);
        }
        self.plan.begin(batch, || encode::pieces(batch));
        while let Some(pieces) = self.plan.front() {
            let request = encoder.request(pieces, self.is_gzip);
            if request.len() > self.request_limit {
                self.plan.split_front("a single stack is larger than a request may be");
                continue;
            }
            if let Some(answer) = self.write(request).await {
                return answer;
            }
        }
        self.plan.answer()
    }

    /// Sends the front request. Returns an answer if that ends the attempt.
    async fn write(&mut self, request: Vec<u8>) -> Option<Answer> {
        let length = request.len();
        match self.grpc.unary::<WriteRawResponse>(WRITE_RAW, request.into()).await {
            Ok(response) => {
                self.plan.accepted(response.sent_bytes, 0, "");
                None
            }
            Err(error) => {
                let failed = POLICY.judge_call(error);
                if matches!(failed.disposition, Disposition::Split { .. }) {
                    self.request_limit = lower_limit(self.request_limit, length);
                }
                self.plan.failed(failed, length)
            }
        }
    }
}
