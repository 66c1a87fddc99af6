//! The attackers: programs of several users that have no privileges.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::common::{TempDir, compile_with, directory};
use super::files;

/// Users without privileges, one for each kind of attack.
const FIRST_UID: u32 = 60_001;

/// Programs that run until they are dropped, with all of their children.
pub struct Attackers {
    place: TempDir,
    groups: Vec<rustix::process::Pid>,
    users: u32,
    seconds_max: u64,
}

impl Attackers {
    /// Starts every attack, for this time at most and a minute. `address`: of the agent's HTTP
    /// port on localhost.
    pub fn start(address: &str, time: Duration) -> Self {
        let seconds_max = time.as_secs() + 60;
        let mut attackers = Self { place: directory(), groups: Vec::new(), users: 0, seconds_max };
        attackers.start_floods(address);
        attackers.start_files();
        attackers.start_mappings();
        attackers.start_storms();
        attackers
    }

    fn start_floods(&mut self, address: &str) {
        let flood = self.compile("flood");
        let user = self.next_user();
        let (_, port) = address.rsplit_once(':').unwrap();
        self.run(&flood, &[port, "requests", "8"], user);
        self.run(&flood, &[port, "slow", "300"], user);
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
        let maps = self.compile("maps");
        let user = self.next_user();
        for _ in 0..40 {
            self.run(&maps, &[], user);
        }
    }

    fn start_storms(&mut self) {
        let storm = self.compile("storm");
        for _ in 0..2 {
            let user = self.next_user();
            let copies = self.place.path().join(format!("copies{user}"));
            fs::create_dir(&copies).unwrap();
            std::os::unix::fs::chown(&copies, Some(user), Some(user)).unwrap();
            self.run(&storm, &[copies.to_str().unwrap()], user);
        }
    }

    fn compile(&self, name: &str) -> PathBuf {
        compile_with(&format!("attacks/{name}.c"), self.place.path(), name, &[])
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
        self.groups.push(rustix::process::Pid::from_child(&child));
    }

    /// Returns whether every attacker is still running.
    pub fn are_running(&self) -> bool {
        self.groups.iter().all(|group| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", group.as_raw_nonzero()));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        })
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        for group in &self.groups {
            let _ = rustix::process::kill_process_group(*group, rustix::process::Signal::KILL);
            let _ = rustix::process::waitpid(Some(*group), rustix::process::WaitOptions::empty());
        }
    }
}
