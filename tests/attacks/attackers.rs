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

/// Seconds that an attack goes on at most after its time, when the test is killed.
const EXTRA_SECONDS: u64 = 60;

/// Programs of several users, with their arguments.
pub struct Attack {
    place: TempDir,
    commands: Vec<(PathBuf, Vec<String>, u32)>,
    users: u32,
}

/// Programs that run until they are dropped, with all of their children.
pub struct Attackers {
    running: Vec<Child>,
    _place: TempDir,
}

impl Attack {
    /// Makes the programs of every attack. `address`: of the agent's HTTP port on localhost.
    pub fn prepare(address: &str) -> Self {
        let mut attack = Self { place: directory(), commands: Vec::new(), users: 0 };
        attack.add_floods(address);
        attack.add_files();
        attack.add_mappings();
        attack.add_storms();
        attack
    }

    /// Starts all programs, for this time at most and a minute.
    pub fn start(self, time: Duration) -> Attackers {
        fs::set_permissions(self.place.path(), Permissions::from_mode(0o755)).unwrap();
        let seconds_max = (time.as_secs() + EXTRA_SECONDS).to_string();
        let commands = self.commands.iter();
        let running =
            commands.map(|(program, arguments, user)| run(program, arguments, *user, &seconds_max));
        Attackers { running: running.collect(), _place: self.place }
    }

    fn add_floods(&mut self, address: &str) {
        let user = self.next_user();
        let flood = self.compile("http_flood", user);
        let (_, port) = address.rsplit_once(':').unwrap();
        for (path, processes, how) in
            [("/metrics", "8", "wait"), ("/", "2", "drop"), ("/healthz", "2", "silent")]
        {
            self.run(&flood, &[port, path, processes, how], user);
        }
    }

    fn add_files(&mut self) {
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

    fn add_mappings(&mut self) {
        let user = self.next_user();
        let mapper = self.compile("attack/mapper", user);
        let file = mapper.to_str().unwrap();
        for number in 0..40 {
            let kind = if number < 30 { "file" } else { "changing" };
            self.run(&mapper, &[file, "60000", kind], user);
        }
        let user = self.next_user();
        let mapper = self.compile("attack/mapper", user);
        let file = mapper.to_str().unwrap();
        for (count, kind) in [("5000", "files"), ("20000", "anonymous"), ("1000", "forked")] {
            self.run(&mapper, &[file, count, kind], user);
        }
    }

    fn add_storms(&mut self) {
        for kinds in [["fork", "exec", "threads"], ["vfork", "rename", "map"]] {
            let user = self.next_user();
            let storm = self.compile("attack/storm", user);
            for kind in kinds {
                self.run(&storm, &[kind], user);
            }
        }
    }

    /// Compiles a program for a user.
    fn compile(&self, name: &str, user: u32) -> PathBuf {
        let output = format!("{}-{user}", name.replace('/', "-"));
        compile(&format!("{name}.c"), self.place.path(), &output)
    }

    fn next_user(&mut self) -> u32 {
        self.users += 1;
        FIRST_UID + self.users
    }

    /// Adds a program of a user.
    fn run(&mut self, program: &Path, arguments: &[&str], user: u32) {
        std::os::unix::fs::chown(program, Some(user), Some(user)).unwrap();
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.commands.push((program.to_owned(), arguments, user));
    }
}

/// Runs a program of this user at the lowest priority, so that it leaves CPU time to a bystander.
/// It ends by itself if this test is killed.
fn run(program: &Path, arguments: &[String], user: u32, seconds_max: &str) -> Child {
    let mut command = Command::new("timeout");
    command.args(["-s", "KILL", seconds_max, "nice", "-n", "19"]).arg(program).args(arguments);
    command.uid(user).gid(user).process_group(0).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

impl Attackers {
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
