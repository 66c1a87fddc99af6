//! The priority of what must not come late.

/// Niceness of threads that wait most of the time, and whose work is lost if it is late. Their CPU
/// time has limits of its own.
const NICE: i32 = -10;

/// Raises the priority of this thread, so that it runs as soon as it has work on a machine where
/// many others do. Where that is refused the default priority remains.
pub fn raise_priority() {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
}
