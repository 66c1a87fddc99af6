//! A window: samples counted by task and stack, each stack stored once.

use std::sync::Arc;

use indexmap::IndexSet;
use indexmap::map::IndexMap;

use crate::{ExecutableId, FileAddr, Labels, Pid, StackEnd, Tid};

/// One frame without a name: an instruction in an executable.
///
/// `address` lies within the instruction that runs or calls: for callers it is the
/// return address less one, so that line and function are the call's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// Where the instruction is.
    pub executable: ExecutableId,
    /// Which one it is.
    pub address: FileAddr,
}

/// Place of a frame in [`Window::frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameId(pub u32);

/// Place of a stack in [`Window::stacks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StackId(pub u32);

/// Place of a task in [`Window::tasks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskId(pub u32);

/// Who ran: a thread of a process, with their names at the time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// The process.
    pub pid: Pid,
    /// The thread.
    pub tid: Tid,
    /// Name of the process: `comm` of its main thread.
    pub comm: Box<str>,
    /// Name of the thread.
    pub thread: Box<str>,
    /// Its cgroup's number in the cgroup v2 hierarchy.
    pub cgroup_id: u64,
    /// What else tells it from others, shared with all of which the same is known. Nothing in `record`.
    pub labels: Arc<Labels>,
}

impl Task {
    /// Bytes of memory that its texts take, as if nobody shared them.
    fn text_bytes(&self) -> usize {
        self.comm.len() + self.thread.len() + self.labels.bytes()
    }
}

/// What samples have in common that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SampleKey {
    /// Who ran.
    pub task: TaskId,
    /// What ran.
    pub stack: StackId,
    /// Why the kernel part of the stack ends where it does.
    pub kernel_end: StackEnd,
    /// Why the user part of the stack ends where it does.
    pub user_end: StackEnd,
    /// Whether a user frame was found without anything to confirm it.
    pub guessed: bool,
}

/// Counted samples of one period. Grows up to a limit of bytes and no further.
#[derive(Debug)]
pub struct Window {
    frames: IndexSet<Frame>,
    stacks: IndexSet<Box<[FrameId]>>,
    tasks: IndexSet<Task>,
    samples: IndexMap<SampleKey, u64>,
    bytes: usize,
    bytes_max: usize,
}

/// The window has no room for what is new; what it has already can still be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the window is full")]
pub struct WindowFull;

impl Window {
    /// Bytes a stored item takes beside its own: hash, index slot and allocation.
    const ITEM_OVERHEAD: usize = 48;

    /// Makes an empty window that takes at most about `bytes_max` bytes of memory.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            frames: IndexSet::new(),
            stacks: IndexSet::new(),
            tasks: IndexSet::new(),
            samples: IndexMap::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Counts one sample. `stack`: innermost frame first.
    ///
    /// # Errors
    /// [`WindowFull`] when it is not like one before and there is no more room.
    pub fn add(
        &mut self,
        task: Task,
        stack: &[Frame],
        ends: (StackEnd, StackEnd),
        guessed: bool,
    ) -> Result<(), WindowFull> {
        let worst =
            size_of_val(stack) * 2 + stack.len() * Self::ITEM_OVERHEAD + task.text_bytes() + 256;
        let is_full = self.bytes + worst > self.bytes_max;
        let task = match self.tasks.get_index_of(&task) {
            Some(index) => TaskId(index as u32),
            None if is_full => return Err(WindowFull),
            None => self.store_task(task),
        };
        let stack = self.store_stack(stack, is_full)?;
        let key = SampleKey { task, stack, kernel_end: ends.0, user_end: ends.1, guessed };
        if let Some(count) = self.samples.get_mut(&key) {
            *count += 1;
            return Ok(());
        }
        if is_full {
            return Err(WindowFull);
        }
        self.bytes += size_of::<(SampleKey, u64)>() + Self::ITEM_OVERHEAD;
        self.samples.insert(key, 1);
        Ok(())
    }

    fn store_task(&mut self, task: Task) -> TaskId {
        self.bytes += size_of::<Task>() + task.text_bytes() + Self::ITEM_OVERHEAD;
        TaskId(self.tasks.insert_full(task).0 as u32)
    }

    fn store_stack(&mut self, stack: &[Frame], is_full: bool) -> Result<StackId, WindowFull> {
        let mut ids = Vec::with_capacity(stack.len());
        for frame in stack {
            let index = match self.frames.get_index_of(frame) {
                Some(index) => index,
                None if is_full => return Err(WindowFull),
                None => {
                    self.bytes += size_of::<Frame>() + Self::ITEM_OVERHEAD;
                    self.frames.insert_full(*frame).0
                }
            };
            ids.push(FrameId(index as u32));
        }
        if let Some(index) = self.stacks.get_index_of(ids.as_slice()) {
            return Ok(StackId(index as u32));
        }
        if is_full {
            return Err(WindowFull);
        }
        self.bytes += size_of_val(ids.as_slice()) + Self::ITEM_OVERHEAD;
        Ok(StackId(self.stacks.insert_full(ids.into()).0 as u32))
    }

    /// The distinct frames, each at its [`FrameId`].
    pub fn frames(&self) -> impl ExactSizeIterator<Item = &Frame> {
        self.frames.iter()
    }

    /// The distinct stacks, each at its [`StackId`], innermost frame first.
    pub fn stacks(&self) -> impl ExactSizeIterator<Item = &[FrameId]> {
        self.stacks.iter().map(|stack| &**stack)
    }

    /// The distinct tasks, each at its [`TaskId`].
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = &Task> {
        self.tasks.iter()
    }

    /// The counted samples.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = (&SampleKey, u64)> {
        self.samples.iter().map(|(key, count)| (key, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(tid: u32) -> Task {
        let (comm, thread, labels) = ("p".into(), "t".into(), Arc::default());
        Task { pid: Pid(1), tid: Tid(tid), comm, thread, cgroup_id: 1, labels }
    }

    fn stack(addresses: &[u64]) -> Vec<Frame> {
        let frame = |a: &u64| Frame { executable: ExecutableId(1), address: FileAddr(*a) };
        addresses.iter().map(frame).collect()
    }

    const ENDS: (StackEnd, StackEnd) = (StackEnd::Absent, StackEnd::NoRow);

    #[test]
    fn equal_stacks_are_stored_once_and_counted() {
        let mut window = Window::new(1 << 20);
        for _ in 0..3 {
            window.add(task(1), &stack(&[1, 2, 3]), ENDS, false).expect("room");
        }
        window.add(task(2), &stack(&[1, 2, 3]), ENDS, false).expect("room");
        assert_eq!((window.stacks().len(), window.frames().len()), (1, 3));
        let counts: Vec<u64> = window.samples().map(|(_, count)| count).collect();
        assert_eq!(counts, [3, 1]);
    }

    #[test]
    fn a_full_window_still_counts_what_it_knows() {
        let mut window = Window::new(2000);
        window.add(task(1), &stack(&[1]), ENDS, false).expect("room");
        let refused = (2..1000).find(|i| window.add(task(1), &stack(&[*i]), ENDS, false).is_err());
        assert!(refused.is_some(), "a bound of 2000 bytes must be met");
        window.add(task(1), &stack(&[1]), ENDS, false).expect("known");
        assert!(window.bytes <= 2000, "{} bytes", window.bytes);
    }
}
