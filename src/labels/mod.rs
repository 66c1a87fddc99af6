//! From a process to its labels: what it executes, its cgroup, its pod and its container.
//!
//! Nothing is asked but the text of `/proc/PID/cgroup`; [`Cgroup::parse`] knows the names that container runtimes give.
//! [`Root`] knows where in the hierarchy the agent itself is, if it is in a container. What labels there are, and what
//! makes a series, is written in [`profile::labels`] and in `docs/labels.md`.

mod cgroup;
mod root;

use std::collections::HashMap;
use std::sync::Arc;

use profile::labels::{CGROUP, COMM, CONTAINER_ID, EXECUTABLE, NODE, POD_UID};
use profile::{Labels, Profile, Task};

pub use cgroup::Cgroup;
pub use root::Root;

/// Gives the labels of a process: its executable's file name, and what its cgroup tells.
pub fn of_process(executable: Option<&str>, cgroup: Option<&Cgroup>) -> Labels {
    let mut labels = Labels::default();
    labels.set(EXECUTABLE, executable.unwrap_or_default());
    if let Some(cgroup) = cgroup {
        labels.set(CGROUP, &cgroup.path);
        labels.set(POD_UID, cgroup.pod_uid.as_deref().unwrap_or_default());
        labels.set(CONTAINER_ID, cgroup.container_id.as_deref().unwrap_or_default());
    }
    labels
}

/// Gives the labels that all series of this machine have. `node`: its name. `fixed`: the static labels of the
/// configuration.
pub fn of_machine(node: &str, fixed: &Labels) -> Labels {
    let mut labels = fixed.clone();
    labels.set(NODE, node);
    labels
}

/// Gives each task all labels of its series: those of its process, its name, and those of the machine.
pub fn complete(profile: &mut Profile, machine: &Labels) {
    let mut known: HashMap<(Arc<Labels>, Box<str>), Arc<Labels>> = HashMap::new();
    for task in &mut profile.tasks {
        let alike = (Arc::clone(&task.labels), task.comm.clone());
        let complete = known.entry(alike).or_insert_with(|| Arc::new(of_task(task, machine)));
        task.labels = Arc::clone(complete);
    }
}

fn of_task(task: &Task, machine: &Labels) -> Labels {
    let mut labels = machine.clone();
    task.labels.iter().for_each(|(name, text)| labels.set(name, text));
    labels.set(COMM, &task.comm);
    labels
}

/// Gives the file name of a path as the kernel tells it, without what it appends once the file is deleted.
pub fn file_name(path: &str) -> &str {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use profile::{Pid, Tid};

    #[test]
    fn a_series_has_the_labels_of_machine_process_and_task() {
        let cgroup = Cgroup::parse("0::/system.slice/nginx.service\n", &Root::default());
        let process = of_process(Some(file_name("/usr/sbin/nginx (deleted)")), cgroup.as_ref());
        let task = Task {
            pid: Pid(7),
            tid: Tid(8),
            comm: "nginx: worker".into(),
            thread: "pool".into(),
            cgroup_id: 9,
            labels: Arc::new(process),
        };
        let mut profile = Profile { tasks: vec![task], ..Profile::default() };
        let fixed = Labels::from([("team", "web")]);
        complete(&mut profile, &of_machine("node-1", &fixed));
        let expected = [
            ("cgroup", "/system.slice/nginx.service"),
            ("comm", "nginx: worker"),
            ("executable", "nginx"),
            ("node", "node-1"),
            ("team", "web"),
        ];
        assert_eq!(*profile.tasks[0].labels, Labels::from(expected));
    }
}
