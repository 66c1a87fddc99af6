//! Cgroups of their own for programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Cgroups that this process has created: each has a name of its own.
static CREATED: AtomicU32 = AtomicU32::new(0);

/// A cgroup, which is removed when it is dropped.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Creates a cgroup and sets its limits. `v1`: controller, and files with their values; `v2`:
    /// files with their values.
    pub fn new(v1: (&str, &[(&str, &str)]), v2: &[(&str, &str)]) -> Self {
        let hierarchy = Path::new("/sys/fs/cgroup").join(v1.0);
        let is_v1 = hierarchy.is_dir();
        let top = if is_v1 { hierarchy } else { "/sys/fs/cgroup".into() };
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let this = Self::below(&top, &format!("everytick-test-{}-{number}", std::process::id()));
        for (file, value) in if is_v1 { v1.1 } else { v2 } {
            fs::write(this.0.join(file), value).unwrap();
        }
        this
    }

    /// Creates a cgroup without limits in the directory of another, or of a hierarchy.
    pub fn below(parent: &Path, name: &str) -> Self {
        let this = Self(parent.join(name));
        fs::create_dir(&this.0).unwrap();
        this
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Creates a cgroup with a limit of memory.
    pub fn with_memory(bytes: u64) -> Self {
        let limit = bytes.to_string();
        Self::new(("memory", &[("memory.limit_in_bytes", &limit)]), &[("memory.max", &limit)])
    }

    /// Creates a cgroup with this part of a CPU in every tenth of a second.
    pub fn with_cpu(part: f64) -> Self {
        let quota = ((part * 100_000.0) as u64).to_string();
        Self::new(
            ("cpu", &[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", &quota)]),
            &[("cpu.max", &format!("{quota} 100000"))],
        )
    }

    /// Returns a command that runs `command` in the cgroup.
    pub fn run(&self, command: &Command) -> Command {
        let script = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        let mut inside = Command::new("sh");
        inside.args(["-c", script]).arg(&self.0);
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }

    /// Returns the processes that the kernel has killed for memory.
    pub fn kills(&self) -> u64 {
        let text = self.read(["memory.events", "memory.oom_control"]);
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.expect("the kernel counts kills").parse().unwrap()
    }

    /// Returns the largest memory in bytes, caches of files included.
    pub fn peak(&self) -> u64 {
        self.read(["memory.peak", "memory.max_usage_in_bytes"]).trim().parse().unwrap()
    }

    /// Reads a file by the name that it has in this version of cgroups.
    fn read(&self, names: [&str; 2]) -> String {
        let paths = names.map(|name| self.0.join(name));
        let path = paths.iter().find(|path| path.exists()).expect("a memory cgroup");
        fs::read_to_string(path).unwrap()
    }

    /// Moves a process into the cgroup.
    pub fn add(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that was killed leaves it a moment later.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            super::pause(50);
        }
    }
}

/// A cgroup in the v2 hierarchy, removed with its processes.
pub struct UnifiedCgroup(PathBuf);

impl UnifiedCgroup {
    /// Creates it below the root of the hierarchy.
    pub fn create(path: &str) -> Self {
        let group = Self(mount().join(path.trim_start_matches('/')));
        fs::create_dir_all(&group.0).unwrap();
        group
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn add(&self, pid: &str) {
        fs::write(self.0.join("cgroup.procs"), pid).unwrap();
    }
}

impl Drop for UnifiedCgroup {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        super::pause(100); // killed processes exit
        let parents = self.0.ancestors().take_while(|parent| *parent != mount());
        parents.for_each(|parent| drop(fs::remove_dir(parent)));
    }
}

/// Returns where cgroup v2 is mounted.
fn mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.find(|fields| fields[2] == "cgroup2").expect("cgroup v2 is mounted")[1].into()
}
