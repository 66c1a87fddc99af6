//! The worker's side: answers the requests of the agent.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use prost::Message;

use super::Usage;
use super::frame::{receive, send};

/// Announces that the worker is ready, then answers each request with a message and optionally an
/// open file, until the agent closes the socket.
///
/// # Errors
/// When the socket breaks or a request is malformed.
pub fn serve<Request: Message + Default, Response: Message>(
    socket: BorrowedFd<'_>,
    mut answer: impl FnMut(Request) -> (Response, Option<File>),
) -> io::Result<()> {
    send(socket, Usage::own(), &(), None)?;
    while let Some(frame) = receive(socket, None)? {
        let (response, file) = answer(frame.decode()?);
        send(socket, Usage::own(), &response, file.as_ref().map(AsFd::as_fd))?;
    }
    Ok(())
}
