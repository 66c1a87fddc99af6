//! An agent as a child process: its configuration, log, store and HTTP pages.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use profile::pprof::proto::Profile;
use rustix::process::Signal;

use super::{TempDir, directory, everytick, pause, signal};

/// Consecutive failures after which a kubelet gives up, by the default of `failureThreshold`.
const FAILURE_THRESHOLD: usize = 3;

/// An agent with its own directories.
pub struct Agent {
    pub place: TempDir,
    pub child: Option<Child>,
}

impl Agent {
    /// Starts an agent with these lines in `[agent]`, after the lines common to all tests. Tables
    /// may follow them.
    pub fn start(lines: &str) -> Self {
        let mut agent = Self { place: directory(), child: None };
        agent.configure(lines);
        agent.restart();
        agent
    }

    /// Creates the directories and the configuration of an agent that the test starts itself.
    pub fn not_started(lines: &str) -> Self {
        let agent = Self { place: directory(), child: None };
        agent.configure(lines);
        agent
    }

    /// Starts the agent by a command, with its log.
    pub fn spawn(&mut self, command: &mut Command) {
        let log = fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        self.child = Some(command.stderr(log).stdout(Stdio::null()).spawn().unwrap());
    }

    pub fn configure(&self, lines: &str) {
        let place = self.place.path().display();
        let text = format!(
            "[agent]\nlisten = \"127.0.0.1:0\"\nwindow = \"1s\"\ncache_dir = \"{place}/cache\"\n\
             {lines}\n\
             [store]\nenabled = true\ndirectory = \"{place}/store\"\n\
             [spool]\ndirectory = \"{place}/spool\"\n"
        );
        fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.place.path().join("everytick.toml")
    }

    pub fn restart(&mut self) {
        let mut command = self.command();
        self.spawn(&mut command);
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    pub fn command(&self) -> Command {
        let mut command = everytick();
        command.args(["agent", "--config"]).arg(self.config());
        command
    }

    fn log_path(&self) -> PathBuf {
        self.place.path().join("log")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default() // a test may take the log itself
    }

    /// Returns the files of the store, sorted by time.
    pub fn windows(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.place.path().join("store")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.to_str().unwrap().ends_with(".pb.gz"));
        paths.sort();
        paths
    }

    pub fn profiles(&self) -> Vec<Profile> {
        self.windows().iter().map(|path| read(path)).collect()
    }

    pub fn signal(&self, what: Signal) {
        signal(self.child.as_ref().unwrap(), what);
    }

    /// Polls until `poll` returns a value, and panics with the log after a minute.
    pub fn wait_for<T>(&self, what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
        for _ in 0..600 {
            if let Some(value) = poll() {
                return value;
            }
            pause(100);
        }
        panic!("timed out waiting for {what}\n{}", self.log());
    }

    pub fn wait_for_windows(&self, count: usize) {
        self.wait_for("windows", || (self.windows().len() >= count).then_some(()));
    }

    /// Sends SIGTERM. Returns the windows that the agent reports: closed, accepted and lost.
    pub fn stop(&mut self) -> [u64; 3] {
        self.signal(Signal::TERM);
        let status = self.child.take().unwrap().wait().unwrap();
        let log = self.log();
        assert!(status.success(), "{status}\n{log}");
        let line = log.lines().rfind(|line| line.contains("stopped")).unwrap().to_owned();
        ["closed=", "accepted=", "lost="].map(|name| number_after(&line, name))
    }

    /// Returns the address of the HTTP port.
    pub fn address(&self) -> String {
        let serving = |log: &str| {
            let line = log.lines().rfind(|line| line.contains("serving"))?;
            Some(line.split("address=").nth(1)?.split_whitespace().next()?.to_owned())
        };
        self.wait_for("the HTTP server", || serving(&self.log()))
    }

    /// Requests a page. Returns its status and its body.
    pub fn page(&self, path: &str) -> (u16, String) {
        self.try_page(path).unwrap_or_else(|error| panic!("{path}: {error}\n{}", self.log()))
    }

    /// Requests a page from a server that may close the connection before the request arrives.
    ///
    /// # Errors
    /// When the connection breaks, or without a whole answer.
    pub fn try_page(&self, path: &str) -> io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address())?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let Some((head, body)) = response.split_once("\r\n\r\n") else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
    }

    /// Probes the agent as a kubelet does: a failed probe is repeated, and [`FAILURE_THRESHOLD`] in
    /// a row are a failure of the agent.
    pub fn probe(&self, path: &str) {
        let mut failures = Vec::new();
        while failures.len() < FAILURE_THRESHOLD {
            match self.try_page(path) {
                Ok((200, body)) => return assert_eq!(body, "ok\n", "{path}"),
                failure => failures.push(failure),
            }
        }
        panic!("{path}: {FAILURE_THRESHOLD} probes failed: {failures:?}\n{}", self.log());
    }

    /// Returns the metrics, as soon as they are answered: after a flood it takes a moment.
    fn metrics(&self) -> String {
        self.wait_for("metrics", || {
            self.try_page("/metrics").ok().filter(|(status, _)| *status == 200)
        })
        .1
    }

    /// Returns the value of the series of a metric whose only label has this value.
    pub fn series(&self, name: &str, label: &str) -> f64 {
        let text = self.metrics();
        let is_series = |line: &&str| {
            line.starts_with(&format!("{name}{{")) && line.contains(&format!("=\"{label}\"}}"))
        };
        let line = text.lines().find(is_series).unwrap_or_else(|| panic!("{name} {label}: {text}"));
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// Returns the sum of a metric over all of its label sets.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let is_sample = |line: &&str| {
            line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{"))
        };
        let values = text.lines().filter(is_sample).map(|line| line.rsplit_once(' ').unwrap().1);
        values.map(|value| value.parse::<f64>().unwrap()).sum()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn number_after(line: &str, name: &str) -> u64 {
    let rest = line.split(name).nth(1).unwrap();
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

pub fn read(path: &Path) -> Profile {
    profile::pprof::decode(&fs::read(path).unwrap(), 1 << 30).unwrap()
}

pub fn text(profile: &Profile, index: i64) -> &str {
    &profile.string_table[index as usize]
}

pub fn samples(profile: &Profile) -> i64 {
    profile.sample.iter().map(|sample| sample.value[0]).sum()
}

/// Returns the text labels of a sample.
pub fn labels(profile: &Profile, sample: usize) -> BTreeMap<&str, &str> {
    let labels = &profile.sample[sample].label;
    labels.iter().map(|label| (text(profile, label.key), text(profile, label.str))).collect()
}

/// Returns the names of the functions at these locations, inlined ones too, innermost first.
pub fn functions<'a>(profile: &'a Profile, locations: &[u64]) -> Vec<&'a str> {
    let of_location = |id: &u64| {
        let location = profile.location.iter().find(|location| location.id == *id).unwrap();
        location.line.iter().map(|line| {
            let function = profile.function.iter().find(|f| f.id == line.function_id).unwrap();
            text(profile, function.name)
        })
    };
    locations.iter().flat_map(of_location).collect()
}

pub fn comments(profile: &Profile) -> Vec<&str> {
    profile.comment.iter().map(|index| text(profile, *index)).collect()
}
