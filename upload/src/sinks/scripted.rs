//! A sink that follows a script, for the tests of the delivery.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::batch::{Answer, Batch, Failure};
use crate::config::ConfigError;
use crate::transport::ResponseCounts;

/// What a scripted sink does with a batch.
#[derive(Clone, Debug)]
pub enum Action {
    /// Returns this answer.
    Answer(Answer),
    /// Never answers.
    Hang,
    /// Blocks the thread until the mutex is free, then delivers.
    Block(Arc<Mutex<()>>),
    /// Panics.
    Panic,
}

/// A sink that follows a script and records what it receives. Clones are the same sink.
#[derive(Clone, Debug, Default)]
pub struct ScriptedSink(Arc<Mutex<SinkState>>);

#[derive(Debug, Default)]
struct SinkState {
    /// Actions for the next batches.
    actions: VecDeque<Action>,
    /// Action after those; `None` delivers.
    default_action: Option<Action>,
    /// Start of each window received, once per attempt.
    received: Vec<u64>,
    /// Start of each window delivered.
    delivered: Vec<u64>,
    /// How often a sink was started from the script.
    starts: u64,
    fails_to_start: bool,
}

impl PartialEq for ScriptedSink {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl ScriptedSink {
    /// Performs these actions, then delivers everything.
    pub fn with_actions(actions: impl IntoIterator<Item = Action>) -> Self {
        let sink = Self::default();
        sink.set_script(actions);
        sink
    }

    /// Performs one action for every batch.
    pub fn always(action: Action) -> Self {
        let sink = Self::default();
        sink.state().default_action = Some(action);
        sink
    }

    /// Delivers everything from now on.
    pub fn recover(&self) {
        self.set_script([]);
    }

    /// Fails to start from now on.
    pub fn fail_to_start(&self) {
        self.state().fails_to_start = true;
    }

    /// Replaces the script.
    pub fn set_script(&self, actions: impl IntoIterator<Item = Action>) {
        let mut state = self.state();
        state.actions = actions.into_iter().collect();
        state.default_action = None;
    }

    /// Returns how many clones exist.
    pub fn clones(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    fn state(&self) -> MutexGuard<'_, SinkState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn received(&self) -> Vec<u64> {
        self.state().received.clone()
    }

    pub fn delivered(&self) -> Vec<u64> {
        self.state().delivered.clone()
    }

    pub fn starts(&self) -> u64 {
        self.state().starts
    }

    pub fn start(&self) -> Result<Self, ConfigError> {
        let mut state = self.state();
        if state.fails_to_start {
            return Err(ConfigError::Invalid("the script fails; correct it".to_owned()));
        }
        state.starts += 1;
        Ok(self.clone())
    }

    pub fn take_responses(&mut self) -> ResponseCounts {
        ResponseCounts::default()
    }

    pub async fn send(&mut self, batch: &Batch) -> Answer {
        match self.next_action(batch.start_unix_ns()) {
            Action::Answer(answer) => answer,
            Action::Hang => std::future::pending().await,
            Action::Block(gate) => {
                let _unblocked = gate.lock();
                Answer::Delivered { bytes: 100 }
            }
            Action::Panic => panic!("a panic on purpose"),
        }
    }

    fn next_action(&self, start_unix_ns: u64) -> Action {
        let mut state = self.state();
        state.received.push(start_unix_ns);
        let scripted = state.actions.pop_front().or_else(|| state.default_action.clone());
        let action = scripted.unwrap_or(delivered());
        if let Action::Answer(Answer::Delivered { .. } | Answer::Partly { .. }) = &action {
            state.delivered.push(start_unix_ns);
        }
        action
    }
}

pub fn delivered() -> Action {
    Action::Answer(Answer::Delivered { bytes: 100 })
}

pub fn later(reason: Failure) -> Action {
    Action::Answer(Answer::Later { reason, after: None, text: "not now".to_owned() })
}

pub fn rejected(reason: Failure) -> Action {
    Action::Answer(Answer::Rejected { reason, text: "never".to_owned() })
}
