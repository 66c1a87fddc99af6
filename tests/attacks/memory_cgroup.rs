//! A memory cgroup with a limit, in a hierarchy of its own (version 1) or the only one (version 2).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Cgroups that this process has created: each has a name of its own.
static CREATED: AtomicU32 = AtomicU32::new(0);

/// A memory cgroup. It is removed when it is dropped.
pub struct MemoryCgroup {
    directory: PathBuf,
    /// Names of the limit, the peak and the events in its version.
    files: [&'static str; 3],
}

impl MemoryCgroup {
    /// Creates a cgroup that kills what exceeds this many bytes.
    pub fn create(bytes: u64) -> Self {
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let (root, files) = if v1.join("cgroup.procs").exists() {
            (v1, ["memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control"])
        } else {
            (Path::new("/sys/fs/cgroup"), ["memory.max", "memory.peak", "memory.events"])
        };
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let name = format!("everytick-attacks-{}-{number}", std::process::id());
        let directory = root.join(name);
        fs::create_dir(&directory).expect("memory cgroups can be created");
        let this = Self { directory, files };
        fs::write(this.directory.join(files[0]), bytes.to_string()).unwrap();
        this
    }

    /// Returns a command that enters the cgroup and becomes `command`.
    pub fn enter(&self, command: Command) -> Command {
        let mut shell = Command::new("sh");
        let procs = self.directory.join("cgroup.procs");
        let script = "echo $$ > \"$1\" && shift && exec \"$@\"";
        shell.args(["-c", script, "sh"]).arg(procs).arg(command.get_program());
        shell.args(command.get_args());
        shell
    }

    /// Returns the processes that the kernel has killed for memory.
    pub fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.directory.join(self.files[2])).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.expect("the kernel counts kills").parse().unwrap()
    }

    /// Returns the largest memory in bytes, caches of files included.
    pub fn peak(&self) -> u64 {
        let text = fs::read_to_string(self.directory.join(self.files[1])).unwrap();
        text.trim().parse().unwrap()
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        // A process that was killed leaves it a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}
