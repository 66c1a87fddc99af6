//! The names of threads, for samples that do not carry them.
//!
//! perf reports each new name; a new thread has the name of the one that created it. The others are
//! read from procfs when they are sampled.

use std::collections::HashMap;

use profile::{Pid, Tid};

use crate::events::{CommEvent, Event, ExitEvent, ForkEvent};
use crate::procfs;

/// Names known at once: the kernel's default number of threads. Further threads have the name of
/// their process.
const NAMES_MAX: usize = 32_768;

/// The names of threads that run.
#[derive(Debug, Default)]
pub(super) struct ThreadNames(HashMap<Tid, Box<str>>);

impl ThreadNames {
    /// Applies an event. Events come in time order.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Fork(ForkEvent { tid, parent_tid, .. }) => {
                if let Some(name) = self.0.get(parent_tid).cloned() {
                    self.insert(*tid, name);
                }
            }
            Event::Comm(CommEvent { tid, comm, .. }) => self.insert(*tid, comm.clone()),
            Event::Exit(ExitEvent { tid, .. }) => {
                self.0.remove(tid);
            }
            Event::Mmap(_) | Event::Move(_) | Event::KernelCode(_) => {}
            Event::Sample(_) | Event::PerfSample(_) => {}
            Event::CodeObject(_) | Event::Interpreter(_) => {}
        }
    }

    /// Returns the name of a sampled thread; reads it if it is not known. `process`: the name of
    /// its process, which a thread has that has exited meanwhile.
    pub fn name(&mut self, pid: Pid, tid: Tid, process: Option<&str>) -> Box<str> {
        if let Some(name) = self.0.get(&tid) {
            return name.clone();
        }
        let read = procfs::thread_name(pid.0, tid.0).map(String::into_boxed_str);
        let name = read.unwrap_or_else(|| process.unwrap_or_default().into());
        self.insert(tid, name.clone());
        name
    }

    fn insert(&mut self, tid: Tid, name: Box<str>) {
        if self.0.len() < NAMES_MAX || self.0.contains_key(&tid) {
            self.0.insert(tid, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: Pid = Pid(4_194_301); // above any real one
    const MAIN: Tid = Tid(4_194_301);
    const WORKER: Tid = Tid(4_194_302);

    fn comm(tid: Tid, comm: &str) -> Event {
        Event::Comm(CommEvent { pid: PID, tid, comm: comm.into(), is_exec: false })
    }

    #[test]
    fn new_thread_has_the_name_of_its_creator_until_it_gets_another() {
        let mut names = ThreadNames::default();
        names.apply(&comm(MAIN, "server"));
        let (tid, parent_tid) = (WORKER, MAIN);
        names.apply(&Event::Fork(ForkEvent { pid: PID, tid, parent: PID, parent_tid }));
        assert_eq!(&*names.name(PID, WORKER, None), "server");
        names.apply(&comm(WORKER, "worker"));
        assert_eq!(&*names.name(PID, WORKER, None), "worker");
        assert_eq!(&*names.name(PID, MAIN, None), "server");
        names.apply(&Event::Exit(ExitEvent { pid: PID, tid: WORKER }));
        assert_eq!(&*names.name(PID, WORKER, Some("server")), "server", "it is unknown again");
    }

    #[test]
    fn name_of_a_running_thread_is_read() {
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let expected = procfs::thread_name(std::process::id(), tid).expect("it runs");
        let name = ThreadNames::default().name(Pid(std::process::id()), Tid(tid), None);
        assert_eq!(*name, *expected);
        assert!(name.starts_with("processes::thre"), "the name of the test: {name}");
    }
}
