//! Opens what others chose the path of: first only to look at what is there.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Opens a path only to look at what is there.
pub(super) fn find(path: &str) -> io::Result<File> {
    Ok(rustix::fs::open(path, LOOK, Mode::empty())?.into())
}

/// Opens what was found if it is a regular file. Others chose the path, and opening a pipe or a
/// device can block or have effects.
pub(super) fn open_regular(found: &File) -> io::Result<File> {
    if !found.metadata()?.is_file() {
        return Err(Errno::INVAL.into());
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Opens the regular file at a path.
///
/// # Errors
/// As opening does; `InvalidInput` when it is no regular file.
pub fn open_regular_at(path: &str) -> io::Result<File> {
    open_regular(&find(path)?)
}

/// The root directory of a process. Paths are followed below it: no symbolic link leads out.
#[derive(Debug)]
pub(super) struct RootDirectory {
    directory: File,
    /// How far paths are followed.
    within: ResolveFlags,
}

impl RootDirectory {
    /// Opens the root of a process by one of its threads. Paths end where another file system is
    /// mounted: the process may have mounted one that never answers.
    ///
    /// # Errors
    /// When the thread has ended, or as opening does.
    pub fn of_thread(tid: u32) -> io::Result<Self> {
        Self::open(&format!("/proc/{tid}/root"), ResolveFlags::NO_XDEV)
    }

    /// Opens our own root.
    ///
    /// # Errors
    /// As opening does.
    pub fn own() -> io::Result<Self> {
        Self::open("/", ResolveFlags::empty())
    }

    fn open(path: &str, within: ResolveFlags) -> io::Result<Self> {
        let directory = rustix::fs::open(path, LOOK | OFlags::DIRECTORY, Mode::empty())?.into();
        let within = within | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(Self { directory, within })
    }

    /// Opens a path below the root only to look at what is there.
    ///
    /// # Errors
    /// As opening does; `NOSYS` or `PERM` when the kernel, or a filter of system calls, does not
    /// know how to follow a path below a root.
    pub fn find(&self, path: &str) -> rustix::io::Result<File> {
        self.find_with(path, LOOK, self.within)
    }

    /// Opens an entry of `/tmp`, whatever is mounted there, and the link itself if it is one.
    ///
    /// # Errors
    /// As opening does.
    pub fn find_temporary(&self, name: &str) -> rustix::io::Result<File> {
        let look = LOOK | OFlags::NOFOLLOW;
        let within = self.within.difference(ResolveFlags::NO_XDEV);
        match self.find_with(&format!("tmp/{name}"), look, within) {
            // Before Linux 5.6, and where a filter of system calls does not know it.
            Err(Errno::NOSYS | Errno::PERM) => {
                let directory = look | OFlags::DIRECTORY;
                let tmp = rustix::fs::openat(&self.directory, "tmp", directory, Mode::empty())?;
                Ok(rustix::fs::openat(&tmp, name, look, Mode::empty())?.into())
            }
            found => found,
        }
    }

    fn find_with(
        &self,
        path: &str,
        flags: OFlags,
        within: ResolveFlags,
    ) -> rustix::io::Result<File> {
        Ok(rustix::fs::openat2(&self.directory, path, flags, Mode::empty(), within)?.into())
    }
}
