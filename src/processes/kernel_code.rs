//! Code that the kernel provides: its own image, and the vDSO that it maps into every process.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use profile::{BuildId, MappingKind};

use super::elf;
use crate::procfs;

/// Largest vDSO that is copied, in bytes; real ones have two pages.
const VDSO_BYTES_MAX: u64 = 4 << 20;
/// Name of its mapping.
pub(super) const VDSO: &str = MappingKind::VDSO;

/// Returns the build ID of the running kernel.
pub(super) fn kernel_build_id() -> Option<BuildId> {
    const ALIGN: u64 = 4;
    elf::build_id_in(&fs::read("/sys/kernel/notes").ok()?, ALIGN)
}

/// Copies the vDSO, which is the same in every process, into an unnamed file.
pub(super) fn copy_vdso() -> io::Result<File> {
    let maps = procfs::executable_maps(std::process::id(), &[])?;
    let vdso = maps.entries.into_iter().find(|entry| &*entry.path == VDSO);
    let vdso = vdso.ok_or(io::ErrorKind::NotFound)?;
    let mut image = vec![0; (vdso.end - vdso.start).min(VDSO_BYTES_MAX) as usize];
    File::open("/proc/self/mem")?.read_exact_at(&mut image, vdso.start)?;
    let mut copy = File::from(rustix::fs::memfd_create("vdso", rustix::fs::MemfdFlags::CLOEXEC)?);
    copy.write_all(&image)?;
    Ok(copy)
}
