//! Finds out who is accountable for a process.

use std::hash::{BuildHasher, RandomState};

use profile::Pid;

use crate::labels::{Cgroup, Root};
use crate::limits::Owner;
use crate::procfs;

/// Reads the owners of processes.
#[derive(Debug, Default)]
pub(super) struct OwnerReader {
    /// Keyed, so that no name collides with another on purpose.
    hasher: RandomState,
}

impl OwnerReader {
    /// Reads the owner of a process; `None` when it has exited.
    pub fn read(&self, pid: Pid) -> Option<Owner> {
        let uid = procfs::uid(pid.0)?;
        let text = procfs::read_text(&format!("/proc/{pid}/cgroup")).unwrap_or_default();
        Some(self.classify(Cgroup::parse(&text, &Root::default()).as_ref(), uid))
    }

    fn classify(&self, cgroup: Option<&Cgroup>, uid: u32) -> Owner {
        let Some(cgroup) = cgroup else { return Owner::User(uid) };
        // Users create cgroups below their slice, also such that are named as containers are.
        if let Some(user) = user_of_slice(&cgroup.path) {
            return Owner::User(user);
        }
        match (&cgroup.pod_uid, &cgroup.container_id) {
            (Some(name), _) | (None, Some(name)) => Owner::Group(self.hasher.hash_one(name)),
            (None, None) if uid == 0 => Owner::Group(self.hasher.hash_one(&cgroup.path)),
            (None, None) => Owner::User(uid),
        }
    }
}

/// Returns the user of systemd's `user-UID.slice` in a path.
fn user_of_slice(path: &str) -> Option<u32> {
    let mut names = path.split('/');
    names.find_map(|name| name.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok())
}

/// Returns whether a process of this owner stays one of it when it calls exec: users do not change
/// except by programs of root, and processes do not leave containers.
pub(super) fn is_kept_by_exec(owner: Owner) -> bool {
    matches!(owner, Owner::User(uid) if uid != 0 && owner != Owner::UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_users_containers_and_services_of_root() {
        let reader = OwnerReader::default();
        let id = "a".repeat(64);
        let owner = |path: &str, uid| {
            let text = format!("0::{path}\n");
            reader.classify(Cgroup::parse(&text, &Root::default()).as_ref(), uid)
        };
        let container = owner(&format!("/system.slice/docker-{id}.scope"), 0);
        assert!(matches!(container, Owner::Group(_)));
        assert_eq!(container, owner(&format!("/system.slice/docker-{id}.scope/sub"), 1000));
        assert_ne!(owner("/system.slice/a.service", 0), owner("/system.slice/b.service", 0));
        assert_eq!(owner("/system.slice/a.service", 33), Owner::User(33));
        let rootless = "/user.slice/user-1000.slice/user@1000.service";
        for path in ["", "/app.slice/x", &format!("/docker-{id}.scope"), "/user-7.slice"] {
            assert_eq!(owner(&format!("{rootless}{path}"), 100_000), Owner::User(1000));
        }
        assert_eq!(reader.classify(None, 7), Owner::User(7));
    }

    #[test]
    fn own_process_has_an_owner_and_an_exited_one_has_none() {
        let reader = OwnerReader::default();
        let own = reader.read(Pid(std::process::id()));
        assert!(own.is_some() && own == reader.read(Pid(std::process::id())));
        assert_eq!(reader.read(Pid(0x7fff_fff0)), None);
    }
}
