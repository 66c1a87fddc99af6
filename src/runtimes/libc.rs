//! The C library: where it keeps the values of pthread_setspecific, and the blocks of thread-local
//! variables.

use super::accessor;
use super::dynamic_file::DynamicFile;
use super::recognition_error::RecognitionError;

/// Largest offset of the values in the structure of a thread, which has 2,368 bytes in glibc.
const OFFSET_MAX: u32 = 1 << 14;

/// Which C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LibcKind {
    /// The GNU C library.
    Glibc,
    /// musl.
    Musl,
}

/// A C library, and what is known of its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Libc {
    /// Which one.
    pub kind: LibcKind,
    /// Offset from the thread pointer: in glibc of the array of pointers to blocks of 32 values
    /// each, in musl of the pointer to all values.
    pub specific: u32,
}

impl Libc {
    /// Returns whether it can be of a real C library.
    pub(super) fn is_plausible(self) -> bool {
        (1..OFFSET_MAX).contains(&self.specific) && self.specific.is_multiple_of(8)
    }
}

/// Recognizes a C library; `None` if the file contains none.
///
/// glibc describes itself for debuggers (`nptl_db`): libc.so.6 exports the descriptions since 2.34.
/// Before, only the code of libpthread.so.0 has the offset. musl exports a stage of its dynamic
/// linker, which the stage before finds by this name, and does not describe itself.
pub(super) fn recognize(file: &DynamicFile<'_>) -> Option<Result<Libc, RecognitionError>> {
    let getter = file.symbol("pthread_getspecific")?;
    let (kind, specific) = if let Some(field) = file.symbol("_thread_db_pthread_specific") {
        (LibcKind::Glibc, described_offset(file, field.address))
    } else if file.symbol("__dls3").is_some() {
        (LibcKind::Musl, accessor::offset_of_values(file, getter))
    } else {
        (LibcKind::Glibc, Some(accessor::offset_of_blocks(file, getter)?))
    };
    let libc = specific.map(|specific| Libc { kind, specific });
    Some(libc.filter(|libc| libc.is_plausible()).ok_or(RecognitionError::UnknownLibrary))
}

/// Reads the description of the array of pointers to blocks of values: its bits, 1, its offset.
fn described_offset(file: &DynamicFile<'_>, address: u64) -> Option<u32> {
    const BLOCKS: u32 = 32;
    let mut description = [0; 12];
    file.read_exact(address, &mut description)?;
    let (numbers, _) = description.as_chunks();
    let [bits, count, offset] = [0, 1, 2].map(|at| u32::from_le_bytes(numbers[at]));
    ((bits, count) == (BLOCKS * u64::BITS, 1)).then_some(offset)
}
