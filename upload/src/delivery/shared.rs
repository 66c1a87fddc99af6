//! State shared by the intake and the threads of the sinks.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::queues::Queues;
use crate::spool::Spool;

/// The spool's files and the queues that refer to them.
pub struct Shared {
    pub spool: Spool,
    queues: Mutex<Queues>,
}

impl Shared {
    pub fn new(spool: Spool, queues: Queues) -> Self {
        Self { spool, queues: Mutex::new(queues) }
    }

    pub fn queues(&self) -> MutexGuard<'_, Queues> {
        lock(&self.queues)
    }
}

/// Locks a mutex, poisoned or not: the state is consistent after every single step, so a panic
/// elsewhere does not spoil it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
