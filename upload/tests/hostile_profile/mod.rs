//! A profile whose names are what users of a machine could choose to break a reader.
// Each test binary uses a part of this.
#![allow(dead_code)]

use profile::{
    Cpu, ExecutableId, FileAddr, Frame, Function, InterpretedLanguage, Line, Mapping, MappingKind,
    Pid, Profile, SampleCount, SampleId, SampleTimes, StackEnd, SymbolizedFrame, Task, Tid,
    TimedSample, Timeline, Window,
};

/// Nanoseconds that a sample stands for.
pub const PERIOD_NS: u64 = 10_000_000;
/// Start of the profile, nanoseconds of CLOCK_MONOTONIC.
pub const START_NS: u64 = 5_000_000_000;

/// Number of the first function of Python, which tells apart the frames of such functions.
const PYTHON_START: u64 = 100;

/// Names of threads, functions and files.
fn names() -> Vec<String> {
    let names = [
        "main",
        "x",
        "std::vec<int>::operator[](unsigned long) const",
        "(anonymous namespace)::f(int)",
        "ptr<T>::operator->() const",
        "<fn() -> i32 as core::ops::FnOnce<()>>::call_once",
        "net/http.(*Client).Do",
        "a;b;c 7",
        "</script><svg onload=x>",
        "\"quoted\" 'twice' \\n \\",
        "line\nbreak\r\n\ttab",
        "\n\n",
        "worker 1 2 3.5: cycles:",
        "# ========",
        "{\"json\": [1]}",
        "   spaces   ",
        "f+0x12",
        "\u{1b}[2J\u{1b}]0;title\u{7}",
        "\u{202e}right to left\u{2066}",
        "\u{fffe}\u{ffff}\u{fdd0}\u{feff}",
        "\u{fffd}\u{fffd}\u{fffd}",
        "\0\u{7f}\u{9b}31m",
        "kworker/0:1-events",
        "[unknown]",
        "größe λ 漢字 🦀",
        "",
    ];
    let long = ["x".repeat(1 << 20), "\u{1b}".repeat(1 << 20), ") (".repeat(1 << 18)];
    names.map(str::to_owned).into_iter().chain(long).collect()
}

/// Returns a profile with each of the names that break readers.
pub fn profile() -> Profile {
    profile_of(&names())
}

/// Returns a profile with each name as process, thread, file and function.
pub fn profile_of(names: &[String]) -> Profile {
    let count = names.len() as u32;
    let mut window = Window::new(64 << 20);
    let frame =
        |executable: u32, address: u64| Frame::new(ExecutableId(executable), FileAddr(address));
    for (index, name) in (0..count).zip(names) {
        let task = Task {
            pid: Pid(4_194_000 + index / 2),
            tid: Tid(4_194_000 + index),
            comm: name.as_str().into(),
            thread: name.as_str().into(),
            cgroup_id: 0,
            labels: Default::default(),
        };
        let (kernel, named, unnamed) = (frame(count, 1), frame(index, 2), frame(index, 3));
        let python = frame(count + 1, PYTHON_START + u64::from(index));
        let complete = (StackEnd::Complete, StackEnd::Complete);
        let cut = (StackEnd::Absent, StackEnd::NoRow);
        let both = (StackEnd::Depth, StackEnd::BadReturnAddress);
        for (stack, ends, samples) in [
            (vec![kernel, named, unnamed], complete, 2 + index % 3),
            (vec![unnamed], cut, 1),
            (vec![kernel], both, 1),
            (vec![python], complete, 1),
            (vec![], (StackEnd::Absent, StackEnd::Absent), index % 2),
        ] {
            for _ in 0..samples {
                window.add(task.clone(), &stack, ends, false).expect("it fits");
            }
        }
    }
    symbolized(&window, names)
}

/// Names the frames of a window: those at address 2 have two functions, one inlined, and those of
/// Python have the function of their number.
fn symbolized(window: &Window, names: &[String]) -> Profile {
    let mut mappings: Vec<Mapping> = names
        .iter()
        .map(|name| format!("/usr/lib/{name} (deleted)"))
        .map(|name| Mapping { name, build_id: None, kind: MappingKind::File })
        .collect();
    let kernel = "[kernel.kallsyms]".to_owned();
    mappings.push(Mapping { name: kernel, build_id: None, kind: MappingKind::Kernel });
    let python = MappingKind::Interpreted(InterpretedLanguage::Python);
    mappings.push(Mapping::new("[python]", None, python));
    let function = |name: &String| Function {
        name: name.clone(),
        system_name: name.clone(),
        file: format!("/src/{name}.c"),
        start_line: 3,
    };
    let symbolize = |frame: &Frame| SymbolizedFrame {
        mapping: frame.executable.0,
        address: frame.address,
        lines: match frame.address.0 {
            1 => vec![Line { function: 0, line: 0 }],
            2 => [(frame.executable.0, 7), (0, 0)]
                .map(|(function, line)| Line { function, line })
                .into(),
            address if address >= PYTHON_START => {
                vec![Line { function: (address - PYTHON_START) as u32, line: 7 }]
            }
            _ => Vec::new(),
        },
    };
    Profile {
        start_unix_ns: 1_700_000_000_000_000_000,
        duration_ns: 1_000_000_000,
        period_ns: PERIOD_NS,
        mappings,
        functions: names.iter().map(function).collect(),
        frames: window.frames().map(symbolize).collect(),
        stacks: window.stacks().map(|stack| stack.iter().map(|frame| frame.0).collect()).collect(),
        tasks: window.tasks().cloned().collect(),
        samples: window.samples().map(|(key, count)| SampleCount { key: *key, count }).collect(),
        comments: vec!["everytick 1".into(), "host h".into()],
        ..Profile::default()
    }
}

/// Returns the profile with a time for each sample.
pub fn profile_with_times() -> Profile {
    with_times(profile())
}

/// Adds a time for each sample.
pub fn with_times(mut profile: Profile) -> Profile {
    let mut times = SampleTimes::new(1 << 20);
    let mut time_ns = START_NS;
    for (sample, index) in profile.samples.iter().zip(0..) {
        for _ in 0..sample.count {
            time_ns += 1_234_567;
            times.add(TimedSample { time_ns, cpu: Cpu(index % 3), sample: SampleId(index) });
        }
    }
    profile.timeline = Some(Timeline { start_ns: START_NS, times });
    profile
}

/// Returns the number of frames of a sample below its thread, at least one: some readers drop a
/// sample without a frame, so that it has an unknown one.
pub fn depth(profile: &Profile, sample: &SampleCount) -> u64 {
    functions_and_cuts(profile, sample).max(1)
}

/// Returns the number of functions of a sample, inlined ones included, and of its parts that are
/// cut.
pub fn functions_and_cuts(profile: &Profile, sample: &SampleCount) -> u64 {
    let cuts = [sample.key.kernel_end, sample.key.user_end].into_iter().filter(|end| end.is_cut());
    let functions = profile.frames_of(sample).map(|frame| frame.lines.len().max(1));
    (cuts.count() + functions.sum::<usize>()) as u64
}
