//! Makes the labels of a process: what it executes, its cgroup, its pod and its container.
//!
//! The one source is the text of `/proc/PID/cgroup`; no container runtime is asked.
//! [`Cgroup::parse`] understands the names that runtimes choose. [`Root`] is where in the hierarchy
//! the agent itself is, if it runs in a container. [`profile::labels`] and `docs/labels.md` list
//! the labels and say which of them make a series.

mod cgroup;
mod root;
mod series_limiter;

use std::collections::HashMap;
use std::sync::Arc;

use profile::labels::{CGROUP, COMM, CONTAINER_ID, EXECUTABLE, NODE, POD_UID};
use profile::{Labels, Profile, Task};

use crate::procfs::without_deleted;

pub use cgroup::Cgroup;
pub use root::Root;
pub use series_limiter::SeriesLimiter;

/// Returns the labels of a process: the file name of its executable, its cgroup, pod and container.
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

/// Returns the labels that all series of this machine share. `node`: its name. `fixed`: the static
/// labels of the configuration.
pub fn of_machine(node: &str, fixed: &Labels) -> Labels {
    let mut labels = fixed.clone();
    labels.set(NODE, node);
    labels
}

/// Completes the labels of each task: those of its process, its name, and those of the machine.
pub fn complete(profile: &mut Profile, machine: &Labels) {
    let mut shared: HashMap<(Arc<Labels>, Box<str>), Arc<Labels>> = HashMap::new();
    for task in &mut profile.tasks {
        let key = (Arc::clone(&task.labels), task.comm.clone());
        let labels = shared.entry(key).or_insert_with(|| Arc::new(of_task(task, machine)));
        task.labels = Arc::clone(labels);
    }
}

fn of_task(task: &Task, machine: &Labels) -> Labels {
    let mut labels = machine.clone();
    task.labels.iter().for_each(|(name, text)| labels.set(name, text));
    labels.set(COMM, &task.comm);
    labels
}

/// Returns the file name of a path in procfs, without what the kernel appends to a deleted file.
pub fn file_name(path: &str) -> &str {
    let path = without_deleted(path);
    path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use profile::{Pid, Tid};

    #[test]
    fn a_series_has_labels_of_machine_process_and_task() {
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
