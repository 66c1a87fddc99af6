//! Profiles of few frames: functions of Python, and an interpreter's machinery.

use std::num::NonZeroU32;

use profile::pprof::{SampleGrouping, to_message};
use profile::{CodeNameId, ExecutableId, InterpretedLanguage, Pid, StackEnd, Task, Tid};

use super::*;
use crate::limits::Owner;
use crate::symbolization::groups::group_by_executable;
use crate::symbolization::limits::SymbolizerMemory;
use crate::symbolization::name_space::NameSpace;

const PERIOD: Period = Period {
    start_unix_ns: 0,
    start_since_boot_ns: 0,
    start_monotonic_ns: 0,
    duration_ns: 1,
    sample_ns: 1,
};

/// Builds the profile of a stack, innermost frame first, in Python and in one file. Names are
/// referred to by their index.
fn build(stack: &[Frame], names: &[Result<CodeName, CodeNameGap>]) -> (Profile, NameCounts) {
    let task = Task {
        pid: Pid(1),
        tid: Tid(1),
        comm: "p".into(),
        thread: "t".into(),
        cgroup_id: 1,
        labels: Default::default(),
    };
    let mut window = Window::new(1 << 20);
    let ends = (StackEnd::Absent, StackEnd::Complete);
    window.add(task, stack, ends, false).expect("space");
    let groups = group_by_executable(&window);
    let executable = |name: &str, origin| {
        let mut executable = Executable::unknown();
        (executable.name, executable.origin) = (name.into(), origin);
        executable
    };
    let executables = groups.iter().map(|group| match group.executable {
        ExecutableId::FIRST_INTERPRETED => executable("[python]", ExecutableOrigin::Memory),
        _ => executable("/usr/bin/python3", ExecutableOrigin::Unopened),
    });
    let executables: Vec<Executable> = executables.collect();
    let mut builder = ProfileBuilder::new(&window, groups.iter().zip(&executables));
    let memory = SymbolizerMemory { cache: 1 << 20, worker: 1 << 20 };
    let mut symbolizer = WindowSymbolizer::new("/nonexistent", memory);
    let mut space = NameSpace::new(1 << 20);
    for (index, (group, executable)) in groups.iter().zip(&executables).enumerate() {
        let name = |(_, frame): &(usize, Frame)| {
            let name = &names[frame.code_name?.0.get() as usize - 1];
            Some(name.as_ref().map_err(|gap| *gap))
        };
        let code_names: Vec<_> = group.frames.iter().map(name).collect();
        let result = &Err(SymbolizeError::NotOpen);
        let found =
            GroupNames { executable, code_names: &code_names, knows_kernel_code: false, result };
        let mut space = space.of_executable(Owner::SYSTEM);
        builder.add_frames(index, group, &found, &mut space, &mut symbolizer);
    }
    let counts = builder.counts;
    (builder.finish(&window, CaptureLedger::default(), PERIOD), counts)
}

fn python(name: u32) -> Frame {
    Frame::interpreted(InterpretedLanguage::Python, NonZeroU32::new(name).map(CodeNameId))
}

#[test]
fn python_frames_have_functions_with_their_files_and_lines() {
    let name = CodeName {
        name: "Worker.work".into(),
        file: "/srv/app.py".into(),
        line: 12,
        start_line: 10,
    };
    let (profile, counts) = build(&[python(1)], &[Ok(name)]);
    let message = to_message(&profile, SampleGrouping::ByThread);
    let text = |index: i64| message.string_table[index as usize].as_str();
    let [mapping] = &message.mapping[..] else { panic!("{:?}", message.mapping) };
    assert_eq!(text(mapping.filename), "[python]");
    assert!(mapping.has_functions && mapping.has_filenames && mapping.has_line_numbers);
    let [function] = &message.function[..] else { panic!("{:?}", message.function) };
    let texts = [function.name, function.system_name, function.filename].map(text);
    assert_eq!(texts, ["Worker.work", "Worker.work", "/srv/app.py"]);
    let [location] = &message.location[..] else { panic!("{:?}", message.location) };
    assert_eq!((function.start_line, location.line[0].line, location.address), (10, 12, 0));
    assert_eq!((counts.symbolized, counts.unsymbolized()), (1, 0));
}

#[test]
fn python_frames_without_names_are_one_and_have_their_reasons() {
    let gaps = [Err(CodeNameGap::NotReceived), Err(CodeNameGap::NoSpace)];
    let (profile, counts) = build(&[python(0), python(1), python(2)], &gaps);
    let unnamed = SymbolizedFrame { mapping: 0, address: FileAddr(0), lines: Vec::new() };
    assert_eq!((&profile.frames, &*profile.stacks[0]), (&vec![unnamed], &[0, 0, 0][..]));
    assert_eq!(counts.of(UnsymbolizedReason::NameNotReceived), 2);
    assert_eq!(counts.of(UnsymbolizedReason::NamesFull), 1);
}

#[test]
fn machinery_has_a_mapping_of_its_own() {
    let native = Frame::new(ExecutableId(20), FileAddr(0x10));
    let machinery = Frame { is_machinery: true, ..native };
    let (profile, counts) = build(&[native, machinery], &[]);
    let names: Vec<&str> = profile.mappings.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["/usr/bin/python3", "/usr/bin/python3 [interpreter]"]);
    assert_eq!(profile.mappings[1].kind, MappingKind::Interpreter);
    let frames: Vec<(u32, u64)> =
        profile.frames.iter().map(|frame| (frame.mapping, frame.address.0)).collect();
    assert_eq!(frames, [(0, 0x10), (1, 0x10)]);
    assert_eq!(counts.of(UnsymbolizedReason::NotOpen), 2);
    let (profile, _) = build(&[machinery], &[]);
    assert_eq!(profile.mappings.len(), 1, "none without frames");
}

#[test]
fn frames_without_name_and_address_are_one_for_each_mapping() {
    let frame = |mapping, address| SymbolizedFrame {
        mapping,
        address: FileAddr(address),
        lines: Vec::new(),
    };
    let named = SymbolizedFrame { lines: vec![Line { function: 0, line: 0 }], ..frame(0, 0) };
    let mut table = FrameTable::default();
    let frames = [frame(0, 0), frame(1, 0), frame(0, 0), frame(0, 7), named, frame(1, 0)];
    let indices = frames.map(|frame| table.add(frame));
    assert_eq!((indices, table.frames.len()), ([0, 1, 0, 2, 3, 1], 4));
}
