//! Who is accountable for the use of a shared resource.

/// A container, a service of the system, or a user. Resources that unprivileged programs can use up
/// are divided among owners.
///
/// Services of root count by their cgroup and containers by their ID. Every other process counts by
/// its user, whatever cgroup it is in: a user may create cgroups, but no further users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// All processes of a user, by uid.
    User(u32),
    /// The processes of a container or of a service, by a hash of its name.
    Group(u64),
}

impl Owner {
    /// The system itself: what is known before any process.
    pub const SYSTEM: Self = Self::User(0);
    /// All processes that exited before their owner was read. No user has this number.
    pub const UNKNOWN: Self = Self::User(u32::MAX);
}
