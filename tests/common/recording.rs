//! A recording that runs while a test does something.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::NamedTempFile;

use super::{Recorded, TempDir, directory, everytick, pause, signal};

/// Time within which a busy machine has started a recording.
const START_MAX: Duration = Duration::from_secs(120);
/// The thread of `everytick record` that starts when the clocks run.
const SAMPLING_THREAD: &str = "processor";

/// A running `everytick record` that writes `out.pb.gz` and `out.folded`. It is killed when it is
/// dropped.
pub struct Recording {
    directory: Option<TempDir>,
    stderr: NamedTempFile,
    child: Child,
}

impl Recording {
    /// Starts a recording with these arguments, `--` and what follows last, and waits until it
    /// samples.
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(arguments).sampling()
    }

    /// Waits until it samples.
    pub fn sampling(mut self) -> Self {
        let started = Instant::now();
        while self.is_running() && !is_sampling(self.pid()) {
            assert!(started.elapsed() < START_MAX, "it does not sample: {}", self.stderr());
            pause(20);
        }
        self
    }

    /// Starts a recording with these arguments.
    pub fn spawn(arguments: &[&str]) -> Self {
        Self::spawn_program(everytick(), arguments)
    }

    /// Starts a recording by a command that runs `everytick`, perhaps as another user.
    pub fn spawn_program(mut command: Command, arguments: &[&str]) -> Self {
        let (directory, stderr) = (directory(), NamedTempFile::new().unwrap());
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        command.args(["record", "-v", "-o", "out.pb.gz", "-o", "out.folded"]).args(arguments);
        command.current_dir(directory.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(stderr.reopen().unwrap()).spawn().unwrap();
        Self { directory: Some(directory), stderr, child }
    }

    /// Returns the directory of its files.
    pub fn path(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    /// Returns what it has printed so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.stderr.path()).unwrap()).into_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, what: Signal) {
        signal(&self.child, what);
    }

    /// Stops it as Ctrl-C does. Returns what it has recorded.
    pub fn stop(self) -> Recorded {
        self.signal(Signal::INT);
        self.finish()
    }

    /// Waits for its end, which must not be by a signal. Returns what it has recorded.
    pub fn finish(mut self) -> Recorded {
        let status = self.child.wait().unwrap();
        let stderr = self.stderr();
        assert_eq!(status.signal(), None, "killed: {stderr}");
        let directory = self.directory.take().unwrap();
        Recorded { directory, status: status.code().unwrap(), stderr }
    }

    /// Kills it. Returns its directory.
    pub fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.directory.take().unwrap()
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns whether a process that runs `everytick record` has started its clocks.
pub fn is_sampling(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut names = threads.filter_map(|t| fs::read_to_string(t.path().join("comm")).ok());
    names.any(|name| name.trim_end() == SAMPLING_THREAD)
}
