//! Frames on the Unix stream socket between agent and worker.
//!
//! ```text
//! bytes of the message   u64, little-endian
//! CPU time of the sender u64, nanoseconds so far; 0 from the agent
//! its peak memory        u64, KiB; 0 from the agent
//! message                protobuf
//! ```
//! Open files travel along as SCM_RIGHTS of the first byte (unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use prost::Message;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::time::Timespec;

use super::Usage;

const HEADER_BYTES: usize = 24;
/// Most files that travel along with a message.
const FILES_MAX: usize = 4;
/// Longest message that is accepted, in bytes.
const MESSAGE_MAX: u64 = 64 << 20;
/// Memory for a message grows by this much at a time, so that a wrong length costs nothing.
const PIECE_BYTES: usize = 1 << 20;
/// How often a waiting receiver checks whether to stop.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// How long the rest of a frame may take: the sender has all of it.
const FRAME_MAX: Duration = Duration::from_secs(10);

/// When to stop waiting for an answer.
#[derive(Clone, Copy)]
pub struct Timeout<'a> {
    /// Longest time to wait. It begins when the worker is ready and has the request: on a slow
    /// machine the start of a worker takes longer than most requests may.
    pub after: Duration,
    /// Returns whether to stop before that time.
    pub is_cancelled: &'a dyn Fn() -> bool,
}

impl Timeout<'_> {
    /// A timeout after this time and not before.
    pub fn after(after: Duration) -> Self {
        Self { after, is_cancelled: &|| false }
    }
}

/// Returns why to stop waiting, if there is a reason.
pub(super) type Check<'a> = &'a dyn Fn() -> Option<Stop>;

/// Why the receiver stopped waiting before its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The caller needs no answer any more.
    Cancelled,
    /// The worker exceeds a limit of the request.
    Exceeded(Limit),
}

/// A limit of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// CPU time.
    Cpu,
    /// Memory.
    Memory,
}

/// How long to wait for a frame.
pub(super) struct Wait<'a> {
    pub after: Duration,
    /// Called every few milliseconds.
    pub check: Check<'a>,
}

/// What came of waiting for a frame.
#[derive(Debug)]
pub(super) enum Received {
    Frame(Frame),
    /// The other side has closed the socket between two frames.
    Closed,
    /// Nothing came in time; the frame can still be received later.
    NotYet,
    /// The check said so.
    Stopped(Stop),
}

/// What a worker or the agent has received.
#[derive(Debug)]
pub(super) struct Frame {
    message: Vec<u8>,
    /// What the sender has used so far.
    pub usage: Usage,
    /// The open files that came along.
    pub files: Vec<OwnedFd>,
}

impl Frame {
    /// Decodes the message.
    pub fn decode<M: Message + Default>(&self) -> io::Result<M> {
        M::decode(&*self.message).map_err(io::Error::other)
    }
}

/// Sends a message, and at most four files with it.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    usage: Usage,
    message: &impl Message,
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let numbers = [message.encoded_len() as u64, usage.cpu.as_nanos() as u64, usage.peak_rss_kib];
    let mut frame: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    message.encode(&mut frame).map_err(io::Error::other)?;
    let mut unsent = &frame[..];
    let mut files = &files[..files.len().min(FILES_MAX)];
    while !unsent.is_empty() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(files));
        }
        let iov = [IoSlice::new(unsent)];
        let sent = retry_on_intr(|| sendmsg(socket, &iov, &mut ancillary, SendFlags::NOSIGNAL))?;
        (unsent, files) = (&unsent[sent..], &[]);
    }
    Ok(())
}

/// Receives a frame. Once its first byte is there, all of it is waited for.
///
/// # Errors
/// As reading does; for a frame that is malformed, or that does not end in [`FRAME_MAX`].
pub(super) fn receive(socket: BorrowedFd<'_>, wait: Option<Wait<'_>>) -> io::Result<Received> {
    if let Some(Wait { after, check }) = wait {
        match wait_for_data(socket, Instant::now() + after, check)? {
            Waited::Ready => {}
            Waited::TimedOut => return Ok(Received::NotYet),
            Waited::Stopped(stop) => return Ok(Received::Stopped(stop)),
        }
        return receive_now(socket, Some(Instant::now() + FRAME_MAX));
    }
    receive_now(socket, None)
}

fn receive_now(socket: BorrowedFd<'_>, until: Option<Instant>) -> io::Result<Received> {
    let mut receiver = Receiver { socket, until, files: Vec::new() };
    let mut header = [0; HEADER_BYTES];
    match receiver.fill(&mut header)? {
        0 => return Ok(Received::Closed),
        HEADER_BYTES => {}
        _ => return Err(io::ErrorKind::UnexpectedEof.into()),
    }
    let mut numbers = header.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number));
    let mut next = || numbers.next().unwrap_or_default();
    let (length, cpu_ns, peak_rss_kib) = (next(), next(), next());
    if length > MESSAGE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"));
    }
    let length = length as usize;
    let mut message = Vec::new();
    while message.len() < length {
        let filled = message.len();
        message.resize(length.min(filled + PIECE_BYTES), 0);
        if receiver.fill(&mut message[filled..])? < message.len() - filled {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let usage = Usage { cpu: Duration::from_nanos(cpu_ns), peak_rss_kib };
    Ok(Received::Frame(Frame { message, usage, files: receiver.files }))
}

/// How waiting for data has ended.
enum Waited {
    Ready,
    TimedOut,
    Stopped(Stop),
}

fn wait_for_data(socket: BorrowedFd<'_>, until: Instant, check: Check<'_>) -> io::Result<Waited> {
    loop {
        let left = until.saturating_duration_since(Instant::now()).min(CHECK_INTERVAL);
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        if retry_on_intr(|| poll(&mut polled, Some(&timeout)))? > 0 {
            return Ok(Waited::Ready);
        }
        if let Some(stop) = check() {
            return Ok(Waited::Stopped(stop));
        }
        if left.is_zero() {
            return Ok(Waited::TimedOut);
        }
    }
}

struct Receiver<'a> {
    socket: BorrowedFd<'a>,
    /// The latest time to wait until.
    until: Option<Instant>,
    files: Vec<OwnedFd>,
}

impl Receiver<'_> {
    /// Reads until the buffer is full or the other side has closed; returns the bytes read.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            self.wait()?;
            match self.read(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    /// Waits until there is something to read.
    fn wait(&self) -> io::Result<()> {
        let Some(until) = self.until else { return Ok(()) };
        match wait_for_data(self.socket, until, &|| None)? {
            Waited::Ready => Ok(()),
            Waited::TimedOut | Waited::Stopped(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| {
            let mut iov = [IoSliceMut::new(buffer)];
            recvmsg(self.socket, &mut iov, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(files) = message {
                self.files.extend(files);
            }
        }
        Ok(received.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    fn sockets() -> (UnixStream, UnixStream) {
        UnixStream::pair().expect("a pair of sockets")
    }

    fn received(socket: &UnixStream) -> io::Result<Received> {
        receive(socket.as_fd(), Some(Wait { after: Duration::from_secs(10), check: &|| None }))
    }

    fn frame(socket: &UnixStream) -> Frame {
        match received(socket).expect("received") {
            Received::Frame(frame) => frame,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_arrives_with_its_file_and_the_usage_of_its_sender() {
        let (agent, worker) = sockets();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"content").expect("written");
        let usage = Usage { cpu: Duration::from_nanos(12), peak_rss_kib: 34 };
        send(worker.as_fd(), usage, &"text".to_owned(), &[file.as_fd(), file.as_fd()])
            .expect("sent");
        let mut frame = frame(&agent);
        assert_eq!(frame.files.len(), 2);
        assert_eq!(
            (frame.decode::<String>().expect("a text"), frame.usage),
            ("text".into(), usage)
        );
        let (mut content, mut file) =
            (String::new(), File::from(frame.files.pop().expect("a file")));
        file.rewind().and_then(|()| file.read_to_string(&mut content)).expect("readable");
        assert_eq!(content, "content");
    }

    #[test]
    fn a_message_larger_than_the_socket_holds_arrives() {
        let (agent, worker) = sockets();
        let long = "x".repeat(3 * PIECE_BYTES + 5);
        thread::scope(|scope| {
            scope.spawn(|| send(worker.as_fd(), Usage::default(), &long, &[]).expect("sent"));
            let frame = frame(&agent);
            assert!(frame.decode::<String>().expect("a text") == long && frame.files.is_empty());
        });
    }

    #[test]
    fn a_closed_socket_ends_between_frames_only() {
        let (agent, worker) = sockets();
        drop(worker);
        assert!(matches!(received(&agent), Ok(Received::Closed)));
        for truncated in [&[1; 3][..], &[vec![1], vec![0; 23]].concat()] {
            let (agent, mut worker) = sockets();
            worker.write_all(truncated).expect("written");
            drop(worker);
            let error = received(&agent).expect_err("a truncated frame");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_rejected() {
        let (agent, mut worker) = sockets();
        worker.write_all(&[0xff; HEADER_BYTES]).expect("written");
        let error = received(&agent).expect_err("too long");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn waiting_ends_in_time_or_by_the_check_and_can_go_on() {
        let (agent, worker) = sockets();
        let wait = |after, stop: Option<Stop>| {
            receive(agent.as_fd(), Some(Wait { after, check: &|| stop }))
        };
        let (soon, late) = (Duration::from_millis(20), Duration::from_secs(3600));
        assert!(matches!(wait(soon, None), Ok(Received::NotYet)));
        for stop in [Stop::Cancelled, Stop::Exceeded(Limit::Cpu)] {
            let stopped = wait(late, Some(stop));
            assert!(matches!(stopped, Ok(Received::Stopped(by)) if by == stop), "{stopped:?}");
        }
        send(worker.as_fd(), Usage::default(), &"late".to_owned(), &[]).expect("sent");
        assert_eq!(frame(&agent).decode::<String>().expect("a text"), "late");
    }
}
