//! Stacks are true: programs whose stack is known by construction, read back by `go tool pprof`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
use common::{Running, alone, compile, compile_with, directory, record};

/// Profiles a program and checks that 99.9 % of its user samples are exactly this chain down
/// to main's caller, each frame `function file:line`, and go on to the entry point.
fn check(source: &str, chain: &[&str], callers: &[&str]) {
    let _alone = alone();
    let place = directory();
    let program = Running::start(&compile(source, place.path(), "chain"));
    let pid = program.pid();
    let recorded = record(&["-F", "997", "-d", "2", "--no-kernel", "-p", &pid]).succeeded();

    let traces = recorded.traces();
    let is_true = |frames: &[String]| {
        // Rust's `black_box` in the loop of spin is a function of its own, inlined.
        let inlined = frames.iter().take_while(|frame| frame.ends_with("(inline)")).count();
        let frames = &frames[inlined..];
        let (inner, outer) = frames.split_at(chain.len().min(frames.len()));
        let inner: Vec<String> = inner.iter().map(|frame| without_directories(frame)).collect();
        let caller = outer.first().map(String::as_str).unwrap_or_default();
        let is_complete = outer.last().is_some_and(|outermost| outermost.starts_with("_start"));
        is_complete && inner == chain && callers.iter().any(|name| caller.starts_with(name))
    };
    let all: u64 = traces.iter().map(|trace| trace.count).sum();
    let good: u64 = traces.iter().filter(|t| is_true(&t.frames)).map(|t| t.count).sum();
    assert!(all > 1000, "only {all} samples\n{}", recorded.stderr);
    assert!(good * 1000 >= all * 999, "{good} of {all} are the chain; {traces:#?}");
    println!("{source}: {good} of {all} user samples are exactly the chain");
}

/// `spin /tmp/x/chain.c:11` becomes `spin chain.c:11`.
fn without_directories(frame: &str) -> String {
    let (function, place) = frame.rsplit_once(' ').unwrap_or((frame, ""));
    format!("{function} {}", place.rsplit('/').next().unwrap_or_default())
}

#[test]
fn a_c_program_with_frame_pointers() {
    let chain =
        ["spin chain.c:11", "c chain.c:16", "b chain.c:22", "a chain.c:28", "main chain.c:35"];
    check("chain.c", &chain, &["__libc_start_call_main"]);
}

#[test]
fn a_cpp_program_with_frame_pointers() {
    let chain = [
        "chain::Worker::spin chain.cpp:13",
        "chain::c<chain::Worker> chain.cpp:19",
        "chain::b chain.cpp:26",
        "chain::a chain.cpp:32",
        "main chain.cpp:41",
    ];
    check("chain.cpp", &chain, &["__libc_start_call_main"]);
}

#[test]
fn a_rust_program_with_frame_pointers() {
    let chain = [
        "chain::spin chain.rs:8",
        "chain::c chain.rs:13",
        "chain::b chain.rs:19",
        "chain::a chain.rs:25",
        "chain::main chain.rs:31",
    ];
    check("chain.rs", &chain, &["core::ops::function::FnOnce::call_once", "<fn() as core::ops"]);
}

#[test]
fn inlined_functions_have_their_own_lines() {
    let _alone = alone();
    let place = directory();
    let program = Running::start(&compile("inlined.c", place.path(), "inlined"));
    let recorded =
        record(&["-F", "499", "-d", "1", "--no-kernel", "-p", &program.pid()]).succeeded();
    let traces = recorded.traces();
    let chain =
        ["inner inlined.c:9 (inline)", "middle inlined.c:15 (inline)", "outer inlined.c:20"];
    let is_true = |frames: &[String]| {
        let names: Vec<String> =
            frames.iter().take(3).map(|f| place_without_directories(f)).collect();
        names == chain
    };
    let all: u64 = traces.iter().map(|trace| trace.count).sum();
    let good: u64 = traces.iter().filter(|t| is_true(&t.frames)).map(|t| t.count).sum();
    assert!(good * 100 >= all * 90, "{good} of {all}: {traces:#?}");
}

/// As `without_directories`, for frames that may end in ` (inline)`.
fn place_without_directories(frame: &str) -> String {
    match frame.strip_suffix(" (inline)") {
        Some(rest) => format!("{} (inline)", without_directories(rest)),
        None => without_directories(frame),
    }
}

#[test]
fn a_system_call_shows_user_and_kernel_functions_in_one_stack() {
    let _alone = alone();
    let place = directory();
    let program = Running::start(&compile("syscalls.c", place.path(), "syscalls"));
    let recorded = record(&["-F", "499", "-d", "2", "-p", &program.pid()]).succeeded();
    let all = recorded.samples_through(&["syscalls"]);
    let through = recorded.samples_through(&[
        "main",
        "reads",
        "entry_SYSCALL_64_after_hwframe_[k]",
        "vfs_read_[k]",
    ]);
    assert!(all > 500, "only {all} samples\n{}", recorded.stderr);
    assert!(through * 10 >= all * 8, "{through} of {all}: {:#?}", recorded.folded());
}

/// Another limit of frames in kernel stacks until it is dropped.
struct KernelStackLimit {
    usual: String,
}

impl KernelStackLimit {
    const FILE: &str = "/proc/sys/kernel/perf_event_max_stack";

    fn of(frames: u32) -> Self {
        let usual = std::fs::read_to_string(Self::FILE).unwrap();
        Self::set(&frames.to_string());
        Self { usual }
    }

    /// While somebody has stacks taken, the kernel says that it is busy.
    fn set(frames: &str) {
        let is_set = || std::fs::write(Self::FILE, frames).is_ok();
        let mut tries = 0..300;
        assert!(
            tries.any(|_| is_set() || {
                common::pause(100);
                false
            }),
            "the kernel stays busy"
        );
    }
}

impl Drop for KernelStackLimit {
    fn drop(&mut self) {
        Self::set(&self.usual);
    }
}

#[test]
fn a_kernel_stack_at_its_limit_says_so() {
    let _alone = alone();
    let place = directory();
    let program = Running::start(&compile("syscalls.c", place.path(), "syscalls"));
    let limit = KernelStackLimit::of(4);
    let recorded = record(&["-F", "499", "-d", "1", "-p", &program.pid()]).succeeded();
    drop(limit);
    let cut = recorded.samples_through(&["syscalls", "[cut: kernel depth limit]", "vfs_read_[k]"]);
    assert!(cut > 50, "{:#?}", recorded.folded());
    let label = "kernel: depth limit";
    let labelled = recorded
        .traces()
        .iter()
        .any(|t| t.labels.get("cut").is_some_and(|cut| cut.contains(label)));
    assert!(labelled, "no label `cut` with {label:?}");
}

#[test]
fn a_stack_without_rows_and_frame_pointers_says_everywhere_that_it_is_cut() {
    let _alone = alone();
    let place = directory();
    let bare = ["-g0", "-fno-asynchronous-unwind-tables", "-fomit-frame-pointer"];
    let program = Running::start(&compile_with("chain.c", place.path(), "chain", &bare));
    let recorded = record(&["-d", "1", "--no-kernel", "-p", &program.pid()]).succeeded();
    let all = recorded.samples_through(&["chain"]);
    assert_eq!(recorded.samples_through(&["chain", "[cut: no unwind row]", "spin"]), all);
    for trace in recorded.traces() {
        assert_eq!(trace.labels["cut"], "user: no unwind row");
    }
    assert!(recorded.stderr.contains("cut: no unwind row 100.0 %"), "{}", recorded.stderr);
}

#[test]
fn what_is_meant_for_debuggers_makes_a_stack_whole_too() {
    let _alone = alone();
    let place = directory();
    let bare = ["-fno-asynchronous-unwind-tables", "-fomit-frame-pointer"];
    let program = Running::start(&compile_with("chain.c", place.path(), "chain", &bare));
    let recorded = record(&["-d", "1", "--no-kernel", "-p", &program.pid()]).succeeded();
    let all = recorded.samples_through(&["chain"]);
    assert_eq!(recorded.samples_through(&["chain", "_start", "main", "a", "b", "c", "spin"]), all);
    assert!(recorded.stderr.contains("complete 100.0 %"), "{}", recorded.stderr);
}

#[test]
fn frames_found_by_frame_pointer_alone_are_marked() {
    let _alone = alone();
    let place = directory();
    let bare = ["-g0", "-fno-asynchronous-unwind-tables"];
    let program = Running::start(&compile_with("chain.c", place.path(), "chain", &bare));
    let recorded = record(&["-d", "1", "--no-kernel", "-p", &program.pid()]).succeeded();
    let all = recorded.samples_through(&["chain"]);
    assert!(all > 50, "{}", recorded.stderr);
    assert_eq!(recorded.samples_through(&["chain", "_start", "main", "a", "b", "c", "spin"]), all);
    for trace in recorded.traces() {
        assert_eq!(trace.labels["guessed"], "frame pointers");
    }
}

/// Records a thread whose sp is at the edge of a page. Gives its samples: all, and those cut for want of memory.
fn at_the_edge_of_a_page(untouched: u32) -> (u64, u64) {
    let place = directory();
    let define = format!("-DUNTOUCHED={untouched}");
    let arguments = ["-fno-stack-clash-protection", &define];
    let program = compile_with("page_edge.c", place.path(), "page_edge", &arguments);
    let recorded = record(&["-F", "499", "--no-kernel", "--", program.to_str().unwrap()]);
    let all = recorded.succeeded();
    let cut = all.samples_through(&["page_edge", "[cut: unreadable stack]"]);
    (all.samples_through(&["page_edge"]), cut)
}

#[test]
fn a_stack_whose_red_zone_was_never_touched_is_whole() {
    let _alone = alone();
    let (all, cut) = at_the_edge_of_a_page(4096);
    assert!(all > 30 && cut == 0, "{cut} of {all} are cut");
}

#[test]
fn a_stack_that_no_copy_reaches_the_end_of_is_whole_once_the_rows_are_there() {
    let _alone = alone();
    let (all, cut) = at_the_edge_of_a_page(65536);
    assert!(all > 30 && cut < all, "{cut} of {all} are cut");
}
