//! Debug info for Pyroscope: the RPC sequence for each file.
//!
//! ```text
//! ShouldInitiateUpload -> no: never again, or later if another upload is in progress
//!                      -> yes: Upload, a POST of the unmodified file
//!                              UploadFinished
//! ```
//! The server never replaces what it has. A server older than 2.0 has no such service; it is asked
//! again after an hour.
//!
//! Source: `pkg/debuginfo` of Pyroscope 2.2.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::proto::file_metadata::Type;
use super::proto::{
    FileMetadata, ShouldInitiateUploadRequest, ShouldInitiateUploadResponse, UploadFinishedRequest,
};
use crate::batch::Failure;
use crate::config::ConfigError;
use crate::debug_info::{
    DebugFile, DebugInfoSource, LOOK_AGAIN, PARALLEL, RETRY_AFTER, UploadOutcome, UploadProtocol,
    Uploader, read_ahead,
};
use crate::transport::{Connection, Http, Reply, StreamedBody, TransportError, shorten};

/// How long one upload may take. Source: the server's `-debug-info.upload-timeout`.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest build id, in hexadecimal digits.
const BUILD_ID_MAX: usize = 40;

const SHOULD_INITIATE: &str = "/debuginfo.v1alpha1.DebuginfoService/ShouldInitiateUpload";
const UPLOAD: &str = "/debuginfo.v1alpha1.DebuginfoService/Upload";
const FINISHED: &str = "/debuginfo.v1alpha1.DebuginfoService/UploadFinished";

/// Starts uploads on the current runtime.
pub(super) fn start(
    connection: &Connection,
    source: &Arc<dyn DebugInfoSource>,
) -> Result<Uploader, ConfigError> {
    let client = || Ok(UploadClient { http: Http::new(connection)? });
    let clients: Result<Vec<_>, ConfigError> = (0..PARALLEL).map(|_| client()).collect();
    Ok(Uploader::start(clients?, source))
}

/// Client of the server's debug info service, for one file after the other.
struct UploadClient {
    http: Http,
}

impl UploadProtocol for UploadClient {
    async fn offer(&mut self, build_id: &str, file: DebugFile, is_better: bool) -> UploadOutcome {
        if is_better || build_id.len() > BUILD_ID_MAX {
            return UploadOutcome::NoDebugInfo;
        }
        match self.try_offer(build_id, file).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::debug!("the debug info of {build_id} was not uploaded: {error}");
                match error.reason() {
                    Failure::Protocol => UploadOutcome::Postponed(LOOK_AGAIN),
                    _ => UploadOutcome::Postponed(RETRY_AFTER),
                }
            }
        }
    }
}

impl UploadClient {
    async fn try_offer(
        &mut self,
        build_id: &str,
        file: DebugFile,
    ) -> Result<UploadOutcome, TransportError> {
        let quality = file.quality();
        let answer = self.should_initiate(build_id).await?;
        if !answer.should_initiate_upload {
            return Ok(match answer.reason.contains("still in-progress") {
                true => UploadOutcome::Postponed(RETRY_AFTER),
                false => UploadOutcome::Stored(quality),
            });
        }
        let length = file.length();
        let body = StreamedBody { length, chunks: read_ahead(file, None, Bytes::from) };
        let path = format!("{UPLOAD}/{build_id}");
        let sent = self.http.post_stream(&path, "application/octet-stream", body, UPLOAD_TIMEOUT);
        success(&sent.await?)?;
        let finished = UploadFinishedRequest { gnu_build_id: build_id.to_owned() };
        self.ask::<()>(FINISHED, &finished).await?;
        tracing::debug!("uploaded the debug info of {build_id}, {length} bytes");
        Ok(UploadOutcome::Stored(quality))
    }

    async fn should_initiate(
        &mut self,
        build_id: &str,
    ) -> Result<ShouldInitiateUploadResponse, TransportError> {
        let file = FileMetadata {
            gnu_build_id: build_id.to_owned(),
            name: String::new(),
            r#type: Type::ExecutableNoText.into(),
        };
        let request = ShouldInitiateUploadRequest { file: Some(file) };
        self.ask(SHOULD_INITIATE, &request).await
    }

    /// Sends a request, and returns the message of a successful reply.
    async fn ask<M: Message + Default>(
        &mut self,
        path: &str,
        request: &impl Message,
    ) -> Result<M, TransportError> {
        let body = request.encode_to_vec().into();
        let reply = self.http.post(path, "application/proto", body).await?;
        success(&reply)?;
        reply.message().map_err(|text| {
            TransportError::new(Failure::Protocol, shorten(&format!("{} {text}", reply.status)))
        })
    }
}

/// Checks that a reply is a success.
fn success(reply: &Reply) -> Result<(), TransportError> {
    let reason = match reply.status {
        200..300 => return Ok(()),
        404 | 405 | 415 | 501 => Failure::Protocol,
        401 | 403 => Failure::Unauthenticated,
        _ => Failure::Unavailable,
    };
    let text = String::from_utf8_lossy(&reply.body);
    Err(TransportError::new(reason, shorten(&format!("{} {text}", reply.status))))
}
