//! The bytes that the names of one window may take, divided among owners and executables.

use std::collections::HashMap;

use crate::limits::Owner;

/// One owner, and one executable, may have the whole divided by these.
const OWNER_DIVISOR: usize = 2;
const EXECUTABLE_DIVISOR: usize = 4;

/// What is left of the bytes of one window.
#[derive(Debug)]
pub(super) struct NameSpace {
    whole: usize,
    used: usize,
    by_owner: HashMap<Owner, usize>,
}

/// What is left of them for one executable.
#[derive(Debug)]
pub(super) struct ExecutableSpace<'a> {
    space: &'a mut NameSpace,
    owner: Owner,
    used: usize,
}

impl NameSpace {
    /// `whole`: bytes for all names of the window.
    pub fn new(whole: usize) -> Self {
        Self { whole, used: 0, by_owner: HashMap::new() }
    }

    /// Returns the space of an executable.
    pub fn of_executable(&mut self, owner: Owner) -> ExecutableSpace<'_> {
        ExecutableSpace { space: self, owner, used: 0 }
    }
}

impl ExecutableSpace<'_> {
    /// Returns how many bytes more the names of the executable may take.
    pub fn left(&self) -> usize {
        let NameSpace { whole, used, by_owner } = &self.space;
        let by_owner = by_owner.get(&self.owner).copied().unwrap_or(0);
        let left = whole.saturating_sub(*used);
        let left = left.min((whole / OWNER_DIVISOR).saturating_sub(by_owner));
        left.min((whole / EXECUTABLE_DIVISOR).saturating_sub(self.used))
    }

    /// Takes bytes if they are left. Returns whether they were.
    pub fn take(&mut self, bytes: usize) -> bool {
        if bytes > self.left() {
            return false;
        }
        self.used += bytes;
        self.space.used += bytes;
        *self.space.by_owner.entry(self.owner).or_default() += bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(space: &mut NameSpace, owner: Owner) -> usize {
        let mut executable = space.of_executable(owner);
        (0..).take_while(|_| executable.take(100)).count() * 100
    }

    #[test]
    fn executables_and_owners_leave_space_for_others() {
        let mut space = NameSpace::new(8000);
        let (hostile, bystander) = (Owner::User(1000), Owner::Group(1));
        let taken: Vec<usize> = (0..30).map(|_| fill(&mut space, hostile)).collect();
        assert_eq!((taken[0], taken.iter().sum::<usize>()), (2000, 4000));
        assert_eq!(space.of_executable(bystander).left(), 2000);
        assert_eq!((fill(&mut space, bystander), fill(&mut space, bystander)), (2000, 2000));
        assert_eq!(fill(&mut space, Owner::User(1)), 0, "no more than the whole");
    }
}
