//! Debug info for Parca: the RPC sequence for each file.
//!
//! ```text
//! ShouldInitiateUpload -> no: never again, or later if another upload is in progress
//!                      -> yes: InitiateUpload -> GRPC:       Upload, a stream of chunks
//!                                             -> SIGNED_URL: HTTP PUT to that address
//!                              MarkUploadFinished
//! ```
//! Better debug info that is found later is sent with `force`. A server with default settings reads
//! for five seconds (`--http-read-timeout`), so a large file needs a fast network.
//!
//! Source: `pkg/debuginfo` of Parca 0.28.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tonic::Code;

use super::proto::upload_instructions::UploadStrategy;
use super::proto::upload_request::Data;
use super::proto::{
    BuildIdType, DebuginfoType, InitiateUploadRequest, InitiateUploadResponse,
    MarkUploadFinishedRequest, MarkUploadFinishedResponse, ShouldInitiateUploadRequest,
    ShouldInitiateUploadResponse, UploadInfo, UploadInstructions, UploadRequest, UploadResponse,
};
use crate::batch::Failure;
use crate::config::ConfigError;
use crate::debug_info::{
    DebugFile, DebugInfoSource, LOOK_AGAIN, PARALLEL, RETRY_AFTER, UploadOutcome, UploadProtocol,
    Uploader, read_ahead,
};
use crate::transport::{CallError, Connection, Grpc, Http, StreamedBody, TransportError};

/// How long one upload may take. Source: the server's `--debuginfo-upload-max-duration`.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(15 * 60);

const SHOULD_INITIATE: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/ShouldInitiateUpload";
const INITIATE: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/InitiateUpload";
const UPLOAD: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/Upload";
const FINISHED: &str = "/parca.debuginfo.v1alpha1.DebuginfoService/MarkUploadFinished";

/// Starts uploads on the current runtime.
pub(super) fn start(
    connection: &Connection,
    source: &Arc<dyn DebugInfoSource>,
) -> Result<Uploader, ConfigError> {
    let clients: Result<Vec<_>, _> = (0..PARALLEL).map(|_| UploadClient::new(connection)).collect();
    Ok(Uploader::start(clients?, source))
}

/// Client of the server's debug info service, for one file after the other.
struct UploadClient {
    grpc: Grpc,
    http: Http,
}

impl UploadProtocol for UploadClient {
    async fn offer(&mut self, build_id: &str, file: DebugFile, is_better: bool) -> UploadOutcome {
        match self.try_offer(build_id, file, is_better).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::debug!("the debug info of {build_id} was not uploaded: {error}");
                match error {
                    CallError::Status { code: Code::Unimplemented, .. } => {
                        UploadOutcome::Postponed(LOOK_AGAIN)
                    }
                    _ => UploadOutcome::Postponed(RETRY_AFTER),
                }
            }
        }
    }
}

impl UploadClient {
    fn new(connection: &Connection) -> Result<Self, ConfigError> {
        Ok(Self {
            // Not every server decompresses messages, and none says so before the upload.
            grpc: Grpc::new(connection)?.without_compression(),
            http: Http::new(connection)?,
        })
    }

    async fn try_offer(
        &mut self,
        build_id: &str,
        file: DebugFile,
        force: bool,
    ) -> Result<UploadOutcome, CallError> {
        let quality = file.quality();
        if let Some(outcome) = self.should_initiate(build_id, &file, force).await? {
            return Ok(outcome);
        }
        let length = file.length();
        let instructions = match self.initiate(build_id, &file, force).await {
            Ok(instructions) => instructions,
            Err(CallError::Status {
                code: Code::AlreadyExists | Code::InvalidArgument,
                text,
                ..
            }) => {
                tracing::debug!("the server rejects the debug info of {build_id}: {text}");
                return Ok(UploadOutcome::Stored(quality));
            }
            Err(error) => return Err(error),
        };
        let arrived = match instructions.upload_strategy() {
            UploadStrategy::Grpc => self.upload_by_grpc(build_id, &instructions, file).await?,
            UploadStrategy::SignedUrl => self.upload_by_put(&instructions, file).await?,
            UploadStrategy::Unspecified => {
                return Err(unknown_strategy(instructions.upload_strategy));
            }
        };
        if arrived != length {
            let text = format!("{arrived} of {length} bytes arrived");
            return Err(TransportError::new(Failure::Unreachable, text).into());
        }
        self.finished(build_id, &instructions).await?;
        tracing::debug!("uploaded the debug info of {build_id}, {length} bytes");
        Ok(UploadOutcome::Stored(quality))
    }

    /// Asks whether the server wants the file. Returns an outcome if not.
    async fn should_initiate(
        &mut self,
        build_id: &str,
        file: &DebugFile,
        force: bool,
    ) -> Result<Option<UploadOutcome>, CallError> {
        let request = ShouldInitiateUploadRequest {
            build_id: build_id.to_owned(),
            hash: file.hash().to_owned(),
            force,
            r#type: DebuginfoType::DebuginfoUnspecified.into(),
            build_id_type: BuildIdType::Gnu.into(),
        };
        let response: ShouldInitiateUploadResponse = self.ask(SHOULD_INITIATE, &request).await?;
        if response.should_initiate_upload {
            return Ok(None);
        }
        match response.reason.contains("still in-progress") {
            true => Ok(Some(UploadOutcome::Postponed(RETRY_AFTER))),
            false => Ok(Some(UploadOutcome::Stored(file.quality()))),
        }
    }

    async fn initiate(
        &mut self,
        build_id: &str,
        file: &DebugFile,
        force: bool,
    ) -> Result<UploadInstructions, CallError> {
        let request = InitiateUploadRequest {
            build_id: build_id.to_owned(),
            size: i64::try_from(file.length()).unwrap_or(i64::MAX),
            hash: file.hash().to_owned(),
            force,
            r#type: DebuginfoType::DebuginfoUnspecified.into(),
            build_id_type: BuildIdType::Gnu.into(),
        };
        let response: InitiateUploadResponse = self.ask(INITIATE, &request).await?;
        response.upload_instructions.ok_or_else(|| unknown_strategy(0))
    }

    /// Returns the number of bytes that have arrived.
    async fn upload_by_grpc(
        &mut self,
        build_id: &str,
        instructions: &UploadInstructions,
        file: DebugFile,
    ) -> Result<u64, CallError> {
        let info = UploadInfo {
            build_id: build_id.to_owned(),
            upload_id: instructions.upload_id.clone(),
            r#type: DebuginfoType::DebuginfoUnspecified.into(),
        };
        let first = UploadRequest { data: Some(Data::Info(info)) }.encode_to_vec();
        let message = |piece: Vec<u8>| {
            let data = Some(Data::ChunkData(piece.into()));
            Bytes::from(UploadRequest { data }.encode_to_vec())
        };
        let messages = read_ahead(file, Some(first.into()), message);
        let called = self.grpc.client_streaming::<UploadResponse>(UPLOAD, messages, UPLOAD_TIMEOUT);
        Ok(called.await?.message.size)
    }

    async fn upload_by_put(
        &mut self,
        instructions: &UploadInstructions,
        file: DebugFile,
    ) -> Result<u64, CallError> {
        let length = file.length();
        let body = StreamedBody { length, chunks: read_ahead(file, None, Bytes::from) };
        let reply =
            self.http.put_to_foreign(&instructions.signed_url, body, UPLOAD_TIMEOUT).await?;
        // Stores of objects answer without a body, also those that declare one of type HTML.
        let is_page = reply.content_type == "text/html" && !reply.body.is_empty();
        match reply.status {
            200..300 if !is_page => Ok(length),
            status => {
                let page = if is_page { " and a page of HTML" } else { "" };
                let text = format!("the server's store responds with {status}{page}");
                Err(TransportError::new(Failure::Unavailable, text).into())
            }
        }
    }

    async fn finished(
        &mut self,
        build_id: &str,
        instructions: &UploadInstructions,
    ) -> Result<(), CallError> {
        let request = MarkUploadFinishedRequest {
            build_id: build_id.to_owned(),
            upload_id: instructions.upload_id.clone(),
            r#type: DebuginfoType::DebuginfoUnspecified.into(),
        };
        self.ask::<MarkUploadFinishedResponse>(FINISHED, &request).await.map(|_| ())
    }

    async fn ask<A: Message + Default + 'static>(
        &mut self,
        path: &'static str,
        request: &impl Message,
    ) -> Result<A, CallError> {
        let called = self.grpc.unary(path, request.encode_to_vec().into()).await?;
        Ok(called.message)
    }
}

fn unknown_strategy(strategy: i32) -> CallError {
    let text = format!("the server asks for an unknown way of uploading ({strategy})");
    TransportError::new(Failure::Protocol, text).into()
}
