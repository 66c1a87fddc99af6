//! The CPUs of the machine: which are online, and the kernel's notices that this has changed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use std::{fs, io};

use profile::Cpu;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrAny, SocketFlags, SocketType, bind, recvfrom, socket_with,
};
use rustix::time::Timespec;

/// Multicast group of the kernel's own messages; udev sends to another one.
const KERNEL_GROUP: u32 = 1;
/// Bytes read of a message. Its first line is enough; the kernel drops the rest.
const MESSAGE_BYTES: usize = 256;
/// Messages read at once. Users can cause messages about devices, such as mounts of FUSE.
const MESSAGES_MAX: usize = 64;
/// More CPUs than any kernel supports.
const CPUS_MAX: u32 = 1 << 16;

/// Returns the online CPUs, in order.
///
/// # Errors
/// If `/sys/devices/system/cpu/online` cannot be read or is not a list.
pub fn online_cpus() -> io::Result<Vec<Cpu>> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online")?;
    parse_cpu_list(text.trim()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("not a list of CPUs: {text:?}"))
    })
}

/// Parses a list such as `0-3,8`. Numbers are below `CPUS_MAX`.
pub fn parse_cpu_list(text: &str) -> Option<Vec<Cpu>> {
    let mut cpus = Vec::new();
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend((first..=last).map(Cpu));
    }
    Some(cpus)
}

/// The kernel's notices that CPUs went offline or came online: uevents of the subsystem `cpu`.
///
/// A notice is only a reason to look: it arrives after the change, may be lost, and a process with
/// CAP_SYS_ADMIN can make one up.
#[derive(Debug)]
pub struct CpuNotices {
    socket: OwnedFd,
}

/// What ended [`wait_for_cpu_notice`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuWakeup {
    /// The other end of the pipe was closed.
    Stopped,
    /// The time is over, or messages about other devices have arrived.
    Nothing,
    /// Messages about these CPUs have arrived.
    Changed(Vec<Cpu>),
    /// Messages were lost: any CPU may have changed.
    Overflowed,
}

impl CpuNotices {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the kernel refuses the socket. In a network namespace of an unprivileged user namespace
    /// the socket opens and no message arrives.
    pub fn listen() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let protocol = Some(KOBJECT_UEVENT);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Self { socket })
    }

    /// Reads the waiting messages, some at most.
    fn read(&self) -> CpuWakeup {
        let mut cpus = Vec::new();
        for _ in 0..MESSAGES_MAX {
            let mut message = [0; MESSAGE_BYTES];
            match recvfrom(&self.socket, &mut message, RecvFlags::DONTWAIT) {
                Ok((bytes, _, sender)) => {
                    let bytes = &message[..bytes.min(MESSAGE_BYTES)];
                    cpus.extend(changed_cpu(bytes).filter(|_| is_kernel(sender)));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::NOBUFS) => return CpuWakeup::Overflowed,
                Err(_) => break, // no more messages
            }
        }
        if cpus.is_empty() { CpuWakeup::Nothing } else { CpuWakeup::Changed(cpus) }
    }
}

/// Waits for a notice until `timeout` has passed or the other end of the pipe `stop` is closed.
/// Without `notices` it waits for the time alone.
///
/// # Errors
/// If the kernel cannot wait.
pub fn wait_for_cpu_notice(
    notices: Option<&CpuNotices>,
    stop: BorrowedFd<'_>,
    timeout: Duration,
) -> io::Result<CpuWakeup> {
    let mut waits = vec![PollFd::from_borrowed_fd(stop, PollFlags::IN)];
    waits.extend(notices.map(|notices| PollFd::new(&notices.socket, PollFlags::IN)));
    let timeout = Timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match poll(&mut waits, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    if !waits[0].revents().is_empty() {
        return Ok(CpuWakeup::Stopped);
    }
    match (waits.get(1), notices) {
        (Some(wait), Some(notices)) if !wait.revents().is_empty() => Ok(notices.read()),
        _ => Ok(CpuWakeup::Nothing),
    }
}

impl AsFd for CpuNotices {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn is_kernel(sender: Option<SocketAddrAny>) -> bool {
    let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
    sender.is_some_and(|sender| sender.pid() == 0)
}

/// Returns the CPU of a message such as `online@/devices/system/cpu/cpu3`, which ends with a zero.
fn changed_cpu(message: &[u8]) -> Option<Cpu> {
    let line = message.split(|byte| *byte == 0).next()?;
    let (action, path) = std::str::from_utf8(line).ok()?.split_once('@')?;
    let number = path.strip_prefix("/devices/system/cpu/cpu")?;
    let is_change = ["online", "offline", "add", "remove"].contains(&action);
    number.parse().ok().filter(|_| is_change).map(Cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_cpu_lists() {
        let numbers =
            |text| parse_cpu_list(text).map(|cpus| cpus.iter().map(|cpu| cpu.0).collect());
        assert_eq!(numbers("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(numbers("0"), Some(vec![0]));
        for malformed in ["", "x", "1,", "-1", "3-1", "1-", "0-4294967295", "65536"] {
            assert_eq!(numbers(malformed), None::<Vec<u32>>, "{malformed}");
        }
    }

    #[test]
    fn notices_name_their_cpu() {
        let check = |message: &[u8], expected: Option<u32>| {
            assert_eq!(changed_cpu(message), expected.map(Cpu), "{message:?}");
        };
        check(b"offline@/devices/system/cpu/cpu1\0ACTION=offline\0", Some(1));
        check(b"online@/devices/system/cpu/cpu12", Some(12));
        check(b"add@/devices/virtual/bdi/0:50\0ACTION=add\0", None);
        check(b"change@/devices/system/cpu/cpu1\0", None);
        check(b"online@/devices/system/cpu/cpu\0", None);
        check(b"online@/devices/system/cpu/cpu99999999999\0", None);
        check(b"libudev\0\xfe\xed\xca\xfe", None);
        check(b"", None);
        check(&[0xff; MESSAGE_BYTES], None);
    }

    #[test]
    fn wait_ends_when_the_pipe_is_closed() {
        let (stopped, stop) = rustix::pipe::pipe().expect("a pipe");
        let wait = |timeout| {
            wait_for_cpu_notice(CpuNotices::listen().ok().as_ref(), stopped.as_fd(), timeout)
        };
        assert_ne!(wait(Duration::ZERO).expect("poll works"), CpuWakeup::Stopped);
        drop(stop);
        assert_eq!(wait(Duration::from_secs(600)).expect("poll works"), CpuWakeup::Stopped);
    }
}
