//! The frames of a window by executable, and the order in which executables are symbolized.

use std::collections::HashMap;
use std::sync::Arc;

use profile::{ExecutableId, FileAddr, Frame, Window};

use crate::limits::Owner;
use crate::processes::{CodeName, CodeNameGap, Executable, WindowExecutables};

/// The frames of a window that lie in one executable.
#[derive(Debug)]
pub(super) struct ExecutableFrames {
    pub executable: ExecutableId,
    /// The frames, each with its index in the window.
    pub frames: Vec<(usize, Frame)>,
    /// Samples with their leaf in this executable.
    pub leaf_samples: u64,
    /// The cgroup with most of these; 0 without any.
    pub cgroup: u64,
}

impl ExecutableFrames {
    /// Returns the names that the frames refer to, in their order, or why there are none; `None`
    /// for frames whose names follow from their addresses.
    pub fn code_names<'a>(
        &self,
        executables: &'a WindowExecutables,
    ) -> Vec<Option<Result<&'a CodeName, CodeNameGap>>> {
        let name =
            |(_, frame): &(usize, Frame)| frame.code_name.map(|id| executables.code_name(id));
        self.frames.iter().map(name).collect()
    }

    /// Returns the addresses of frames that have no name yet.
    pub fn addresses_without(
        &self,
        code_names: &[Option<Result<&CodeName, CodeNameGap>>],
    ) -> Vec<FileAddr> {
        let frames = self.frames.iter().zip(code_names);
        let unnamed = frames.filter(|(_, name)| !matches!(name, Some(Ok(_))));
        unnamed.map(|((_, frame), _)| frame.address).collect()
    }

    /// Returns whether some frames are an interpreter's machinery, or whether some are not.
    pub fn has(&self, is_machinery: bool) -> bool {
        self.frames.iter().any(|(_, frame)| frame.is_machinery == is_machinery)
    }
}

/// Groups frames by executable: those with most leaf samples first, because readers of pprof take
/// the first mapping for the program; the kernel last.
pub(super) fn group_by_executable(window: &Window) -> Vec<ExecutableFrames> {
    let frames: Vec<&Frame> = window.frames().collect();
    let mut groups: HashMap<ExecutableId, ExecutableFrames> = HashMap::new();
    for (index, frame) in frames.iter().enumerate() {
        let executable = frame.executable;
        let group = groups.entry(executable).or_insert_with(|| ExecutableFrames {
            executable,
            frames: Vec::new(),
            leaf_samples: 0,
            cgroup: 0,
        });
        group.frames.push((index, **frame));
    }
    for ((executable, cgroup), samples) in leaf_samples(window, &frames) {
        if let Some(group) = groups.get_mut(&executable) {
            group.leaf_samples += samples.count;
            if samples.is_most {
                group.cgroup = cgroup;
            }
        }
    }
    let mut groups: Vec<ExecutableFrames> = groups.into_values().collect();
    groups.sort_by_key(|group| {
        let is_kernel = group.executable == ExecutableId::KERNEL;
        (is_kernel, u64::MAX - group.leaf_samples, group.executable)
    });
    groups
}

/// The addresses of one executable in a window.
#[derive(Clone, Copy)]
pub struct AddressGroup<'a> {
    /// The executable.
    pub id: ExecutableId,
    /// The executable.
    pub executable: &'a Arc<Executable>,
    /// The cgroup that runs it most.
    pub cgroup: u64,
    /// Samples with their leaf in it.
    pub samples: u64,
    /// Addresses in it.
    pub addresses: &'a [FileAddr],
    /// Bytes that new names may take.
    pub names_max: usize,
}

/// Samples with their leaf in one executable, of one cgroup.
#[derive(Clone, Copy, Default)]
struct LeafSamples {
    count: u64,
    /// No cgroup has more in this executable.
    is_most: bool,
}

fn leaf_samples(window: &Window, frames: &[&Frame]) -> HashMap<(ExecutableId, u64), LeafSamples> {
    let stacks: Vec<_> = window.stacks().collect();
    let cgroups: Vec<u64> = window.tasks().map(|task| task.cgroup_id).collect();
    let mut samples: HashMap<_, LeafSamples> = HashMap::new();
    for (key, count) in window.samples() {
        let leaf = stacks[key.stack.0 as usize].first();
        if let Some(leaf) = leaf.map(|leaf| frames[leaf.0 as usize].executable) {
            samples.entry((leaf, cgroups[key.task.0 as usize])).or_default().count += count;
        }
    }
    let mut most: HashMap<ExecutableId, (u64, u64)> = HashMap::new();
    for ((executable, cgroup), samples) in &samples {
        let best = most.entry(*executable).or_default();
        *best = (*best).max((samples.count, *cgroup));
    }
    for ((executable, cgroup), samples) in &mut samples {
        samples.is_most = most.get(executable).is_some_and(|(_, best)| best == cgroup);
    }
    samples
}

/// Who owns an executable, and whether it is known to be slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    pub owner: Owner,
    pub is_slow: bool,
    /// Size of its file in bytes; 0 without a file.
    pub bytes: u64,
}

/// Returns the order in which to symbolize executables, as indices: in turn one of each owner,
/// small files first; then the kernel, whose list takes longer than most files; then in the same
/// way those that are slow.
pub(super) fn loading_order(groups: &[ExecutableFrames], traits: &[Traits]) -> Vec<usize> {
    let mut turns: HashMap<(Owner, bool), usize> = HashMap::new();
    let mut by_size: Vec<usize> = (0..groups.len()).collect();
    by_size.sort_by_key(|index| (traits[*index].bytes, *index));
    let place = |index: usize| {
        let Traits { owner, is_slow, .. } = traits[index];
        let turn = turns.entry((owner, is_slow)).or_default();
        *turn += 1;
        (is_slow, groups[index].executable == ExecutableId::KERNEL, *turn, index)
    };
    let mut order: Vec<_> = by_size.into_iter().map(place).collect();
    order.sort_unstable();
    order.into_iter().map(|(.., index)| index).collect()
}

#[cfg(test)]
mod tests {
    use profile::{Pid, StackEnd, Task, Tid};

    use super::*;

    fn window(samples: &[(u32, u64, u64)]) -> Window {
        let mut window = Window::new(1 << 20);
        for (executable, cgroup_id, count) in samples {
            let task = Task {
                pid: Pid(1),
                tid: Tid(*cgroup_id as u32),
                comm: "p".into(),
                thread: "t".into(),
                cgroup_id: *cgroup_id,
                labels: Default::default(),
            };
            let frame = Frame::new(ExecutableId(*executable), FileAddr(1));
            let ends = (StackEnd::Absent, StackEnd::Complete);
            for _ in 0..*count {
                window.add(task.clone(), &[frame], ends, false).expect("space");
            }
        }
        window
    }

    #[test]
    fn executables_belong_to_the_cgroup_that_runs_them_most() {
        let kernel = ExecutableId::KERNEL.0;
        let window = window(&[(10, 1, 2), (11, 1, 5), (11, 2, 6), (kernel, 3, 100)]);
        let groups = group_by_executable(&window);
        let found: Vec<_> =
            groups.iter().map(|g| (g.executable.0, g.leaf_samples, g.cgroup)).collect();
        assert_eq!(found, [(11, 11, 2), (10, 2, 1), (kernel, 100, 3)]);
    }

    #[test]
    fn owners_take_turns_and_slow_executables_come_last() {
        let kernel = ExecutableId::KERNEL.0;
        let window = window(&[(10, 1, 9), (11, 1, 8), (12, 1, 7), (13, 2, 1), (kernel, 1, 1)]);
        let groups = group_by_executable(&window);
        let fast = Traits { owner: Owner::User(1000), is_slow: false, bytes: 1000 };
        let mut traits = vec![fast; 5];
        traits[1].bytes = 2000;
        traits[3].owner = Owner::Group(2);
        traits[0].is_slow = true;
        let order = loading_order(&groups, &traits);
        let order: Vec<u32> = order.into_iter().map(|index| groups[index].executable.0).collect();
        assert_eq!(order, [12, 13, 11, kernel, 10]);
    }
}
