//! Profiles for the tests of the summary.

use profile::{
    FileAddr, Function, Line, Mapping, MappingKind, Pid, Profile, SampleCount, SampleKey, StackEnd,
    StackId, SymbolizedFrame, Task, TaskId, Tid,
};

/// Returns a profile of one process with these stacks, outermost function first. `?` is code of a
/// JIT compiler without a name; all others are of one program.
pub(super) fn profile(samples: &[(&[&str], u64)]) -> Profile {
    let mapping = |name: &str, kind| Mapping { name: name.into(), build_id: None, kind };
    let mut profile = Profile {
        mappings: vec![
            mapping("/bin/program", MappingKind::File),
            mapping("[jit]", MappingKind::Memory),
        ],
        tasks: vec![Task {
            pid: Pid(12),
            tid: Tid(12),
            comm: "beam".into(),
            thread: "beam".into(),
            cgroup_id: 0,
            labels: Default::default(),
        }],
        ..Profile::default()
    };
    for (stack, count) in samples {
        let frames: Vec<u32> =
            stack.iter().rev().map(|name| add_frame(&mut profile, name)).collect();
        let stack = StackId(profile.stacks.len() as u32);
        profile.stacks.push(frames.into());
        let (kernel_end, user_end) = (StackEnd::Absent, StackEnd::Complete);
        let key = SampleKey { task: TaskId(0), stack, kernel_end, user_end, guessed: false };
        profile.samples.push(SampleCount { key, count: *count });
        profile.ledger.aggregated += count;
    }
    profile
}

/// Returns the index of a frame in a function.
fn add_frame(profile: &mut Profile, name: &str) -> u32 {
    let is_jit = name == "?";
    let known = profile.functions.iter().position(|function| function.name == name);
    let function = known.unwrap_or_else(|| {
        let name = name.to_owned();
        profile.functions.push(Function {
            system_name: name.clone(),
            name,
            file: "/src/code.c".into(),
            ..Function::default()
        });
        profile.functions.len() - 1
    });
    let line = Line { function: function as u32, line: 7 };
    profile.frames.push(SymbolizedFrame {
        mapping: u32::from(is_jit),
        address: FileAddr(16 * profile.frames.len() as u64),
        lines: if is_jit { Vec::new() } else { vec![line] },
    });
    profile.frames.len() as u32 - 1
}
