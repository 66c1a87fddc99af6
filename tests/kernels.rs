//! Older kernels: each boots in an emulated machine, where everytick profiles programs whose stack is
//! known by construction and which have no frame pointers.
//!
//! `./dev setup test` fetches the kernels; `tests/kernels/init.sh` is what runs in the guest. An emulated
//! machine is slow and uneven: what counts is which stacks come, not how many or when.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Folded, TempDir, alone, compile_with, directory};

/// Built as distributions build.
const BARE: [&str; 2] = ["-fomit-frame-pointer", "-fno-optimize-sibling-calls"];
/// Seconds after which a guest is given up. It takes 30 on two quiet cores.
const PATIENCE: &str = "300";

/// What a guest answered, by name: text and exit status.
struct Guest(BTreeMap<String, (String, i32)>);

impl Guest {
    /// Boots a kernel of `target/kernels` and lets it go through `init.sh`.
    fn boot(series: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let kernel = root.join("target/kernels").join(series);
        assert!(kernel.exists(), "{} is missing: run ./dev setup test", kernel.display());
        let place = directory();
        let archive = pack(&fill(&place));
        let mut machine = Command::new("timeout");
        machine.args(["--kill-after=5", PATIENCE, "qemu-system-x86_64"]);
        machine.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"]);
        machine.args(["-nographic", "-no-reboot", "-nic", "none"]);
        machine.args(["-append", "console=ttyS0 panic=-1 quiet", "-kernel"]).arg(kernel);
        let output = machine.arg("-initrd").arg(archive).stdin(Stdio::null()).output();
        let output = output.expect("timeout and qemu are installed by ./dev setup test");
        let console = String::from_utf8_lossy(&output.stdout).into_owned();
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("linux-{series}.log"));
        fs::write(&log, &output.stdout).unwrap();
        assert!(output.status.success(), "the guest hung or broke: see {}", log.display());
        Self::parse(&console)
    }

    fn parse(console: &str) -> Self {
        let mut answers = BTreeMap::new();
        let (mut name, mut text) = (String::new(), String::new());
        for line in console.lines().map(str::trim_end) {
            // The emulator's firmware clears the screen before the first line.
            if let Some((_, new)) = line.split_once("== ") {
                (name, text) = (new.to_owned(), String::new());
            } else if let Some(status) = line.strip_prefix("exit ") {
                answers.insert(name.clone(), (text.clone(), status.parse().unwrap()));
            } else {
                text.push_str(line);
                text.push('\n');
            }
        }
        Self(answers)
    }

    fn answer(&self, name: &str) -> &(String, i32) {
        let known: Vec<_> = self.0.keys().collect();
        self.0.get(name).unwrap_or_else(|| panic!("the guest did not get to {name}: {known:?}"))
    }

    /// What a command printed, which must have succeeded.
    fn text(&self, name: &str) -> &str {
        let (text, status) = self.answer(name);
        assert_eq!(*status, 0, "{name}: {text}");
        text
    }

    /// The stacks that a recording came to.
    fn folded(&self, name: &str) -> Folded {
        common::parse_folded(self.text(name))
    }
}

/// Puts together what is in the guest: everytick, the programs, and the libraries of both.
fn fill(place: &TempDir) -> PathBuf {
    let root = place.path().join("root");
    let bin = root.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let init = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels/init.sh");
    fs::copy(init, root.join("init")).unwrap();
    fs::set_permissions(root.join("init"), PermissionsExt::from_mode(0o755)).unwrap();
    for tool in ["/bin/busybox", "/usr/bin/setpriv"] {
        let name = Path::new(tool).file_name().unwrap();
        fs::copy(tool, bin.join(name)).expect("./dev setup test installs it");
    }
    let mut strip = Command::new("objcopy");
    strip.args(["--strip-debug", env!("CARGO_BIN_EXE_everytick")]).arg(bin.join("everytick"));
    assert!(strip.status().unwrap().success());
    compile_with("chain.c", &bin, "chain", &BARE);
    compile_with("syscalls.c", &bin, "syscalls", &BARE);
    compile_with("deep.c", &bin, "deep", &[&BARE[..], &["-static"]].concat());
    for program in ["everytick", "setpriv", "chain"] {
        copy_libraries(&bin.join(program), &root);
    }
    root
}

/// Copies the loader and the libraries that a program needs to where it looks for them.
fn copy_libraries(program: &Path, root: &Path) {
    let output = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let libraries: Vec<&str> = text.split_whitespace().filter(|w| w.starts_with('/')).collect();
    assert!(!libraries.is_empty(), "{} is not linked dynamically", program.display());
    for library in libraries {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(library, to).unwrap();
    }
}

/// Packs a directory as the kernel unpacks it into its first file system.
fn pack(root: &Path) -> PathBuf {
    let archive = root.with_extension("cpio");
    let mut cpio = Command::new("sh");
    cpio.args(["-c", "find . | cpio --quiet -o -H newc"]).current_dir(root);
    cpio.stdout(File::create(&archive).unwrap());
    assert!(cpio.status().unwrap().success(), "cpio is installed by ./dev setup test");
    archive
}

/// What stacks may say in the first seconds: an emulated CPU takes long to read call frames.
const TOO_EARLY: [&str; 2] = ["[cut: no unwind table yet]", "[cut: end of the copied stack]"];

/// Checks that of a program's samples, at least `least` of them, 99 % are true.
fn check(stacks: &Folded, program: &str, least: u64, is_true: impl Fn(&[String]) -> bool) {
    let is_early = |stack: &[String]| TOO_EARLY.contains(&stack[1].as_str());
    let own = || stacks.iter().filter(|(stack, _)| stack[0] == program && !is_early(stack));
    let all: u64 = own().map(|(_, count)| count).sum();
    let good: u64 = own().filter(|(stack, _)| is_true(&stack[1..])).map(|(_, count)| count).sum();
    let wrong: Vec<_> = own().filter(|(stack, _)| !is_true(&stack[1..])).collect();
    assert!(all >= least, "only {all} samples of {program}: {stacks:#?}");
    assert!(good * 100 >= all * 99, "{good} of {all} of {program} are true; not so {wrong:#?}");
}

/// Says whether user frames, outermost first, are the entry point, what the C library calls main by, and these.
fn is_complete(stack: &[String], from_main: &[&str]) -> bool {
    let user: Vec<&str> =
        stack.iter().map(String::as_str).filter(|frame| !frame.ends_with("_[k]")).collect();
    user.len() > from_main.len() && user[0] == "_start" && user[3..] == *from_main
}

/// Says whether a stack is the innermost 512 frames of a recursion, and says so.
fn is_cut_after_512(stack: &[String]) -> bool {
    let user = || stack[1..].iter().filter(|frame| !frame.ends_with("_[k]"));
    let descents = user().filter(|frame| *frame == "descend").count();
    stack[0] == "[cut: user depth limit]"
        && user().count() == 512
        && descents == 511
        && user().last().is_some_and(|frame| frame == "spin")
}

/// main, so many descents, and spin.
fn recursion(depth: usize) -> Vec<&'static str> {
    [vec!["main"], vec!["descend"; depth], vec!["spin"]].concat()
}

/// Checks what every kernel must be able to do. `is_deep`: whether the stack of the recursion 900 deep is true.
fn check_guest(guest: &Guest, is_deep: impl Fn(&[String]) -> bool) {
    let doctor = guest.text("doctor");
    assert!(doctor.contains("`everytick record` works here."), "{doctor}");
    assert!(!doctor.contains("FAILS") && !doctor.contains("lacks"), "{doctor}");

    guest.text("record");
    let stacks = guest.folded("folded");
    let chain = ["main", "a", "b", "c", "spin"];
    check(&stacks, "chain", 100, |stack| is_complete(stack, &chain));
    let is_recursion = |stack: &[String]| is_complete(stack, &recursion(300)) || is_deep(stack);
    check(&stacks, "deep", 200, is_recursion);
    for is_one in [
        &|stack: &[String]| is_complete(stack, &recursion(300)),
        &is_deep as &dyn Fn(&[String]) -> bool,
    ] {
        let of_one = stacks.iter().filter(|(stack, _)| is_one(&stack[1..])).map(|(_, count)| count);
        assert!(of_one.sum::<u64>() >= 100, "too few of one recursion: {stacks:#?}");
    }
    check(&stacks, "syscalls", 100, |stack| {
        is_complete(stack, &["main", "reads"]) || is_complete(stack, &["main"])
    });
    let in_kernel = |stack: &[String]| stack.iter().any(|frame| frame == "vfs_read_[k]");
    let reads = stacks.iter().filter(|(stack, _)| in_kernel(stack)).map(|(_, count)| count);
    assert!(reads.sum::<u64>() >= 80, "system calls have no kernel frames: {stacks:#?}");

    guest.text("record_with_filters");
    let filtered = guest.folded("folded_with_filters");
    assert!(filtered.iter().all(|(stack, _)| stack[0] == "chain"), "{filtered:#?}");
    let is_loaded = |stack: &[String]| stack.iter().any(|frame| frame == "spin");
    let loaded = filtered.into_iter().filter(|(stack, _)| is_loaded(stack)).collect();
    check(&loaded, "chain", 50, |stack| is_complete(stack, &chain));
    guest.text("limited");
}

#[test]
fn linux_5_10_walks_by_tail_calls_and_says_when_512_frames_are_not_enough() {
    let _alone = alone();
    let guest = Guest::boot("5.10");
    check_guest(&guest, is_cut_after_512);
    assert!(guest.text("doctor").contains("user stacks of up to 512 frames"));
    let (text, status) = guest.answer("too_limited");
    assert!(*status == 1 && text.contains("RLIMIT_MEMLOCK"), "{text}");
}

#[test]
fn linux_6_1_walks_900_frames() {
    let _alone = alone();
    let guest = Guest::boot("6.1");
    check_guest(&guest, |stack| is_complete(stack, &recursion(900)));
}
