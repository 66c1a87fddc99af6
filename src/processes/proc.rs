//! What /proc and /sys tell, one small file each.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use profile::BuildId;

/// Longest text read from one file: 32,768 mappings of 128 bytes.
const TEXT_MAX: u64 = 4 << 20;
/// Most files are shorter.
const TEXT_USUAL: usize = 8 << 10;

/// Reads a file of /proc as text, up to a limit; bytes that are no UTF-8 are replaced.
///
/// # Errors
/// As reading does: the process may be gone at any time.
pub fn read_text(path: &str) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(TEXT_USUAL);
    File::open(path)?.take(TEXT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// What `/proc/PID/stat` tells of a process or thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its name.
    pub comm: Box<str>,
    /// It has ended, and only its number is left.
    pub is_zombie: bool,
    /// Threads of its process that run.
    pub threads: u32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}

/// Reads about a process or thread; `None` when there is none.
pub fn stat(id: u32) -> Option<Stat> {
    parse_stat(&read_text(&format!("/proc/{id}/stat")).ok()?)
}

/// The name in parentheses may hold anything; fields are counted after its end, from the third.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.split_once('(')?;
    let (comm, fields) = rest.rsplit_once(')')?;
    let field = |number: usize| fields.split_whitespace().nth(number - 3);
    let is_zombie = matches!(field(3)?, "Z" | "X");
    let threads = field(20)?.parse::<u32>().ok()?.saturating_sub(u32::from(is_zombie));
    Some(Stat { comm: comm.into(), is_zombie, threads, start_ticks: field(22)?.parse().ok()? })
}

/// Gives when a process started, in clock ticks since boot; `None` when there is none.
pub fn start_ticks(pid: u32) -> Option<u64> {
    Some(stat(pid)?.start_ticks)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_parentheses_and_spaces() {
        let fields = "S 1 2 2 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 5 0 777 1 1";
        let found = parse_stat(&format!("12 (a) (b c) {fields}")).expect("well-formed");
        let expected =
            Stat { comm: "a) (b c".into(), is_zombie: false, threads: 5, start_ticks: 777 };
        assert_eq!(found, expected);
        let zombie = parse_stat(&format!("12 (x) Z{}", &fields[1..])).expect("well-formed");
        assert!(zombie.is_zombie && zombie.threads == 4, "{zombie:?}");
        assert_eq!(parse_stat("12 (x"), None);
    }
}
