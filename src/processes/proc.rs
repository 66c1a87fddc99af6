//! What /proc and /sys tell, one small file each.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use profile::BuildId;

/// Longest text read from one file: 32,768 mappings of 128 bytes.
const TEXT_MAX: u64 = 4 << 20;

/// Reads a file of /proc as text, up to a limit; bytes that are no UTF-8 are replaced.
///
/// # Errors
/// As reading does: the process may be gone at any time.
pub fn read_text(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(TEXT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Gives when a process started, in clock ticks since boot; `None` when there is none.
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = read_text(&format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; fields are counted after its end.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// Gives the build id of the running kernel.
pub fn kernel_build_id() -> Option<BuildId> {
    const ALIGN: u64 = 4;
    super::elf::build_id_in(&fs::read("/sys/kernel/notes").ok()?, ALIGN)
}

/// Copies the kernel's vDSO, which is the same in every process, into a file without a name.
pub(super) fn copy_vdso() -> io::Result<File> {
    let maps = read_text("/proc/self/maps")?;
    let range = maps
        .lines()
        .find(|line| line.ends_with("[vdso]"))
        .and_then(|line| super::scan::parse_range(line.split_whitespace().next()?));
    let (start, end) = range.ok_or(io::ErrorKind::NotFound)?;
    let mut image = vec![0; (end - start).min(TEXT_MAX) as usize];
    File::open("/proc/self/mem")?.read_exact_at(&mut image, start)?;
    let mut copy = File::from(rustix::fs::memfd_create("vdso", rustix::fs::MemfdFlags::CLOEXEC)?);
    copy.write_all(&image)?;
    Ok(copy)
}
