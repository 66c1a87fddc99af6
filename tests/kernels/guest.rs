//! The guest: an emulated machine that boots a kernel of `target/kernels` and runs a script.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{Folded, TempDir, compile_with, directory, parse_folded};
use crate::machine;

/// Builds without frame pointers, as distributions do.
const BARE: [&str; 2] = ["-fomit-frame-pointer", "-fno-optimize-sibling-calls"];
/// Seconds after which a guest is killed.
const TIMEOUT_SECONDS: &str = "1200";

/// The answers of a guest by name: text and exit status.
pub struct Guest(BTreeMap<String, (String, i32)>);

impl Guest {
    /// Boots kernels of `target/kernels` and waits for the end of their scripts.
    pub fn boot<const N: usize>(kernels: [&str; N]) -> [Self; N] {
        let dir = directory();
        let archive = machine::pack(&fill(&dir));
        let running = kernels.map(|kernel| (start(kernel, &archive), console_log(kernel)));
        running.map(|(mut machine, log)| {
            let status = machine.wait().unwrap();
            assert!(status.success(), "the guest hung or failed: see {}", log.display());
            Self::parse(&String::from_utf8_lossy(&fs::read(log).unwrap()))
        })
    }

    fn parse(console: &str) -> Self {
        let mut answers = BTreeMap::new();
        let (mut name, mut text) = (String::new(), String::new());
        for line in console.lines().map(str::trim_end) {
            // The firmware clears the screen before the first line.
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

    pub fn answer(&self, name: &str) -> &(String, i32) {
        let names: Vec<_> = self.0.keys().collect();
        self.0.get(name).unwrap_or_else(|| panic!("no answer {name} among {names:?}"))
    }

    /// Returns the output of a command; panics if it failed.
    pub fn text(&self, name: &str) -> &str {
        let (text, status) = self.answer(name);
        assert_eq!(*status, 0, "{name}: {text}");
        text
    }

    /// Returns the stacks of a recording.
    pub fn folded(&self, name: &str) -> Folded {
        parse_folded(self.text(name))
    }
}

/// Returns where the console of a guest goes.
fn console_log(kernel: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("linux-{kernel}.log"))
}

fn start(kernel: &str, archive: &Path) -> Child {
    let mut machine = Command::new("timeout");
    machine.args(["--kill-after=5", TIMEOUT_SECONDS]);
    machine.args(machine::command_line(kernel, archive));
    machine.stdin(Stdio::null()).stdout(File::create(console_log(kernel)).unwrap());
    machine.spawn().expect("timeout and qemu are installed by ./dev setup test")
}

/// Builds the guest's file system: everytick, the test programs, and the libraries of both.
fn fill(dir: &TempDir) -> PathBuf {
    let tools = ["/bin/busybox", "/usr/bin/setpriv"];
    let root = machine::root(dir, "kernels/init.sh", &tools);
    for script in ["stacks.sh", "user.sh", "hotplug.sh"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels").join(script);
        fs::copy(source, root.join(script)).unwrap();
    }
    let bin = root.join("bin");
    machine::add_stripped(Path::new(env!("CARGO_BIN_EXE_everytick")), &root, "everytick");
    compile_with("chain.c", &bin, "chain", &BARE);
    compile_with("syscalls.c", &bin, "syscalls", &BARE);
    for name in ["deep", "deeper"] {
        compile_with("deep.c", &bin, name, &[&BARE[..], &["-static"]].concat());
    }
    for program in ["everytick", "setpriv", "chain"] {
        machine::copy_libraries(&bin.join(program), &root);
    }
    root
}
