//! The debug info service: two calls of the Connect protocol, and a plain POST between them.
//!
//! Source: `pkg/debuginfo/store.go` of Pyroscope 2.2.

use prost::Message;

use super::limits::ConnectError;
use super::{State, wire};

/// Path prefix of an upload; the build ID follows.
pub const UPLOAD: &str = "/debuginfo.v1alpha1.DebuginfoService/Upload/";
/// Path prefix of calls.
const CALL: &str = "/debuginfo.v1alpha1.DebuginfoService/";

/// A file whose upload was initiated.
pub struct File {
    pub is_finished: bool,
    pub bytes: Vec<u8>,
}

impl State {
    /// Handles a call; returns `None` for an unknown method.
    pub fn debug_info_call(
        &mut self,
        path: &str,
        body: &[u8],
    ) -> Option<Result<Vec<u8>, ConnectError>> {
        match path.strip_prefix(CALL)? {
            "ShouldInitiateUpload" => Some(self.should_initiate(body)),
            "UploadFinished" => Some(self.finish(body)),
            _ => None,
        }
    }

    fn should_initiate(&mut self, body: &[u8]) -> Result<Vec<u8>, ConnectError> {
        let file = wire::ShouldInitiateUpload::decode(body).ok().and_then(|request| request.file);
        let file = file.filter(|file| [1, 2].contains(&file.kind)).ok_or_else(invalid)?;
        check_id(&file.gnu_build_id)?;
        let (should_initiate_upload, reason) = match self.files.get(&file.gnu_build_id) {
            None => (true, "First time we see this Build ID, therefore please upload!"),
            Some(File { is_finished: false, .. }) => (
                false,
                "A previous upload is still in-progress and not stale yet (only stale uploads \
                 can be retried).",
            ),
            Some(_) => (
                false,
                "Debuginfo already exists and is not marked as invalid, therefore no new \
                 upload is needed.",
            ),
        };
        if should_initiate_upload {
            self.files.insert(file.gnu_build_id, File { is_finished: false, bytes: Vec::new() });
        }
        Ok(wire::Decision { should_initiate_upload, reason: reason.into() }.encode_to_vec())
    }

    /// Stores the body of an upload unchanged; returns the HTTP status and response body.
    pub fn upload(&mut self, build_id: &str, body: &[u8]) -> (u16, Vec<u8>) {
        if check_id(build_id).is_err() {
            return (400, b"invalid gnu_build_id\n".to_vec());
        }
        match self.files.get_mut(build_id) {
            Some(file) if !file.is_finished => {
                file.bytes = body.to_vec();
                (200, Vec::new())
            }
            _ => (412, b"no pending upload for this build ID\n".to_vec()),
        }
    }

    fn finish(&mut self, body: &[u8]) -> Result<Vec<u8>, ConnectError> {
        let request = wire::UploadFinished::decode(body).map_err(|_| invalid())?;
        check_id(&request.gnu_build_id)?;
        let Some(file) = self.files.get_mut(&request.gnu_build_id) else {
            return Err(("not_found", "no upload metadata found".into()));
        };
        if file.is_finished {
            return Err(("failed_precondition", "upload is not in uploading state".into()));
        }
        if file.bytes.is_empty() {
            return Err(("failed_precondition", "no uploaded file found".into()));
        }
        file.is_finished = true;
        Ok(Vec::new())
    }
}

fn invalid() -> ConnectError {
    ("invalid_argument", "invalid request".into())
}

fn check_id(id: &str) -> Result<(), ConnectError> {
    let is_valid = (2..=40).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_valid { Ok(()) } else { Err(("invalid_argument", format!("invalid gnuBuildID {id:?}"))) }
}
