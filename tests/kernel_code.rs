//! Code that comes into the kernel and leaves it has its own name in each sample: BPF programs that
//! run after each other, also one from before the recording. Code without a name has none.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use common::{alone, directory, pause, record, succeed, wait_until};
use libbpf_rs::{Object, ObjectBuilder};

/// BPF programs that run at each system call, for some microseconds.
const PROGRAMS: &str = r#"
#define AT(place) __attribute__((section(place), used))
char LICENSE[] AT("license") = "GPL";
volatile unsigned long sum;
#define SLOW(place, name, factor) AT(place) int name(void *context) { \
	unsigned long value = sum; \
	_Pragma("clang loop unroll(disable)") \
	for (int i = 0; i < 2000; i++) { value = value * factor + i; sum = value; } \
	return 0; }
SLOW("raw_tp/sys_enter", from_before, 3)
SLOW("raw_tp/sys_enter", first, 5)
SLOW("raw_tp/sys_exit", second, 13)
"#;

fn compile(directory: &Path) -> PathBuf {
    let (source, object) = (directory.join("slow.bpf.c"), directory.join("slow.bpf.o"));
    fs::write(&source, PROGRAMS).unwrap();
    let mut clang = Command::new("clang");
    succeed(clang.args(["-O2", "-g", "-target", "bpf", "-c"]).arg(source).arg("-o").arg(&object));
    object
}

/// A program that runs; it ends when this is dropped.
struct Attached {
    _link: libbpf_rs::Link,
    _object: Object,
}

fn attach(object: &Path, name: &str) -> Attached {
    let object = load(object, name);
    let program = object.progs_mut().find(|program| program.name() == name).unwrap();
    Attached { _link: program.attach().unwrap(), _object: object }
}

fn load(object: &Path, name: &str) -> Object {
    let mut open = ObjectBuilder::default().open_file(object).unwrap();
    for mut program in open.progs_mut() {
        let is_it = program.name() == name;
        program.set_autoload(is_it);
    }
    open.load().unwrap()
}

/// Waits until a process with this name runs.
fn wait_for_process(name: &str) {
    wait_until(name, || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut names = processes.map(|process| fs::read_to_string(process.path().join("comm")));
        names.any(|comm| comm.is_ok_and(|comm| comm.trim_end() == name))
    });
}

#[test]
fn bpf_programs_that_come_and_go_have_their_own_names() {
    let _alone = alone();
    let place = directory();
    let object = compile(place.path());
    let before = attach(&object, "from_before");
    let recording = thread::spawn(|| {
        let load = "exec timeout 8 dd if=/dev/zero of=/dev/null bs=1 2>/dev/null";
        record(&["-F", "499", "--", "sh", "-c", load])
    });
    wait_for_process("dd"); // which begins when the recording has
    pause(1000);
    drop(before);
    for name in ["first", "second"] {
        let attached = attach(&object, name);
        pause(1000);
        drop(attached);
    }
    let recorded = recording.join().unwrap();
    let folded = recorded.folded();
    let samples = |name: &str| -> u64 {
        let is_in = |frame: &String| {
            let frame = frame.trim_end_matches("_[k]");
            frame.starts_with("bpf_prog_") && frame.ends_with(&format!("_{name}"))
        };
        folded.iter().filter(|(stack, _)| stack.iter().any(is_in)).map(|(_, count)| count).sum()
    };
    let each = ["from_before", "first", "second"].map(samples);
    assert!(each.iter().all(|samples| *samples > 50), "{each:?}: {folded:#?}");
    // Other code that is called where programs are has a name, and none is an end of code.
    let called = folded.iter().filter_map(|(stack, count)| {
        let at = stack.iter().position(|frame| frame.starts_with("bpf_trace_run"))?;
        Some((stack.get(at + 1)?, *count))
    });
    let called: Vec<(&String, u64)> = called.collect();
    let count = |is_in: &dyn Fn(&str) -> bool| -> u64 {
        called.iter().filter(|(frame, _)| is_in(frame)).map(|(_, count)| count).sum()
    };
    let (all, programs) = (count(&|_| true), count(&|frame| frame.starts_with("bpf_prog_")));
    assert!(programs * 10 >= all * 9, "{programs} of {all}: {called:?}");
    assert_eq!(count(&|frame| frame.contains("+0x")), 0, "{called:?}");
    assert_eq!(recorded.samples_through(&["_einittext"]), 0);
}

#[test]
fn filters_without_a_symbol_are_not_called_after_the_program_before() {
    let _alone = alone();
    let place = directory();
    let _before = load(&compile(place.path()), "first"); // so that one is in memory before it
    let program = common::compile("socket_filter.c", place.path(), "socket_filter");
    let running = common::Running::start(&program);
    let recorded = record(&["-F", "199", "-d", "1", "-p", &running.pid()]).succeeded();
    let leaf = |wanted: &dyn Fn(&str) -> bool| -> u64 {
        let folded = recorded.folded();
        let ends = folded.iter().filter(|(stack, _)| stack.last().is_some_and(|f| wanted(f)));
        ends.map(|(_, count)| count).sum()
    };
    let filter = leaf(&|frame| frame == "[bpf]_[k]");
    assert!(filter > 50, "{:#?}", recorded.folded());
    assert_eq!(leaf(&|frame| frame.starts_with("bpf_prog_")), 0);
}
