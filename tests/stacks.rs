//! Stacks of programs that are known by construction, read back by `go tool pprof`.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;
use common::{Running, alone, compile, compile_with, directory, record};

/// Profiles a program and checks that 99.9 % of its user samples are exactly this call chain, up to
/// main's caller, one of `callers`, and from there to the entry point. A frame is `function
/// file:line`.
fn check(source: &str, chain: &[&str], callers: &[&str]) {
    let _alone = alone();
    let dir = directory();
    let program = Running::start(&compile(source, dir.path(), "chain"));
    let pid = program.pid();
    let recorded = record(&["-F", "997", "-d", "2", "--no-kernel", "-p", &pid]).succeeded();

    let traces = recorded.traces();
    let is_correct = |frames: &[String]| {
        // Rust's `black_box` in the loop of spin is an inlined function of its own.
        let inlined = frames.iter().take_while(|frame| frame.ends_with("(inline)")).count();
        let frames = &frames[inlined..];
        let (inner, outer) = frames.split_at(chain.len().min(frames.len()));
        let inner: Vec<String> = inner.iter().map(|frame| without_directories(frame)).collect();
        let caller = outer.first().map(String::as_str).unwrap_or_default();
        let is_complete = outer.last().is_some_and(|outermost| outermost.starts_with("_start"));
        is_complete && inner == chain && callers.iter().any(|name| caller.starts_with(name))
    };
    let all: u64 = traces.iter().map(|trace| trace.count).sum();
    let correct: u64 = traces.iter().filter(|t| is_correct(&t.frames)).map(|t| t.count).sum();
    assert!(all > 1000, "only {all} samples\n{}", recorded.stderr);
    assert!(correct * 1000 >= all * 999, "{correct} of {all} are the call chain; {traces:#?}");
    println!("{source}: {correct} of {all} user samples are the call chain");
}

/// Turns `spin /tmp/x/chain.c:13` into `spin chain.c:13`.
fn without_directories(frame: &str) -> String {
    let (function, line) = frame.rsplit_once(' ').unwrap_or((frame, ""));
    format!("{function} {}", line.rsplit('/').next().unwrap_or_default())
}

#[test]
fn c_program_with_frame_pointers() {
    let chain =
        ["spin chain.c:13", "c chain.c:19", "b chain.c:25", "a chain.c:31", "main chain.c:38"];
    check("chain.c", &chain, &["__libc_start_call_main"]);
}

#[test]
fn cpp_program_with_frame_pointers() {
    let chain = [
        "chain::Worker::spin chain.cpp:15",
        "chain::c<chain::Worker> chain.cpp:22",
        "chain::b chain.cpp:29",
        "chain::a chain.cpp:35",
        "main chain.cpp:44",
    ];
    check("chain.cpp", &chain, &["__libc_start_call_main"]);
}

#[test]
fn rust_program_with_frame_pointers() {
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
    let dir = directory();
    let program = Running::start(&compile("inlined.c", dir.path(), "inlined"));
    let recorded =
        record(&["-F", "499", "-d", "1", "--no-kernel", "-p", &program.pid()]).succeeded();
    let traces = recorded.traces();
    let chain =
        ["inner inlined.c:9 (inline)", "middle inlined.c:16 (inline)", "outer inlined.c:21"];
    let is_correct = |frames: &[String]| {
        let names: Vec<String> =
            frames.iter().take(3).map(|f| inlined_without_directories(f)).collect();
        names == chain
    };
    let all: u64 = traces.iter().map(|trace| trace.count).sum();
    let correct: u64 = traces.iter().filter(|t| is_correct(&t.frames)).map(|t| t.count).sum();
    assert!(correct * 100 >= all * 90, "{correct} of {all}: {traces:#?}");
}

/// The same as `without_directories`, for frames that may end in ` (inline)`.
fn inlined_without_directories(frame: &str) -> String {
    match frame.strip_suffix(" (inline)") {
        Some(rest) => format!("{} (inline)", without_directories(rest)),
        None => without_directories(frame),
    }
}

#[test]
fn system_call_has_user_and_kernel_frames() {
    let _alone = alone();
    let dir = directory();
    let program = Running::start(&compile("syscalls.c", dir.path(), "syscalls"));
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

/// Changes the limit of frames in kernel stacks until it is dropped.
struct KernelStackLimit {
    original: String,
}

impl KernelStackLimit {
    const FILE: &str = "/proc/sys/kernel/perf_event_max_stack";

    fn change_to(frames: u32) -> Self {
        let original = std::fs::read_to_string(Self::FILE).unwrap();
        Self::set(&frames.to_string());
        Self { original }
    }

    /// Retries: the kernel answers EBUSY while any perf event takes stacks.
    fn set(frames: &str) {
        for _ in 0..300 {
            if std::fs::write(Self::FILE, frames).is_ok() {
                return;
            }
            common::pause(100);
        }
        panic!("the kernel still answers EBUSY");
    }
}

impl Drop for KernelStackLimit {
    fn drop(&mut self) {
        Self::set(&self.original);
    }
}

#[test]
fn kernel_stack_at_the_limit_is_marked_as_cut() {
    let _alone = alone();
    let dir = directory();
    let program = Running::start(&compile("syscalls.c", dir.path(), "syscalls"));
    let limit = KernelStackLimit::change_to(4);
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
fn stack_without_rows_and_frame_pointers_is_marked_as_cut() {
    let _alone = alone();
    let dir = directory();
    let bare = ["-g0", "-fno-asynchronous-unwind-tables", "-fomit-frame-pointer"];
    let program = Running::start(&compile_with("underivable.c", dir.path(), "chain", &bare));
    let recorded = record(&["-d", "1", "--no-kernel", "-p", &program.pid()]).succeeded();
    let all = recorded.samples_through(&["chain"]);
    assert_eq!(recorded.samples_through(&["chain", "[cut: no unwind row]", "spin"]), all);
    for trace in recorded.traces() {
        assert_eq!(trace.labels["cut"], "user: no unwind row");
    }
    assert!(recorded.stderr.contains("cut: no unwind row 100.0 %"), "{}", recorded.stderr);
}

#[test]
fn debug_frame_section_completes_stacks() {
    let _alone = alone();
    let dir = directory();
    let bare = ["-fno-asynchronous-unwind-tables", "-fomit-frame-pointer"];
    let program = Running::start(&compile_with("chain.c", dir.path(), "chain", &bare));
    let recorded = record(&["-d", "1", "--no-kernel", "-p", &program.pid()]).succeeded();
    let all = recorded.samples_through(&["chain"]);
    assert_eq!(recorded.samples_through(&["chain", "_start", "main", "a", "b", "c", "spin"]), all);
    assert!(recorded.stderr.contains("complete 100.0 %"), "{}", recorded.stderr);
}

#[test]
fn frames_by_frame_pointer_are_marked_as_guessed() {
    let _alone = alone();
    let dir = directory();
    let bare = ["-g0", "-fno-asynchronous-unwind-tables"];
    let program = Running::start(&compile_with("underivable.c", dir.path(), "chain", &bare));
    let recorded = record(&["-d", "1", "--no-kernel", "-p", &program.pid()]).succeeded();
    let all = recorded.samples_through(&["chain"]);
    assert!(all > 50, "{}", recorded.stderr);
    assert_eq!(recorded.samples_through(&["chain", "_start", "main", "a", "b", "c", "spin"]), all);
    for trace in recorded.traces() {
        assert_eq!(trace.labels["guessed"], "frame pointers");
    }
    // None of them is counted as complete: a caller may be missing.
    assert_eq!(recorded.samples_through(&["chain", "[guessed: frame pointers]", "main"]), all);
    assert!(recorded.stderr.contains("guessed 100.0 %"), "{}", recorded.stderr);
    assert!(
        recorded.stderr.contains("health        0.0 % of stacks complete"),
        "{}",
        recorded.stderr
    );
}

/// Records a thread whose sp is next to a page boundary. Returns the number of its samples, and of
/// those that are cut because stack memory was unreadable.
fn record_page_edge(untouched: u32) -> (u64, u64) {
    let dir = directory();
    let define = format!("-DUNTOUCHED={untouched}");
    let arguments = ["-fno-stack-clash-protection", &define];
    let program = compile_with("page_edge.c", dir.path(), "page_edge", &arguments);
    let recorded = record(&["-F", "499", "--no-kernel", "--", program.to_str().unwrap()]);
    let all = recorded.succeeded();
    let cut = all.samples_through(&["page_edge", "[cut: unreadable stack]"]);
    (all.samples_through(&["page_edge"]), cut)
}

#[test]
fn stack_with_untouched_red_zone_is_complete() {
    let _alone = alone();
    let (all, cut) = record_page_edge(4096);
    assert!(all > 30 && cut == 0, "{cut} of {all} are cut");
}

#[test]
fn stack_longer_than_any_snapshot_is_complete_once_rows_are_loaded() {
    let _alone = alone();
    let (all, cut) = record_page_edge(65536);
    assert!(all > 30 && cut < all, "{cut} of {all} are cut");
}
