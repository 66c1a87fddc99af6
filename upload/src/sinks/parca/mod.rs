//! The sink for Parca: profiles by gRPC, and debug info for those that it names itself.
//!
//! A batch goes in one `WriteRaw` request, or in several where it is larger than the server takes. All its
//! series bear the same time and duration, from which Parca finds rates. With [`Symbolize::Server`] frames in
//! files with a build id go without names, and Parca finds these in the debug info that `debug_info` uploads.
//!
//! Needs Parca 0.20 or newer, or what speaks like it. Source: Parca 0.28.

mod debug_info;
mod encode;
mod proto;

use std::sync::Arc;

use serde::Deserialize;

use crate::batch::{Answer, Batch, Failure};
use crate::debug_info::DebugInfoSource;
use crate::debug_info::Uploader;
use crate::sinks::StartError;
use crate::sinks::parts::{Parts, request_limit, smaller};
pub use crate::sinks::symbolize::Symbolize;
use crate::transport::{Compression, Connection, Grpc, Rules, Verdict, of_call};
use encode::Prepared;
use proto::WriteRawResponse;

/// The method that takes profiles.
const WRITE_RAW: &str = "/parca.profilestore.v1alpha1.ProfileStoreService/WriteRaw";
/// Largest request that can be asked for: what the server takes, less head room.
const REQUEST_BYTES_MAX: usize = 60 << 20;

/// Where and how.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The server and how to reach it. `compression` is that of the pprof messages in a request.
    #[serde(flatten)]
    pub connection: Connection,
    /// Who finds the names of functions.
    pub symbolize: Symbolize,
    /// Upload debug info. Without it: yes if the server finds names, no if the agent does.
    pub debug_info: Option<bool>,
    /// Largest request in bytes. Parca takes 64 MiB, what is before it may take less.
    pub request_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connection: Connection::default(),
            symbolize: Symbolize::Agent,
            debug_info: None,
            // What Parca Agent sends at most.
            request_bytes_max: 32 << 20,
        }
    }
}

impl Settings {
    /// Whether debug info is to be uploaded.
    fn uploads(&self) -> bool {
        self.debug_info.unwrap_or(self.symbolize == Symbolize::Server)
    }
}

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
    /// What is wrong with the settings.
    pub fn new(
        settings: &Settings,
        debug_info: Option<&Arc<dyn DebugInfoSource>>,
    ) -> Result<Self, StartError> {
        let limit = request_limit(settings.request_bytes_max, REQUEST_BYTES_MAX)?;
        let source = debug_info.filter(|_| settings.uploads());
        let uploader = source.map(|source| debug_info::start(&settings.connection, source));
        Ok(Self {
            // The messages in it are compressed.
            grpc: Grpc::new(&settings.connection)?.without_compression(),
            symbolize: settings.symbolize,
            gzip: settings.connection.compression == Compression::Gzip,
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
