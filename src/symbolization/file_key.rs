//! Which file an executable is, and its [`Owner`]: the user that owns the file, or for a file of
//! root the cgroup that runs it most, which for a container is its own.

use std::fs::File;

use profile::ExecutableId;
use rustix::fs::{AtFlags, StatxFlags};

use crate::limits::Owner;
use crate::processes::{Executable, ExecutableOrigin};

/// Identifies a file by its content, so that a process that is started again, and the same file in
/// another place, are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FileKey {
    /// Hash of the content, and the user that owns the file: a copy that pretends to have the
    /// content of a program of the system is another file.
    Content([u8; 32], u32),
    /// Code that has no content of its own.
    Executable(ExecutableId),
}

/// Returns which file an executable is, and its owner. `cgroup`: the one that runs it most.
pub(super) fn identify(id: ExecutableId, executable: &Executable, cgroup: u64) -> (FileKey, Owner) {
    let user = match &executable.origin {
        ExecutableOrigin::File(file) => user_of(file),
        _ => 0,
    };
    let key = match executable.content {
        Some(content) => FileKey::Content(content.hash, user),
        None => FileKey::Executable(id),
    };
    (key, if user == 0 { Owner::Group(cgroup) } else { Owner::User(user) })
}

/// Returns the size of the file of an executable in bytes; 0 without a file.
pub(super) fn size_of(executable: &Executable) -> u64 {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let attributes =
        executable.file().map(|file| rustix::fs::statx(file, "", flags, StatxFlags::SIZE));
    attributes.and_then(Result::ok).map_or(0, |attributes| attributes.stx_size)
}

/// Returns the user that owns a file, without a request to a network file system.
fn user_of(file: &File) -> u32 {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    rustix::fs::statx(file, "", flags, StatxFlags::UID).map_or(0, |attributes| attributes.stx_uid)
}
