//! The sink for Parca: profiles by gRPC, and debug info for those that it names itself.
//!
//! A batch goes in one `WriteRaw` request, or in several where it is larger than the server takes. All its
//! series bear the same time and duration, from which Parca finds rates. With [`Symbolize::Server`] frames in
//! files with a build id go without names, and Parca finds these in the debug info that `debug_info` uploads.
//!
//! Needs Parca 0.20 or newer, or what speaks like it. Source: Parca 0.28.

mod config;
mod debug_info;
mod encode;
mod proto;

use std::sync::Arc;

use crate::batch::{Answer, Batch, Failure};
use crate::debug_info::DebugInfoSource;
use crate::debug_info::Uploader;
use crate::sinks::StartError;
use crate::sinks::parts::{Parts, smaller};
use crate::sinks::symbolize::Symbolize;
use crate::transport::{Compression, Grpc, Rules, Verdict, of_call};
pub use config::Config;
use encode::Prepared;
use proto::WriteRawResponse;

/// The method that takes profiles.
const WRITE_RAW: &str = "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw";
/// Sends batches to one Parca.
pub struct Sink {
    grpc: Grpc,
    symbolize: Symbolize,
    gzip: bool,
    /// Largest request in bytes; less than the setting once the server has found one too large.
    limit: usize,
    parts: Parts,
    uploader: Option<Uploader>,
}

impl Sink {
    /// Checks the settings; sends nothing. To be called within a runtime of tokio, on which debug info
    /// is uploaded from then on if `debug_info` has any.
    ///
    /// # Errors
    /// What is wrong with the config.
    pub fn new(
        config: &Config,
        debug_info: Option<&Arc<dyn DebugInfoSource>>,
    ) -> Result<Self, StartError> {
        let limit = config.request_bytes_max as usize;
        let source = debug_info.filter(|_| config.uploads_debug_info());
        let uploader = source.map(|source| debug_info::start(&config.connection, source));
        Ok(Self {
            // The messages in it are compressed.
            grpc: Grpc::new(&config.connection)?.without_compression(),
            symbolize: config.symbolize,
            gzip: config.connection.compression == Compression::Gzip,
            limit,
            parts: Parts::default(),
            uploader: uploader.transpose()?,
        })
    }

    /// Sends what is not there yet of a batch.
    pub async fn send(&mut self, batch: &Batch) -> Answer {
        let Some(prepared) = Prepared::new(batch, self.symbolize) else {
            let text = "the window has no samples/count".to_owned();
            return Answer::Refused { reason: Failure::Defect, text };
        };
        if let Some(uploader) = &self.uploader {
            uploader.offer(batch);
        }
        self.parts.begin(batch, || encode::pieces(batch));
        while let Some(part) = self.parts.front() {
            let request = prepared.request(part, self.gzip);
            if request.len() > self.limit {
                self.parts.halve(batch, "a single stack is larger than a request may be");
                continue;
            }
            if let Some(answer) = self.write(batch, request).await {
                return answer;
            }
        }
        self.parts.answer()
    }

    /// Sends the part in front. Gives an answer if that ends this attempt.
    async fn write(&mut self, batch: &Batch, request: Vec<u8>) -> Option<Answer> {
        let length = request.len();
        let error = match self.grpc.unary::<WriteRawResponse>(WRITE_RAW, request.into()).await {
            Ok(called) => {
                self.parts.took(batch, called.sent_bytes, 0, "");
                return None;
            }
            Err(error) => error,
        };
        match of_call(error, Rules::Parca) {
            Verdict::Later { reason, after, text } => Some(Answer::Later { reason, after, text }),
            Verdict::InDoubt { text } => self.parts.doubt(batch, text),
            Verdict::TooLarge { text } => {
                self.limit = smaller(self.limit, length);
                self.parts.too_large(batch, length, &text)
            }
            Verdict::Never { reason, text } => {
                self.parts.refuse(batch, reason, &text);
                None
            }
        }
    }
}
