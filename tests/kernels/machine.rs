//! An emulated machine: the emulator's command line, and the initramfs with programs and their
//! libraries.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::TempDir;

/// Returns the emulator and its arguments for a machine with two CPUs, a kernel of `target/kernels`
/// and this initramfs. Its console is the standard output.
pub fn command_line(series: &str, archive: &Path) -> Vec<String> {
    let kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kernels").join(series);
    assert!(kernel.exists(), "{} is missing: run ./dev setup test", kernel.display());
    let machine = "qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024";
    let devices = "-nographic -no-reboot -nic none";
    let words = machine.split(' ').chain(devices.split(' '));
    let mut line: Vec<String> = words.map(str::to_owned).collect();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    // On a busy host the emulated timer is late, and the kernel would panic in its check of it.
    line.extend(["-append".into(), "console=ttyS0 panic=-1 quiet no_timer_check".into()]);
    line.extend(["-kernel".into(), path(&kernel), "-initrd".into(), path(archive)]);
    line
}

/// Creates the root of an initramfs in a test's directory, with this script of `tests` as the first
/// process, and these tools. Returns its path.
pub fn root(dir: &TempDir, init: &str, tools: &[&str]) -> PathBuf {
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(init), root.join("init"))
        .unwrap();
    fs::set_permissions(root.join("init"), PermissionsExt::from_mode(0o755)).unwrap();
    for tool in tools {
        let name = Path::new(tool).file_name().unwrap();
        fs::copy(tool, root.join("bin").join(name)).expect("./dev setup test installs it");
    }
    root
}

/// Copies a program into `bin`, without debug information and symbols, which a guest is slow to
/// read.
pub fn add_stripped(program: &Path, root: &Path, name: &str) {
    let mut strip = Command::new("objcopy");
    strip.arg("--strip-all").arg(program).arg(root.join("bin").join(name));
    assert!(strip.status().unwrap().success());
}

/// Copies the dynamic loader and the libraries of a program to their paths below the root.
pub fn copy_libraries(program: &Path, root: &Path) {
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

/// Packs a directory as an initramfs.
pub fn pack(root: &Path) -> PathBuf {
    let archive = root.with_extension("cpio");
    let mut cpio = Command::new("sh");
    cpio.args(["-c", "find . | cpio --quiet -o -H newc"]).current_dir(root);
    cpio.stdout(File::create(&archive).unwrap());
    assert!(cpio.status().unwrap().success(), "cpio is installed by ./dev setup test");
    archive
}
