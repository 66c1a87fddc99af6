//! A bounded set of addresses that is built once and then searched.

/// Addresses that a set holds.
const ADDRESSES_MAX: usize = 1 << 21;

/// A set of addresses; those beyond [`ADDRESSES_MAX`] are omitted.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    list: Vec<u64>,
    is_full: bool,
}

impl Addresses {
    /// Adds an address. It is found once the set is [sorted](Self::sort).
    pub fn insert(&mut self, address: u64) {
        if self.list.len() == ADDRESSES_MAX && !self.is_full {
            self.sort(); // most addresses occur often
            self.is_full = self.list.len() > ADDRESSES_MAX / 2;
        }
        if !self.is_full {
            self.list.push(address);
        }
    }

    pub fn sort(&mut self) {
        self.list.sort_unstable();
        self.list.dedup();
    }

    /// Returns the first address after another.
    pub fn after(&self, address: u64) -> Option<u64> {
        self.list.get(self.list.partition_point(|other| *other <= address)).copied()
    }

    /// Returns the addresses, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.list.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_next_address() {
        let mut addresses = Addresses::default();
        [7, 3, 7, 9].into_iter().for_each(|address| addresses.insert(address));
        addresses.sort();
        assert_eq!(addresses.iter().collect::<Vec<_>>(), [3, 7, 9]);
        assert_eq!((addresses.after(3), addresses.after(9)), (Some(7), None));
    }

    #[test]
    fn many_different_addresses_are_omitted() {
        let mut addresses = Addresses::default();
        (0..3 * ADDRESSES_MAX as u64).for_each(|address| addresses.insert(address));
        assert_eq!(addresses.iter().count(), ADDRESSES_MAX);
    }
}
