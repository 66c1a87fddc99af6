//! What did not answer: processes, devices, and the owners of both.
//!
//! A program can keep its own memory locked, and a user can mount a file system that never answers.
//! Each request that waits for one costs the agent a moment and a helper, so what did not answer is
//! left alone for a while, and the number of helpers that still wait is bounded for each owner.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use profile::Pid;

use crate::limits::Owner;
use crate::workers::KilledWorker;

/// How long a process or device that did not answer is left alone.
const BACKOFF: Duration = Duration::from_secs(10);
/// Processes and devices remembered, each.
const REMEMBERED_MAX: usize = 1024;
/// How long the other processes of an owner are left alone: doubled each time, up to the longest.
const OWNER_BACKOFF: Duration = Duration::from_secs(1);
const OWNER_BACKOFF_MAX: Duration = Duration::from_secs(64);
/// Killed helpers of one owner that may wait at the same time, and of all owners.
const WAITING_OF_OWNER_MAX: usize = 2;
const WAITING_MAX: usize = 16;

/// Major and minor number.
pub(in crate::processes) type Device = (u32, u32);

/// What a helper waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Process(Pid),
    Device(Device),
}

/// A helper that was killed and may not have exited.
#[derive(Debug)]
struct WaitingHelper {
    target: Target,
    owner: Owner,
    helper: KilledWorker,
}

#[derive(Clone, Copy, Debug)]
struct OwnerBackoff {
    until: Instant,
    pause: Duration,
}

/// What did not answer, and since when.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    devices: HashMap<Device, Instant>,
    processes: HashMap<Pid, Instant>,
    owners: HashMap<Owner, OwnerBackoff>,
    waiting: Vec<WaitingHelper>,
    /// Devices on which files stayed unopened, because the device did not answer.
    missed: HashSet<Device>,
    has_recovered: bool,
}

impl Unanswered {
    /// Returns whether to ask a process or device for something on behalf of an owner.
    pub fn may_ask(&mut self, target: Target, owner: Owner) -> bool {
        let now = Instant::now();
        self.waiting.retain_mut(|waiting| !waiting.helper.has_exited());
        let of_owner = self.waiting.iter().filter(|waiting| waiting.owner == owner).count();
        if of_owner >= WAITING_OF_OWNER_MAX || self.waiting.len() >= WAITING_MAX {
            return false;
        }
        let is_waited_for = self.waiting.iter().any(|waiting| waiting.target == target);
        let until = match target {
            Target::Device(device) => self.devices.get(&device).copied(),
            Target::Process(pid) => {
                let owner = self.owners.get(&owner).map(|backoff| backoff.until);
                self.processes.get(&pid).copied().max(owner)
            }
        };
        !is_waited_for && until.is_none_or(|until| until <= now)
    }

    /// Records that a process or device did not answer, and the helper that was killed for that.
    pub fn record(&mut self, target: Target, owner: Owner, helper: Option<KilledWorker>) {
        let now = Instant::now();
        match target {
            Target::Device(device) => {
                self.devices.retain(|_, until| *until > now);
                if self.devices.len() < REMEMBERED_MAX {
                    self.devices.insert(device, now + BACKOFF);
                }
                if self.missed.len() < REMEMBERED_MAX {
                    self.missed.insert(device);
                }
            }
            Target::Process(pid) => {
                self.processes.retain(|_, until| *until > now);
                if self.processes.len() < REMEMBERED_MAX {
                    self.processes.insert(pid, now + BACKOFF);
                }
                self.back_off(owner, now);
            }
        }
        self.waiting.extend(helper.map(|helper| WaitingHelper { target, owner, helper }));
    }

    /// Records that a device answered.
    pub fn answered(&mut self, device: Device) {
        self.has_recovered |= self.missed.remove(&device);
    }

    /// Returns whether a device on which files stayed unopened has answered since the last call.
    pub fn take_recovered(&mut self) -> bool {
        std::mem::take(&mut self.has_recovered)
    }

    /// Leaves all processes of an owner alone; longer each time, unless the last time is long ago.
    fn back_off(&mut self, owner: Owner, now: Instant) {
        self.owners.retain(|_, backoff| now < backoff.until + 2 * OWNER_BACKOFF_MAX);
        let before = self.owners.get(&owner).map(|backoff| backoff.pause);
        let pause = before.map_or(OWNER_BACKOFF, |pause| (2 * pause).min(OWNER_BACKOFF_MAX));
        if self.owners.len() < REMEMBERED_MAX {
            self.owners.insert(owner, OwnerBackoff { until: now + pause, pause });
        }
    }
}
