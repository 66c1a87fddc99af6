//! A window: samples counted by task and stack, within a bound of memory.

use std::sync::Arc;

use indexmap::IndexSet;
use indexmap::map::IndexMap;

use crate::{
    CodeNameId, Cpu, ExecutableId, FileAddr, InterpretedLanguage, Labels, Pid, SampleId,
    SampleTimes, StackEnd, Tid, TimedSample,
};

/// A frame before symbolization: an instruction in an executable.
///
/// `address` is inside the instruction that runs or calls. For callers it is the return address
/// less one, so that function and line are those of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The executable.
    pub executable: ExecutableId,
    /// The address in the executable.
    pub address: FileAddr,
    /// The name at the time of the sample, of code of a JIT compiler, code that comes into the
    /// kernel, or a function that an interpreter runs.
    pub code_name: Option<CodeNameId>,
    /// Whether it is a native frame of the machinery with which an interpreter runs functions that
    /// have frames of their own.
    pub is_machinery: bool,
}

impl Frame {
    /// Returns a frame whose name follows from its executable and address.
    pub fn new(executable: ExecutableId, address: FileAddr) -> Self {
        Self { executable, address, code_name: None, is_machinery: false }
    }

    /// Returns the frame of a function that an interpreter runs; `None` if its name is not known.
    pub fn interpreted(language: InterpretedLanguage, code_name: Option<CodeNameId>) -> Self {
        Self { code_name, ..Self::new(language.executable(), FileAddr(0)) }
    }
}

/// Index of a frame in [`Window::frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameId(pub u32);

/// Index of a stack in [`Window::stacks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StackId(pub u32);

/// Index of a task in [`Window::tasks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskId(pub u32);

/// A thread of a process, with the names that both had at the time.
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
    /// Number of the cgroup in the cgroup v2 hierarchy.
    pub cgroup_id: u64,
    /// Series labels, shared by all tasks with the same ones. Empty in `record`.
    pub labels: Arc<Labels>,
}

impl Task {
    /// Returns the bytes of memory that the texts take, as if they were not shared.
    fn text_bytes(&self) -> usize {
        self.comm.len() + self.thread.len() + self.labels.bytes()
    }
}

/// What samples that are counted together have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SampleKey {
    /// The thread that ran.
    pub task: TaskId,
    /// The stack that it ran.
    pub stack: StackId,
    /// How the kernel part of the stack ends.
    pub kernel_end: StackEnd,
    /// How the user part of the stack ends.
    pub user_end: StackEnd,
    /// Whether a user frame is a guess by frame pointer.
    pub guessed: bool,
}

/// The counted samples of one period, within a bound of memory.
///
/// Each frame, stack and task is stored once.
#[derive(Debug)]
pub struct Window {
    frames: IndexSet<Frame>,
    stacks: IndexSet<Box<[FrameId]>>,
    tasks: IndexSet<Task>,
    samples: IndexMap<SampleKey, u64>,
    /// The time of each sample, if they are kept.
    times: Option<SampleTimes>,
    bytes: usize,
    bytes_max: usize,
}

/// The sample does not fit into the window. Samples like those in the window can still be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the window is full")]
pub struct WindowFull;

impl Window {
    /// Bytes of memory per stored item in addition to its own: hash, index slot, allocation.
    const ITEM_OVERHEAD: usize = 48;

    /// Returns an empty window that takes at most about `bytes_max` bytes of memory.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            frames: IndexSet::new(),
            stacks: IndexSet::new(),
            tasks: IndexSet::new(),
            samples: IndexMap::new(),
            times: None,
            bytes: 0,
            bytes_max,
        }
    }

    /// Keeps the times of samples too, in at most `bytes_max` bytes more.
    pub fn keep_times(&mut self, bytes_max: usize) {
        self.times = Some(SampleTimes::new(bytes_max));
    }

    /// Adds the time of a sample that [`Window::add`] has counted, if times are kept.
    pub fn add_time(&mut self, sample: SampleId, time_ns: u64, cpu: Cpu) {
        if let Some(times) = &mut self.times {
            times.add(TimedSample { time_ns, cpu, sample });
        }
    }

    /// Returns the times of samples, if they are kept.
    pub fn times(&self) -> Option<&SampleTimes> {
        self.times.as_ref()
    }

    /// Counts one sample, and returns the index of its key. `stack`: innermost frame first. `ends`:
    /// of the kernel and the user part.
    ///
    /// # Errors
    /// [`WindowFull`] if the sample differs from all before and does not fit.
    pub fn add(
        &mut self,
        task: Task,
        stack: &[Frame],
        ends: (StackEnd, StackEnd),
        guessed: bool,
    ) -> Result<SampleId, WindowFull> {
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
        if let Some((index, _, count)) = self.samples.get_full_mut(&key) {
            *count += 1;
            return Ok(SampleId(index as u32));
        }
        if is_full {
            return Err(WindowFull);
        }
        self.bytes += size_of::<(SampleKey, u64)>() + Self::ITEM_OVERHEAD;
        Ok(SampleId(self.samples.insert_full(key, 1).0 as u32))
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

    /// Returns the distinct frames, each at its [`FrameId`].
    pub fn frames(&self) -> impl ExactSizeIterator<Item = &Frame> {
        self.frames.iter()
    }

    /// Returns the distinct stacks, each at its [`StackId`], innermost frame first.
    pub fn stacks(&self) -> impl ExactSizeIterator<Item = &[FrameId]> {
        self.stacks.iter().map(|stack| &**stack)
    }

    /// Returns the distinct tasks, each at its [`TaskId`].
    pub fn tasks(&self) -> impl ExactSizeIterator<Item = &Task> {
        self.tasks.iter()
    }

    /// Returns the counted samples, each at its [`SampleId`].
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
        let frame = |a: &u64| Frame::new(ExecutableId(1), FileAddr(*a));
        addresses.iter().map(frame).collect()
    }

    const ENDS: (StackEnd, StackEnd) = (StackEnd::Absent, StackEnd::NoRow);

    #[test]
    fn stores_equal_stacks_once_and_counts_them() {
        let mut window = Window::new(1 << 20);
        for _ in 0..3 {
            window.add(task(1), &stack(&[1, 2, 3]), ENDS, false).expect("it fits");
        }
        window.add(task(2), &stack(&[1, 2, 3]), ENDS, false).expect("it fits");
        assert_eq!((window.stacks().len(), window.frames().len()), (1, 3));
        let counts: Vec<u64> = window.samples().map(|(_, count)| count).collect();
        assert_eq!(counts, [3, 1]);
    }

    #[test]
    fn full_window_counts_samples_it_already_has() {
        let mut window = Window::new(2000);
        window.add(task(1), &stack(&[1]), ENDS, false).expect("it fits");
        let rejected = (2..1000).find(|i| window.add(task(1), &stack(&[*i]), ENDS, false).is_err());
        assert!(rejected.is_some(), "2000 bytes are too few");
        window.add(task(1), &stack(&[1]), ENDS, false).expect("a stack that is stored");
        assert!(window.bytes <= 2000, "{} bytes", window.bytes);
    }
}
