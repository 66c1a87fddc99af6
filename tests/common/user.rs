//! A user without any privilege.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Recorded, Recording, Running, TempDir, compile, directory, everytick};

/// A user that owns nothing.
const UID: u32 = 65534;

/// A user, with a directory of its own and a copy of the program that everyone may run.
pub struct User {
    place: TempDir,
}

impl User {
    pub fn new() -> Self {
        let place = directory();
        let copy = place.path().join("everytick");
        fs::copy(everytick().get_program(), &copy).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o777)).unwrap();
        Self { place }
    }

    /// Returns a directory that the user may write to.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    /// Returns the user's copy of the program.
    pub fn program(&self) -> PathBuf {
        self.path().join("everytick")
    }

    /// Returns a command that runs a program as the user.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.uid(UID).gid(UID).current_dir(self.path()).stdin(Stdio::null());
        command
    }

    /// Returns a command that runs `everytick` as the user.
    pub fn everytick(&self) -> Command {
        self.command(self.program())
    }

    /// Compiles a program for the user: see [`compile`].
    pub fn compile(&self, source: &str, name: &str) -> PathBuf {
        let program = compile(source, self.path(), name);
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    /// Runs a program as the user until it is dropped.
    pub fn start(&self, program: &Path, arguments: &[&str]) -> Running {
        Running(self.command(program).args(arguments).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Runs `everytick record` as the user.
    pub fn record(&self, arguments: &[&str]) -> Recorded {
        Recording::spawn_program(self.everytick(), arguments).finish()
    }

    /// Starts `everytick record` as the user, and waits until it samples.
    pub fn start_recording(&self, arguments: &[&str]) -> Recording {
        Recording::spawn_program(self.everytick(), arguments).sampling()
    }
}
