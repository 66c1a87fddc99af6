//! What agent and file helper say to each other: one message a packet, the open file along with it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use prost::Message;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::processes::elf::Segment;

/// Longest message: a path, or the segments of a file.
const MESSAGE_MAX: usize = 32 << 10;

/// Asks for the file of a mapping.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Wanted {
    /// A thread of the process that maps it.
    #[prost(uint32, tag = "1")]
    pub tid: u32,
    /// First address of the mapping.
    #[prost(uint64, tag = "2")]
    pub start: u64,
    /// Address after the last.
    #[prost(uint64, tag = "3")]
    pub end: u64,
    /// Device of the file, major number.
    #[prost(uint32, tag = "4")]
    pub major: u32,
    /// Device of the file, minor number.
    #[prost(uint32, tag = "5")]
    pub minor: u32,
    /// Its number within the device.
    #[prost(uint64, tag = "6")]
    pub inode: u64,
    /// Its path in the process's root.
    #[prost(string, tag = "7")]
    pub path: String,
}

/// Tells of an opened file, which comes along, or why there is none.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Found {
    /// Number of the error; 0 when the file comes along.
    #[prost(int32, tag = "1")]
    pub errno: i32,
    /// Its build id; empty when it has none.
    #[prost(bytes = "vec", tag = "2")]
    pub build_id: Vec<u8>,
    /// Its load segments.
    #[prost(message, repeated, tag = "3")]
    pub segments: Vec<Segment>,
    /// Hash of all that is in it, where that tells it from others.
    #[prost(bytes = "vec", tag = "4")]
    pub hash: Vec<u8>,
    /// Nanoseconds of CPU time that the file helper has used so far.
    #[prost(uint64, tag = "5")]
    pub cpu_ns: u64,
    /// The most memory that the file helper has had so far, in KiB.
    #[prost(uint64, tag = "6")]
    pub peak_rss_kib: u64,
}

/// Sends a message, and a file with it.
pub(super) fn send(
    to: BorrowedFd<'_>,
    message: &impl Message,
    file: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let bytes = message.encode_to_vec();
    if bytes.len() > MESSAGE_MAX {
        return Err(Errno::MSGSIZE);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    let files = file.as_slice();
    if !files.is_empty() {
        along.push(SendAncillaryMessage::ScmRights(files));
    }
    sendmsg(to, &[IoSlice::new(&bytes)], &mut along, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a message and the file that comes along; `None` when the other side is gone.
pub(super) fn receive<M: Message + Default>(
    from: BorrowedFd<'_>,
) -> Result<Option<(M, Option<OwnedFd>)>, Errno> {
    let mut bytes = vec![0; MESSAGE_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut along, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None); // no message is empty: each names a thread, or tells of time
    }
    let mut files = along.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let file = files.next().and_then(|mut files| files.next());
    let message = M::decode(&bytes[..received.bytes]).map_err(|_| Errno::BADMSG)?;
    Ok(Some((message, file)))
}
