//! Folded stacks: one line `process;outermost;...;innermost count` per stack, sorted.
//!
//! Kernel functions end in `_[k]` and inlined ones in `_[i]`, the convention of flamegraph tools.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use profile::labels::COMMAND_LINE;
use profile::{MappingKind, Profile, SampleCount, SymbolizedFrame};

use super::named_frame::{markers, shown, with_place};

/// The outermost frames of a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StackRoot {
    /// The name of the process.
    #[default]
    Process,
    /// The name of the process, then the name of the thread.
    Thread,
    /// The name of the process with its number, as in `nginx-12`.
    Pid,
    /// The command line of the process; its name where it is unknown.
    CommandLine,
}

/// Formats a profile as folded stacks. Stacks with equal text are merged into one line.
pub fn folded(profile: &Profile, root: StackRoot) -> String {
    let mut lines: BTreeMap<String, u64> = BTreeMap::new();
    for sample in &profile.samples {
        *lines.entry(line(profile, sample, root)).or_default() += sample.count;
    }
    let mut text = String::new();
    for (line, count) in lines {
        let _ = writeln!(text, "{line} {count}");
    }
    text
}

fn line(profile: &Profile, sample: &SampleCount, root: StackRoot) -> String {
    let mut line = String::new();
    for name in root_names(profile, sample, root) {
        push(&mut line, &name, "");
    }
    for marker in markers(sample) {
        let _ = write!(line, ";{marker}");
    }
    for frame in profile.frames_of(sample).rev() {
        push_frame(&mut line, profile, frame);
    }
    line
}

/// Returns the outermost frames of a stack. A task without a name is `[unnamed]`.
pub(super) fn root_names<'a>(
    profile: &'a Profile,
    sample: &SampleCount,
    root: StackRoot,
) -> Vec<Cow<'a, str>> {
    let task = profile.task_of(sample);
    let name = |name: &'a str| if name.is_empty() { "[unnamed]" } else { name };
    let comm = name(&task.comm);
    match root {
        StackRoot::Process => vec![comm.into()],
        StackRoot::Thread => vec![comm.into(), name(&task.thread).into()],
        StackRoot::Pid => vec![format!("{comm}-{}", task.pid.0).into()],
        StackRoot::CommandLine => vec![task.labels.get(COMMAND_LINE).unwrap_or(comm).into()],
    }
}

fn push_frame(line: &mut String, profile: &Profile, frame: &SymbolizedFrame) {
    let mapping = profile.mapping_of(frame);
    let is_kernel = mapping.kind == MappingKind::Kernel;
    if frame.lines.is_empty() {
        let name = mapping.unnamed(frame.address.0);
        return push(line, &name, if is_kernel { "_[k]" } else { "" });
    }
    // The function itself is last, after the functions inlined into it.
    for (depth, line_info) in frame.lines.iter().rev().enumerate() {
        let suffix = match (is_kernel, depth) {
            (true, _) => "_[k]",
            (false, 0) => "",
            (false, _) => "_[i]",
        };
        let function = &profile.functions[line_info.function as usize];
        let name = with_place(&function.name, &function.file, line_info.line, mapping.kind);
        push(line, &name, suffix);
    }
}

/// Appends a frame. A separator in its name is replaced.
fn push(line: &mut String, name: &str, suffix: &str) {
    if !line.is_empty() {
        line.push(';');
    }
    line.push_str(&shown(name).replace(';', ":"));
    line.push_str(suffix);
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::RuntimeFrames;
    use super::super::runtime_frames::tests::python_example;
    use super::*;
    use expect_test::expect;
    use profile::{
        ExecutableId, FileAddr, Frame, Function, Line, Mapping, Pid, StackEnd, Task, Tid, Window,
    };

    /// Returns a profile of two samples: an inlined function in a system call, and a cut stack
    /// without symbols.
    pub fn example() -> Profile {
        let mut window = Window::new(1 << 20);
        let task = Task {
            pid: Pid(1),
            tid: Tid(2),
            comm: "p;q".into(),
            thread: "worker".into(),
            cgroup_id: 0,
            labels: Default::default(),
        };
        let frame = |executable, address| Frame::new(ExecutableId(executable), FileAddr(address));
        let (kernel, user, caller) = (frame(0, 1), frame(1, 2), frame(1, 3));
        let whole = (StackEnd::Complete, StackEnd::Complete);
        window.add(task.clone(), &[kernel, user, caller], whole, false).expect("room");
        let cut = (StackEnd::Absent, StackEnd::NoRow);
        window.add(task, &[caller], cut, false).expect("room");

        let function = |name: &str| Function { name: name.into(), ..Function::default() };
        let line = |function| Line { function, line: 0 };
        let named = |mapping, address, lines| SymbolizedFrame {
            mapping,
            address: FileAddr(address),
            lines,
        };
        let mapping = |name: &str, kind| Mapping { name: name.into(), build_id: None, kind };
        Profile {
            period_ns: 10_101_010,
            mappings: vec![
                mapping("[kernel.kallsyms]", MappingKind::Kernel),
                mapping("/usr/bin/app", MappingKind::File),
            ],
            functions: vec![function("vfs_read"), function("inner"), function("outer")],
            frames: vec![
                named(0, 1, vec![line(0)]),
                named(1, 2, vec![line(1), line(2)]),
                named(1, 0x1234, vec![]),
            ],
            stacks: window.stacks().map(|s| s.iter().map(|f| f.0).collect()).collect(),
            tasks: window.tasks().cloned().collect(),
            samples: window
                .samples()
                .map(|(key, count)| SampleCount { key: *key, count })
                .collect(),
            ..Profile::default()
        }
    }

    #[test]
    fn stacks_start_with_the_process_and_mark_cuts() {
        expect![[r#"
            p:q;[cut: no unwind row];app+0x1234 1
            p:q;app+0x1234;outer;inner_[i];vfs_read_[k] 1
        "#]]
        .assert_eq(&folded(&example(), StackRoot::Process));
    }

    #[test]
    fn guess_is_marked_where_a_cut_would_be() {
        let mut profile = example();
        profile.samples.iter_mut().for_each(|sample| sample.key.guessed = true);
        expect![[r#"
            p:q;[cut: no unwind row];[guessed: frame pointers];app+0x1234 1
            p:q;[guessed: frame pointers];app+0x1234;outer;inner_[i];vfs_read_[k] 1
        "#]]
        .assert_eq(&folded(&profile, StackRoot::Process));
    }

    #[test]
    fn python_functions_have_their_file_and_line() {
        expect![[r#"
            p:q;[cut: no unwind row];run_eval;[python] 1
            p:q;python3+0x30;run_eval;<module> (app.py:9);run_eval;App.work (app.py:5);encode 1
        "#]]
        .assert_eq(&folded(&python_example(), StackRoot::Process));
        expect![[r#"
            p:q;<module> (app.py:9);App.work (app.py:5);encode 1
            p:q;[cut: no unwind row];[python] 1
        "#]]
        .assert_eq(&folded(&RuntimeFrames::Hide.of(&python_example()), StackRoot::Process));
    }

    #[test]
    fn the_thread_is_the_second_frame() {
        let text = folded(&example(), StackRoot::Thread);
        assert!(text.lines().all(|line| line.starts_with("p:q;worker;")), "{text}");
    }
}
