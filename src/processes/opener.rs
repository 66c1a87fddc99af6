//! Opens the files behind mappings, on threads of its own: a file system may never answer.
//!
//! The file of a mapping is the mapping itself where the kernel lets us, else its path in the process's root, else in
//! ours. A path may lead to another file by now, so it counts only if it has the identity that the kernel told.
//!
//! Whoever asks waits a little. A thread that has not answered by then is left to its file and another takes its
//! place; until it comes back, nothing else in that file's directory is opened.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::content::Content;
use super::elf::{self, Elf};
use crate::events::{FileIdentity, Mapped};

/// How long a file may take to open. One in a page cache takes microseconds, one on a slow disk milliseconds.
const PATIENCE: Duration = Duration::from_millis(250);
/// Threads that may wait for file systems that do not answer.
const LOST_MAX: usize = 16;

/// A file that was opened, and what it says of itself.
#[derive(Debug)]
pub(super) struct Opened {
    pub file: File,
    pub elf: Elf,
    pub content: Content,
}

/// The threads that open files.
#[derive(Debug, Default)]
pub(super) struct Opener {
    worker: Option<Worker>,
    /// Threads that have not answered, by the directory that they wait in.
    lost: HashMap<Box<str>, Worker>,
}

#[derive(Debug)]
struct Worker {
    wanted: Sender<Mapped>,
    opened: Receiver<io::Result<Opened>>,
}

impl Opener {
    /// Opens the file of a mapping and reads its headers.
    ///
    /// # Errors
    /// As opening does; `TimedOut` when there was no answer.
    pub fn open(&mut self, mapped: &Mapped) -> io::Result<Opened> {
        // One that has answered by now has something that nobody waits for any more, and ends.
        self.lost.retain(|_, worker| {
            worker.opened.try_recv().is_err_and(|e| e == mpsc::TryRecvError::Empty)
        });
        let directory = directory(&mapped.path);
        if self.lost.contains_key(directory) || self.lost.len() >= LOST_MAX {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::spawn()?,
        };
        let _ = worker.wanted.send(mapped.clone()); // a dead thread does not answer: see below
        match worker.opened.recv_timeout(PATIENCE) {
            Ok(opened) => {
                self.worker = Some(worker);
                opened
            }
            Err(RecvTimeoutError::Timeout) => {
                self.lost.insert(directory.into(), worker);
                Err(io::ErrorKind::TimedOut.into())
            }
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the opening thread died")),
        }
    }
}

impl Worker {
    fn spawn() -> io::Result<Self> {
        let (wanted, requests) = mpsc::channel();
        let (answers, opened) = mpsc::channel();
        thread::Builder::new().name("opener".into()).spawn(move || {
            for mapped in requests {
                if answers.send(open(&mapped)).is_err() {
                    break; // nobody waits any more
                }
            }
        })?;
        Ok(Self { wanted, opened })
    }
}

fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn open(mapped: &Mapped) -> io::Result<Opened> {
    let (file, elf) = open_file(mapped)?;
    let content = Content::of(&file, &elf)?;
    Ok(Opened { file, elf, content })
}

fn open_file(mapped: &Mapped) -> io::Result<(File, Elf)> {
    open_mapping(mapped)
        .or_else(|_| {
            open_checked(&format!("/proc/{}/root{}", mapped.tid, mapped.path), &mapped.file)
        })
        .or_else(|_| open_checked(&mapped.path, &mapped.file))
}

fn open_mapping(mapped: &Mapped) -> io::Result<(File, Elf)> {
    let Mapped { tid, start, end, .. } = mapped;
    let path = format!("/proc/{tid}/map_files/{start:x}-{end:x}");
    let (file, elf) = open_regular(&path)?;
    match &mapped.file {
        // The process may have mapped another file there since.
        FileIdentity::BuildId(id) if elf.build_id.as_ref() != Some(id) => {
            Err(io::ErrorKind::NotFound.into())
        }
        _ => Ok((file, elf)),
    }
}

fn open_checked(path: &str, identity: &FileIdentity) -> io::Result<(File, Elf)> {
    let (file, elf) = open_regular(path)?;
    let is_it = match identity {
        FileIdentity::BuildId(id) => elf.build_id.as_ref() == Some(id),
        FileIdentity::Inode { major, minor, inode } => {
            let found = file.metadata()?;
            let device = found.dev();
            (rustix::fs::major(device), rustix::fs::minor(device), found.ino())
                == (*major, *minor, *inode)
        }
    };
    if is_it { Ok((file, elf)) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Opens a regular file and nothing else: opening a pipe or a device can block or do something.
fn open_regular(path: &str) -> io::Result<(File, Elf)> {
    let harmless = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(harmless.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let elf = elf::read(&file).unwrap_or_default();
    Ok((file, elf))
}
