//! `_Py_DebugOffsets`, in which versions from 3.13 on describe their structures for debuggers.
//!
//! It is the beginning of `_PyRuntime`, and is initialized in the file. The order of its fields is
//! that of the header of each minor version (`pycore_runtime.h` of 3.13, `pycore_debug_offsets.h`
//! since), which does not change until the next. What it describes must be as in our own table: in
//! a build with other structures, those that it does not describe may be others, too.

use super::version::CpythonVersion;
use crate::kernel::abi::CpythonLayout;
use crate::runtimes::dynamic_file::DynamicFile;

const COOKIE: [u8; 8] = *b"xdebugpy";
/// Bytes read: all groups that are compared end before.
const BYTES: usize = 768;

/// The description in a file.
pub(super) struct DebugOffsets {
    bytes: [u8; BYTES],
    version: CpythonVersion,
}

/// Where the groups of offsets begin, in bytes. Each begins with the size of its structure.
struct Groups {
    thread_state: usize,
    interpreter_frame: usize,
    code_object: usize,
    bytes_object: usize,
    unicode_object: usize,
}

impl DebugOffsets {
    /// Reads the description at the address of `_PyRuntime`; `None` if there is none, or of a
    /// version that is not known.
    pub fn read(file: &DynamicFile<'_>, state: u64) -> Option<Self> {
        let mut bytes = [0; BYTES];
        file.read_exact(state, &mut bytes)?;
        let hex = u32::try_from(number(&bytes, 8)).ok()?;
        let version = CpythonVersion::from_hex(hex)?;
        bytes.starts_with(&COOKIE).then_some(Self { bytes, version })
    }

    /// Returns the version that it is of.
    pub fn version(&self) -> CpythonVersion {
        self.version
    }

    /// Returns whether the build has no global lock.
    pub fn is_free_threaded(&self) -> bool {
        number(&self.bytes, 16) != 0
    }

    /// Returns whether each field that it describes is where a layout has it.
    pub fn agree_with(&self, layout: &CpythonLayout) -> bool {
        let Some(groups) = groups_of(self.version) else { return false };
        let expected = [
            (groups.thread_state, 4, layout.thread_frame),
            (groups.interpreter_frame, 1, layout.frame_previous),
            (groups.interpreter_frame, 2, layout.frame_code),
            (groups.interpreter_frame, 3, layout.frame_position),
            (groups.interpreter_frame, 5, layout.frame_owner),
            (groups.code_object, 1, layout.code_file),
            (groups.code_object, 3, layout.code_name),
            (groups.code_object, 4, layout.code_line_table),
            (groups.code_object, 5, layout.code_first_line),
            (groups.code_object, 9, layout.code_bytecode),
            (groups.bytes_object, 1, layout.bytes_length),
            (groups.bytes_object, 2, layout.bytes_data),
            (groups.unicode_object, 1, layout.text_state),
            (groups.unicode_object, 2, layout.text_length),
            (groups.unicode_object, 3, layout.text_ascii),
        ];
        let is_equal = |(group, field, offset)| {
            number(&self.bytes, group + field * size_of::<u64>()) == u64::from(offset)
        };
        expected.into_iter().all(is_equal)
    }
}

fn groups_of(version: CpythonVersion) -> Option<Groups> {
    let starts = match version.minor() {
        13 => [152, 224, 272, 512, 536],
        14 => [176, 248, 312, 592, 616],
        15 => [176, 312, 376, 688, 712],
        _ => return None,
    };
    let [thread_state, interpreter_frame, code_object, bytes_object, unicode_object] = starts;
    Some(Groups { thread_state, interpreter_frame, code_object, bytes_object, unicode_object })
}

fn number(bytes: &[u8; BYTES], at: usize) -> u64 {
    let number = bytes.get(at..).and_then(|rest| rest.first_chunk());
    number.map_or(0, |number| u64::from_le_bytes(*number))
}
