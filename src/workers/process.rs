//! One worker process: its start, its end, and what it has used.
//!
//! The usage of a worker is complete once it is reaped, also when it was killed. Until then it is
//! what /proc shows, or what the worker has reported with its last answer, if that is more.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Usage;
use crate::kernel::{ReapedChild, try_reap};

/// How long to wait for a killed worker to exit, and how often to look.
const EXIT_MAX: Duration = Duration::from_millis(200);
const EXIT_POLL: Duration = Duration::from_millis(1);

/// All that a worker finds in its environment: the heap returns free memory to the kernel. Nothing
/// is inherited, because the agent's environment may have credentials in it.
const ENVIRONMENT: [(&str, &str); 1] = [("MALLOC_TRIM_THRESHOLD_", "131072")];

/// The workers of one supervisor: those that have exited, and those that have not been reaped.
#[derive(Clone, Debug, Default)]
pub(super) struct Workers(Arc<Mutex<WorkerTable>>);

#[derive(Debug, Default)]
struct WorkerTable {
    /// Usage of those that were reaped.
    past: Usage,
    /// Those that were not, by pid.
    unreaped: HashMap<u32, UnreapedWorker>,
}

#[derive(Debug, Default)]
struct UnreapedWorker {
    /// What it has reported so far.
    reported: Usage,
    is_killed: bool,
}

impl Workers {
    /// Starts a worker. `socket`: its standard input.
    pub fn spawn(
        &self,
        program: &str,
        arguments: &[String],
        socket: OwnedFd,
    ) -> io::Result<WorkerProcess> {
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(ENVIRONMENT)
            .stdin(socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null()) // a panic over a crafted file is no news for the user
            .process_group(0) // Ctrl-C is for the agent, which still needs its workers
            .spawn()?;
        let pid = child.id();
        self.table().unreaped.insert(pid, UnreapedWorker::default());
        Ok(WorkerProcess { pid, workers: self.clone() })
    }

    /// Returns what all of them have used so far.
    pub fn usage(&self) -> Usage {
        self.reap_killed();
        let table = self.table();
        let current = table.unreaped.iter().map(|(pid, worker)| {
            let (now, reported) = (Usage::of(*pid), worker.reported);
            Usage {
                cpu: now.cpu.max(reported.cpu),
                peak_rss_kib: now.peak_rss_kib.max(reported.peak_rss_kib),
            }
        });
        current.fold(table.past, Usage::and)
    }

    /// Reaps what has exited since it was killed.
    fn reap_killed(&self) {
        let table = self.table();
        let killed = table.unreaped.iter().filter(|(_, worker)| worker.is_killed);
        let killed: Vec<u32> = killed.map(|(pid, _)| *pid).collect();
        drop(table);
        for pid in killed {
            self.try_reap(pid);
        }
    }

    /// Reaps a worker if it has exited. Returns `None` while it runs.
    fn try_reap(&self, pid: u32) -> Option<Exit> {
        let mut table = self.table();
        let Some(worker) = table.unreaped.get(&pid) else { return Some(Exit::Unknown) };
        let reported = worker.reported;
        let (usage, exit) = match try_reap(pid) {
            Ok(None) => return None,
            Ok(Some(ReapedChild { cpu, peak_rss_kib, signal })) => {
                (Usage { cpu: cpu.max(reported.cpu), peak_rss_kib }, Exit::of(signal))
            }
            Err(_) => (reported, Exit::Unknown),
        };
        table.past = table.past.and(usage);
        table.unreaped.remove(&pid);
        Some(exit)
    }

    /// Waits a moment for the exit of a worker.
    fn wait_for_exit(&self, pid: u32) -> Option<Exit> {
        let until = Instant::now() + EXIT_MAX;
        loop {
            let exit = self.try_reap(pid);
            if exit.is_some() || Instant::now() >= until {
                return exit;
            }
            std::thread::sleep(EXIT_POLL);
        }
    }

    fn table(&self) -> MutexGuard<'_, WorkerTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It aborted, which is what happens when memory or stack are exhausted.
    Aborted,
    /// The kernel ended it at the limit of CPU time that it had set itself.
    CpuLimit,
    /// It exited, was killed or crashed.
    Unknown,
}

impl Exit {
    fn of(signal: Option<i32>) -> Self {
        match signal {
            Some(signal) if signal == Signal::ABORT.as_raw() => Self::Aborted,
            Some(signal) if signal == Signal::XCPU.as_raw() => Self::CpuLimit,
            _ => Self::Unknown,
        }
    }
}

/// A running worker. It is killed when this is dropped.
#[derive(Debug)]
pub(super) struct WorkerProcess {
    pid: u32,
    workers: Workers,
}

impl WorkerProcess {
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Records what the worker says that it has used so far.
    pub fn reported(&self, usage: Usage) {
        if let Some(worker) = self.workers.table().unreaped.get_mut(&self.pid) {
            worker.reported = usage;
        }
    }

    /// Sends SIGKILL without waiting for the exit.
    pub fn kill(self) -> KilledWorker {
        KilledWorker { pid: self.pid, workers: self.workers.clone() } // and `self` is dropped
    }

    /// Waits a moment for a worker that has closed its socket, then kills it.
    pub fn end(self) -> Exit {
        let exit = self.workers.wait_for_exit(self.pid);
        drop(self);
        exit.unwrap_or(Exit::Unknown)
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let mut table = self.workers.table();
        // A pid that is reaped may belong to another process.
        let Some(worker) = table.unreaped.get_mut(&self.pid) else { return };
        worker.is_killed = true;
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A worker that was killed and may not have exited: one that waits for a file system cannot.
#[derive(Debug)]
pub struct KilledWorker {
    pid: u32,
    workers: Workers,
}

impl KilledWorker {
    /// Returns whether the process has exited, and reaps it.
    pub fn has_exited(&mut self) -> bool {
        self.workers.try_reap(self.pid).is_some()
    }

    /// Waits a moment for the exit.
    pub fn wait(self) {
        self.workers.wait_for_exit(self.pid);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn start(workers: &Workers, script: &str) -> WorkerProcess {
        let null = fs::File::open("/dev/null").expect("open");
        workers.spawn("/bin/sh", &["-c".into(), script.into()], null.into()).expect("started")
    }

    /// Waits until the CPU time of all workers has reached this.
    fn wait_for_cpu(workers: &Workers, cpu: Duration) {
        let until = Instant::now() + Duration::from_secs(60);
        while workers.usage().cpu < cpu {
            assert!(Instant::now() < until, "{:?}", workers.usage());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn usage_of_killed_workers_is_complete() {
        let workers = Workers::default();
        let spin = "while :; do :; done";
        for count in 1..=3 {
            let worker = start(&workers, spin);
            wait_for_cpu(&workers, Duration::from_millis(60) * count);
            let before = workers.usage();
            worker.kill().wait();
            // As it runs, its time is known in steps of 10 ms.
            assert!(workers.usage().cpu >= before.cpu && before.cpu > Duration::ZERO);
            assert!(workers.usage().peak_rss_kib > 100);
        }
        assert!(workers.table().unreaped.is_empty());
        assert!(workers.usage().cpu >= Duration::from_millis(180), "{:?}", workers.usage());
    }

    #[test]
    fn worker_that_reports_less_than_it_used_is_measured() {
        let workers = Workers::default();
        let worker = start(&workers, "while :; do :; done");
        worker.reported(Usage { cpu: Duration::from_nanos(1), peak_rss_kib: 1 });
        wait_for_cpu(&workers, Duration::from_millis(50));
        drop(worker);
        let until = Instant::now() + Duration::from_secs(20);
        while !workers.table().unreaped.is_empty() && Instant::now() < until {
            workers.usage();
        }
        let usage = workers.usage();
        assert!(usage.cpu >= Duration::from_millis(50) && usage.peak_rss_kib > 100, "{usage:?}");
    }

    #[test]
    fn environment_has_no_inherited_variable() {
        assert!(std::env::vars_os().count() > 1, "there is one to inherit");
        let workers = Workers::default();
        let worker = start(&workers, "sleep 60; :");
        let path = format!("/proc/{}/environ", worker.pid());
        let until = Instant::now() + Duration::from_secs(20);
        let mut environment = fs::read_to_string(&path).expect("readable");
        while environment.is_empty() && Instant::now() < until {
            std::thread::yield_now(); // for a moment of exec
            environment = fs::read_to_string(&path).expect("readable");
        }
        assert_eq!(environment, "MALLOC_TRIM_THRESHOLD_=131072\0");
    }

    #[test]
    fn end_of_a_worker_is_known_by_its_signal() {
        for (script, expected) in [
            ("kill -ABRT $$", Exit::Aborted),
            ("kill -XCPU $$", Exit::CpuLimit),
            ("kill -SEGV $$", Exit::Unknown),
            ("exit 3", Exit::Unknown),
        ] {
            let workers = Workers::default();
            let worker = start(&workers, script);
            let until = Instant::now() + Duration::from_secs(20);
            let exit = loop {
                match workers.try_reap(worker.pid()) {
                    Some(exit) => break exit,
                    None => assert!(Instant::now() < until, "{script}: it runs"),
                }
                std::thread::sleep(EXIT_POLL);
            };
            assert_eq!(exit, expected, "{script}");
        }
    }
}
