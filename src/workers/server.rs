//! The worker's side: answers the requests of the agent.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use prost::Message;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::set_no_new_privs;

use super::Usage;
use super::frame::{Received, receive, send};
use crate::kernel::confine;

/// What a worker may do besides answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// Read the files that come with its requests, see [`confine`].
    Descriptors,
    /// All that the agent may, but execute programs with more privileges.
    None,
}

/// Announces that the worker is ready, then answers each request, and the files that came with it,
/// with a message and open files, until the agent closes the socket.
///
/// The kernel ends the worker with the thread that has started it: one that computes would not see
/// that the socket is closed. It drops its privileges first. The agent cannot drop them before the
/// worker starts: this program would lose the capabilities of its own file, which some machines use
/// in place of root.
///
/// # Errors
/// When the privileges cannot be given up, the socket breaks or a request is malformed.
pub fn serve<Request: Message + Default, Response: Message>(
    socket: BorrowedFd<'_>,
    confinement: Confinement,
    mut answer: impl FnMut(Request, Vec<File>) -> (Response, Vec<File>),
) -> io::Result<()> {
    let _ = Usage::own(); // opens what it is read from
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match confinement {
        Confinement::Descriptors => confine()?,
        Confinement::None => set_no_new_privs(true)?,
    }
    send(socket, Usage::own(), &(), &[])?;
    while let Received::Frame(frame) = receive(socket, None)? {
        let request = frame.decode()?;
        let (response, files) = answer(request, frame.files.into_iter().map(File::from).collect());
        let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        send(socket, Usage::own(), &response, &files)?;
    }
    Ok(())
}
