//! The CPU time of names, by file and by owner: what was used and is not paid off yet.
//!
//! A file is symbolized before its cost is known, and takes up to 2 s. So the cost is owed
//! afterwards, in full: by the file and by its owner. Time pays debts off, at the rate that names
//! may take in all: owners with debts pay in equal parts, and a file at most a quarter. An owner
//! that owes too much waits, and no other owner does. [`crate::limits::TimeShare`] forgets debts
//! after 40 s, which is right for work in small pieces: here a user with many files that take 2 s
//! each would have 2 s of each 40.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::file_key::FileKey;
use super::limits::FileLimits;
use crate::limits::Owner;

/// What an owner may owe and still have files read: the programs of a machine that are new to a
/// starting agent take less.
const OWNER_MAX: Duration = Duration::from_secs(8);
/// What an owner may owe and still have a file read that is known to be slow.
const OWNER_MAX_SLOW: Duration = Duration::from_secs(2);
/// A file pays at most the rate divided by this.
const FILE_DIVISOR: f64 = 4.0;
/// Least CPU time with which reading a file begins.
const LEAST: Duration = Duration::from_millis(20);
/// Files and owners with debts. Files beyond are not limited by themselves, but by their owner;
/// owners beyond share one account.
const FILES_MAX: usize = 4096;
const OWNERS_MAX: usize = 256;

/// The account of the owners that have none of their own.
const OTHERS: Owner = Owner::UNKNOWN;

/// What files and owners owe.
#[derive(Debug)]
pub(super) struct CpuAccounts {
    /// CPU seconds per second; `None`: owners are not limited, and files pay nothing off.
    rate: Option<f64>,
    limits: FileLimits,
    files: HashMap<FileKey, f64>,
    owners: HashMap<Owner, f64>,
    paid_at: Instant,
}

impl CpuAccounts {
    /// `rate`: CPU seconds per second; `None`: owners are not limited, and files pay nothing off.
    pub fn new(rate: Option<f64>, limits: FileLimits, now: Instant) -> Self {
        let (files, owners) = (HashMap::new(), HashMap::new());
        Self { rate, limits, files, owners, paid_at: now }
    }

    /// Changes the rate from now on.
    pub fn set_rate(&mut self, rate: Option<f64>, now: Instant) {
        self.pay(now);
        self.rate = rate;
    }

    /// Returns the CPU time that reading a file may take now; `None` when it must wait. `is_slow`:
    /// it has taken more than a first attempt may.
    pub fn allowed(
        &mut self,
        file: FileKey,
        owner: Owner,
        is_slow: bool,
        now: Instant,
    ) -> Option<Duration> {
        self.pay(now);
        let owed = self.owners.get(&self.account_of(owner)).copied().unwrap_or(0.0);
        let owner_max = if is_slow { OWNER_MAX_SLOW } else { OWNER_MAX };
        if self.rate.is_some() && owed >= owner_max.as_secs_f64() {
            return None;
        }
        let owed = self.files.get(&file).copied().unwrap_or(0.0);
        let left = self.limits.cpu.saturating_sub(Duration::from_secs_f64(owed));
        let attempt = if is_slow { self.limits.cpu } else { self.limits.first_cpu };
        (left >= LEAST).then(|| left.min(attempt))
    }

    /// Adds what reading a file has used.
    pub fn charge(&mut self, file: FileKey, owner: Owner, used: Duration, now: Instant) {
        self.pay(now);
        let used = used.as_secs_f64();
        let account = self.account_of(owner);
        *self.owners.entry(account).or_default() += used;
        if self.files.len() < FILES_MAX || self.files.contains_key(&file) {
            *self.files.entry(file).or_default() += used;
        }
    }

    fn account_of(&self, owner: Owner) -> Owner {
        let has_account = self.owners.contains_key(&owner) || self.owners.len() < OWNERS_MAX;
        if has_account { owner } else { OTHERS }
    }

    fn pay(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.paid_at).as_secs_f64();
        self.paid_at = now;
        let all = elapsed * self.rate.unwrap_or(0.0);
        pay_off(&mut self.files, all / FILE_DIVISOR);
        // In two rounds, so that what small debts leave goes to the others.
        for part in [all / 2.0, all / 2.0] {
            let each = part / self.owners.len().max(1) as f64;
            pay_off(&mut self.owners, each);
        }
    }
}

fn pay_off<K>(debts: &mut HashMap<K, f64>, each: f64) {
    debts.retain(|_, debt| {
        *debt -= each;
        *debt > 0.0
    });
}

#[cfg(test)]
mod tests {
    use profile::ExecutableId;

    use super::*;

    const HOSTILE: Owner = Owner::User(1000);
    const BYSTANDER: Owner = Owner::Group(1);

    fn file(number: u32) -> FileKey {
        FileKey::Executable(ExecutableId(number))
    }

    /// One hundredth of a CPU.
    fn accounts(now: Instant) -> CpuAccounts {
        let second = Duration::from_secs(1);
        let limits = FileLimits { first_cpu: second / 4, cpu: 2 * second, memory: 64 << 20 };
        CpuAccounts::new(Some(0.01), limits, now)
    }

    /// Lets each of many files of one owner take all that it may, window by window; returns what
    /// they take in all.
    fn attack(accounts: &mut CpuAccounts, files: u32, windows: u64, start: Instant) -> Duration {
        let mut taken = Duration::ZERO;
        for window in 0..windows {
            let now = start + Duration::from_secs(10) * window as u32;
            for number in 0..files {
                for is_slow in [false, true] {
                    if let Some(time) = accounts.allowed(file(number), HOSTILE, is_slow, now) {
                        accounts.charge(file(number), HOSTILE, time, now);
                        taken += time;
                    }
                }
            }
            let other = accounts.allowed(file(u32::MAX), BYSTANDER, true, now);
            assert_eq!(other, Some(Duration::from_secs(2)), "window {window}");
        }
        taken
    }

    #[test]
    fn owner_of_many_slow_files_takes_no_more_than_the_rate() {
        let now = Instant::now();
        let mut accounts = accounts(now);
        let first = attack(&mut accounts, 1000, 1, now);
        assert!(first <= OWNER_MAX + Duration::from_secs(2), "{first:?}");
        let hour = attack(&mut accounts, 1000, 360, now);
        assert!(hour <= Duration::from_secs(36 + 3), "{hour:?} in an hour, at 36 s");
        assert!(hour >= Duration::from_secs(20), "{hour:?}: what the rate allows is used");
    }

    #[test]
    fn one_file_takes_at_most_its_time_and_a_quarter_of_the_rate() {
        let now = Instant::now();
        let mut accounts = accounts(now);
        let hour = attack(&mut accounts, 1, 360, now);
        assert!(hour <= Duration::from_secs(2 + 9) + LEAST, "{hour:?}");
    }

    #[test]
    fn owner_may_go_on_once_its_debt_is_paid() {
        let now = Instant::now();
        let mut accounts = accounts(now);
        accounts.charge(file(1), BYSTANDER, OWNER_MAX, now);
        assert_eq!(accounts.allowed(file(2), BYSTANDER, false, now), None);
        let later = now + Duration::from_secs(2);
        assert_eq!(
            accounts.allowed(file(2), BYSTANDER, false, later),
            Some(Duration::from_millis(250))
        );
        assert_eq!(accounts.allowed(file(2), BYSTANDER, true, later), None, "6 s are to be paid");
        accounts.set_rate(Some(1.0), later);
        let later = later + Duration::from_secs(7);
        assert!(accounts.allowed(file(2), BYSTANDER, true, later).is_some());
    }

    #[test]
    fn accounts_are_bounded_and_without_a_rate_there_are_none() {
        let now = Instant::now();
        let mut accounts = accounts(now);
        for number in 0..10_000 {
            accounts.charge(file(number), Owner::User(number), Duration::from_secs(1), now);
        }
        assert!(accounts.files.len() <= FILES_MAX && accounts.owners.len() <= OWNERS_MAX + 1);
        assert_eq!(accounts.allowed(file(20_000), Owner::User(20_000), false, now), None);
        accounts.set_rate(None, now);
        let allowed = accounts.allowed(file(20_000), BYSTANDER, true, now);
        assert_eq!(allowed, Some(Duration::from_secs(2)));
        let mut accounts = CpuAccounts::new(None, accounts.limits, now);
        accounts.charge(file(1), BYSTANDER, Duration::from_secs(100), now);
        assert_eq!(accounts.allowed(file(1), BYSTANDER, true, now), None, "a file is limited");
    }
}
