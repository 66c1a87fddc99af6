//! Reaping of child processes, with what they have used.
//!
//! The standard library reaps a child without its resource usage, and a process that was killed
//! cannot report it itself.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// A child process that has exited and was reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReapedChild {
    /// CPU time, user and system.
    pub cpu: Duration,
    /// The most resident memory that it had, in KiB.
    pub peak_rss_kib: u64,
    /// The signal that killed it; `None` when it exited by itself.
    pub signal: Option<i32>,
}

/// Reaps a child process of the caller if it has exited; returns `None` while it runs.
///
/// # Errors
/// When there is no such child, for example because it was reaped before.
pub fn try_reap(pid: u32) -> io::Result<Option<ReapedChild>> {
    let pid = pid.try_into().map_err(io::Error::other)?;
    let (mut status, mut usage) = (0, MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both pointers are to memory of the right type that outlives the call.
    let reaped = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
    match reaped {
        0 => Ok(None),
        reaped if reaped == pid => {
            // SAFETY: a structure of numbers, for which zeros are valid, and the kernel wrote it.
            let usage = unsafe { usage.assume_init() };
            Ok(Some(ReapedChild {
                cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
                peak_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
                signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
            }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

fn duration(time: libc::timeval) -> Duration {
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_micros(part(time.tv_usec))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Instant;

    use super::*;

    fn reap(pid: u32) -> ReapedChild {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(child) = try_reap(pid).expect("a child") {
                return child;
            }
            assert!(Instant::now() < until, "it does not exit");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "it is reaped by what is tested")]
    fn killed_child_is_reaped_with_its_cpu_time_and_memory() {
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("sh");
        std::thread::sleep(Duration::from_millis(50));
        assert!(try_reap(child.id()).expect("a child").is_none(), "it runs");
        child.kill().expect("killed");
        let reaped = reap(child.id());
        assert!(reaped.cpu > Duration::ZERO && reaped.peak_rss_kib > 100, "{reaped:?}");
        assert_eq!(reaped.signal, Some(libc::SIGKILL));
        assert!(try_reap(child.id()).is_err(), "it is reaped once");
    }
}
