//! The attackers: programs of several users that have no privileges.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};

use super::common::{TempDir, compile, directory};
use super::files;

/// Users without privileges, one for each kind of attack.
const FIRST_UID: u32 = 60_001;

/// Programs that run until they are dropped, with all of their children.
pub struct Attackers {
    place: TempDir,
    running: Vec<Child>,
    users: u32,
    seconds_max: u64,
}

impl Attackers {
    /// Starts every attack, for this time at most and a minute. `address`: of the agent's HTTP
    /// port on localhost.
    pub fn start(address: &str, time: Duration) -> Self {
        let seconds_max = time.as_secs() + 60;
        let mut attackers = Self { place: directory(), running: Vec::new(), users: 0, seconds_max };
        attackers.start_floods(address);
        attackers.start_files();
        attackers.start_mappings();
        attackers.start_storms();
        attackers
    }

    fn start_floods(&mut self, address: &str) {
        let flood = self.compile("http_flood");
        let user = self.next_user();
        let (_, port) = address.rsplit_once(':').unwrap();
        for (path, processes, how) in
            [("/metrics", "8", "wait"), ("/", "2", "drop"), ("/healthz", "2", "silent")]
        {
            self.run(&flood, &[port, path, processes, how], user);
        }
    }

    fn start_files(&mut self) {
        let user = self.next_user();
        for number in 0..6 {
            let file = files::sparse_debug_info(self.place.path(), &format!("sparse{number}"));
            self.run(&file, &[], user);
        }
        let user = self.next_user();
        for number in 0..10 {
            let file = files::enormous_names(self.place.path(), &format!("names{number}"));
            self.run(&file, &[], user);
        }
    }

    fn start_mappings(&mut self) {
        let mapper = self.compile("attack/mapper");
        let file = mapper.to_str().unwrap();
        let user = self.next_user();
        for number in 0..40 {
            let kind = if number < 30 { "file" } else { "changing" };
            self.run(&mapper, &[file, "60000", kind], user);
        }
        let user = self.next_user();
        self.run(&mapper, &[file, "5000", "files"], user);
        self.run(&mapper, &[file, "20000", "anonymous"], user);
        self.run(&mapper, &[file, "1000", "forked"], user);
    }

    fn start_storms(&mut self) {
        let storm = self.compile("attack/storm");
        let user = self.next_user();
        for kind in ["fork", "exec", "threads"] {
            self.run(&storm, &[kind], user);
        }
        let user = self.next_user();
        for kind in ["vfork", "rename", "map"] {
            self.run(&storm, &[kind], user);
        }
    }

    fn compile(&self, name: &str) -> PathBuf {
        let output = name.replace('/', "-");
        compile(&format!("{name}.c"), self.place.path(), &output)
    }

    fn next_user(&mut self) -> u32 {
        self.users += 1;
        FIRST_UID + self.users
    }

    /// Runs a program at the lowest priority, so that it leaves CPU time to a bystander. It ends
    /// by itself if this test is killed.
    fn run(&mut self, program: &Path, arguments: &[&str], user: u32) {
        fs::set_permissions(self.place.path(), Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("timeout");
        command.args(["-s", "KILL", &self.seconds_max.to_string()]);
        command.args(["nice", "-n", "19"]).arg(program).args(arguments);
        command.uid(user).gid(user).process_group(0).current_dir("/");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        self.running.push(child);
    }

    /// Asserts that every attacker is still running.
    pub fn assert_running(&mut self) {
        for child in &mut self.running {
            assert_eq!(child.try_wait().unwrap(), None, "an attack has ended early");
        }
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        for child in &mut self.running {
            let group = Pid::from_child(child);
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
            let _ = child.wait();
        }
    }
}
