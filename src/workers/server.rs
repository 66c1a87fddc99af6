//! The worker's side: answers the requests of the agent.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use prost::Message;
use rustix::thread::set_no_new_privs;

use super::Usage;
use super::frame::{Received, receive, send};

/// Announces that the worker is ready, then answers each request with a message and optionally an
/// open file, until the agent closes the socket.
///
/// First it gives up that a program which it executes could have more privileges than itself. That
/// is done here and not before the worker starts, because then this program would lose the
/// capabilities of its own file, which some machines give it in place of root.
///
/// # Errors
/// When the privileges cannot be fixed, the socket breaks or a request is malformed.
pub fn serve<Request: Message + Default, Response: Message>(
    socket: BorrowedFd<'_>,
    mut answer: impl FnMut(Request) -> (Response, Option<File>),
) -> io::Result<()> {
    set_no_new_privs(true)?;
    send(socket, Usage::own(), &(), None)?;
    while let Received::Frame(frame) = receive(socket, None)? {
        let (response, file) = answer(frame.decode()?);
        send(socket, Usage::own(), &response, file.as_ref().map(AsFd::as_fd))?;
    }
    Ok(())
}
