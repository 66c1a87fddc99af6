//! Counts a sample, closes the ledger, encodes pprof and reads it back.
use std::sync::Arc;

use profile::pprof::{SampleUnit, decode, encode, from_message};
use profile::{
    CaptureLedger, Cpu, CpuTicks, ExecutableId, FileAddr, Frame, Function, Labels, Line, Mapping,
    MappingKind, Pid, Profile, SampleCount, StackEnd, SymbolizedFrame, Task, TickOutcome, Tid,
    Window,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One tick interrupted the function at 0x1180 in executable 2. The stack is complete.
    let mut window = Window::new(1 << 20);
    let task = Task {
        pid: Pid(7),
        tid: Tid(7),
        comm: "nginx".into(),
        thread: "nginx".into(),
        cgroup_id: 1,
        labels: Arc::new(Labels::from([("comm", "nginx")])),
    };
    let stack = [Frame::new(ExecutableId(2), FileAddr(0x1180))];
    window.add(task, &stack, (StackEnd::Absent, StackEnd::Complete), false)?;

    // Every tick is accounted for: one was due, one came, and it is in the window.
    let mut ledger = CaptureLedger {
        cpus: vec![CpuTicks::at_full_rate(Cpu(0), 1, 1)],
        received: 1,
        aggregated: 1,
        ..CaptureLedger::default()
    };
    ledger.outcomes[TickOutcome::Delivered as usize] = 1;
    ledger.kernel_ends[StackEnd::Absent as usize] = 1;
    ledger.user_ends[StackEnd::Complete as usize] = 1;
    ledger.check()?;

    // Symbolization looks functions up; here there is one function for every frame.
    let symbolized = |frame: &Frame| SymbolizedFrame {
        mapping: 0,
        address: frame.address,
        lines: vec![Line { function: 0, line: 42 }],
    };
    let name = "/usr/sbin/nginx".to_owned();
    let profile = Profile {
        period_ns: 10_000_000,
        mappings: vec![Mapping { name, build_id: None, kind: MappingKind::File }],
        functions: vec![Function { name: "handle_request".into(), ..Function::default() }],
        frames: window.frames().map(symbolized).collect(),
        stacks: window.stacks().map(|stack| stack.iter().map(|id| id.0).collect()).collect(),
        tasks: window.tasks().cloned().collect(),
        samples: window.samples().map(|(key, count)| SampleCount { key: *key, count }).collect(),
        ledger,
        ..Profile::default()
    };

    let message = decode(&encode(&profile), 1 << 20)?;
    let again = from_message(&message, SampleUnit::of(&message))?;
    assert_eq!(again.functions[0].name, "handle_request");
    assert_eq!(again.samples[0].count, 1);
    assert_eq!(again.ledger.to_string(), profile.ledger.to_string());
    Ok(())
}
