//! An emulated machine that boots a kernel of `target/kernels` and goes through `init.sh`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::{Folded, TempDir, compile_with, directory, parse_folded};

/// Built as distributions build.
const BARE: [&str; 2] = ["-fomit-frame-pointer", "-fno-optimize-sibling-calls"];
/// Seconds after which a guest is given up. It takes 40 on two quiet cores.
const PATIENCE: &str = "300";

/// What a guest answered, by name: text and exit status.
pub struct Guest(BTreeMap<String, (String, i32)>);

impl Guest {
    /// Boots a kernel of `target/kernels` and lets it go through `init.sh`.
    pub fn boot(series: &str) -> Self {
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

    pub fn answer(&self, name: &str) -> &(String, i32) {
        let known: Vec<_> = self.0.keys().collect();
        self.0.get(name).unwrap_or_else(|| panic!("the guest did not get to {name}: {known:?}"))
    }

    /// What a command printed, which must have succeeded.
    pub fn text(&self, name: &str) -> &str {
        let (text, status) = self.answer(name);
        assert_eq!(*status, 0, "{name}: {text}");
        text
    }

    /// The stacks that a recording came to.
    pub fn folded(&self, name: &str) -> Folded {
        parse_folded(self.text(name))
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
    for name in ["deep", "deeper"] {
        compile_with("deep.c", &bin, name, &[&BARE[..], &["-static"]].concat());
    }
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
