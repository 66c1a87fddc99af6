//! The worker: decodes the machine code of files.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use unwind::derived::derive;

use super::proto::{DeriveRequest, DeriveResponse};
use crate::workers;

/// Ranges of a file that are closer together than this, in bytes, are reported as one.
const GAP: u64 = 4096;

/// Runs the worker: answers until the agent closes the socket.
///
/// # Errors
/// When the socket breaks or a request is malformed.
pub fn serve(socket: BorrowedFd<'_>) -> io::Result<()> {
    workers::serve(socket, |request: DeriveRequest| {
        let file = File::open(&request.path).ok();
        (file.map(|file| answer(&file)).unwrap_or_default(), None)
    })
}

fn answer(file: &File) -> DeriveResponse {
    let read: RefCell<Vec<(u64, u64)>> = RefCell::default();
    let rows = derive(&|offset, bytes| {
        note(&mut read.borrow_mut(), offset, bytes.len() as u64);
        file.read_exact_at(bytes, offset).is_ok()
    });
    DeriveResponse::new(&rows.unwrap_or_default(), &read.into_inner())
}

/// Notes bytes that are read, joined with the last ones if they nearly touch: code is read forward.
fn note(read: &mut Vec<(u64, u64)>, offset: u64, bytes: u64) {
    if let Some((start, known)) = read.last_mut()
        && (*start..=(*start + *known).saturating_add(GAP)).contains(&offset)
    {
        *known = (*known).max((offset - *start).saturating_add(bytes));
    } else {
        read.push((offset, bytes));
    }
}
