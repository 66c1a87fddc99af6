//! Where the fields of CPython's structures are, by minor version.
//!
//! Sources: the headers of each version, and DWARF of builds of 3.7 to 3.13. They do not change
//! within a minor version; builds without a global lock have other ones.

use super::version::CpythonVersion;
use crate::kernel::abi::{self, CpythonLayout};

/// Returns the layout of a version; `None` if there are no such builds.
pub(super) fn of_version(version: CpythonVersion) -> Option<CpythonLayout> {
    let layout = match version.minor() {
        7 => UP_TO_3_7,
        8 | 9 => UP_TO_3_9,
        10 => CPYTHON_3_10,
        11 => CPYTHON_3_11,
        12 => CPYTHON_3_12,
        13 => CPYTHON_3_13,
        14 | 15 => FROM_3_14,
        _ => return None,
    };
    match (version.is_free_threaded(), version.minor()) {
        (false, _) => Some(layout),
        (true, 13) => Some(free_threaded(layout)),
        // The state of a string begins with a byte, and frames and code have a field more each.
        (true, 14 | 15) => Some(CpythonLayout {
            frame_owner: 78,
            code_bytecode: 232,
            text_kind_shift: 8,
            ..free_threaded(layout)
        }),
        (true, _) => None,
    }
}

/// Fields of all versions.
const COMMON: CpythonLayout = CpythonLayout {
    thread_frame: 0,
    thread_cframe: 0,
    cframe_frame: 0,
    cframe_previous: 0,
    frame_code: 0,
    frame_previous: 0,
    frame_position: 0,
    frame_owner: 0,
    code_first_line: 0,
    code_name: 0,
    code_file: 0,
    code_line_table: 0,
    code_version: 0,
    code_bytecode: 0,
    text_length: 16,
    text_state: 32,
    text_ascii: 48,
    text_compact: 72,
    bytes_length: 16,
    bytes_data: 32,
    text_kind_shift: 2,
    position_kind: abi::POSITION_BYTES,
    entry_kind: abi::ENTRY_NONE,
    entry_owner: 0,
    code_tag_mask: 0,
    reserved: [0; 3],
};

const UP_TO_3_7: CpythonLayout = CpythonLayout {
    thread_frame: 24,
    frame_code: 32,
    frame_previous: 24,
    frame_position: 104,
    code_first_line: 36,
    code_file: 96,
    code_name: 104,
    code_line_table: 112,
    ..COMMON
};

const UP_TO_3_9: CpythonLayout = CpythonLayout {
    code_first_line: 40,
    code_file: 104,
    code_name: 112,
    code_line_table: 120,
    ..UP_TO_3_7
};

const CPYTHON_3_10: CpythonLayout = CpythonLayout {
    thread_cframe: 48,
    cframe_previous: 8,
    frame_position: 96,
    position_kind: abi::POSITION_UNITS,
    entry_kind: abi::ENTRY_CFRAME_EACH,
    ..UP_TO_3_9
};

const CPYTHON_3_11: CpythonLayout = CpythonLayout {
    thread_cframe: 56,
    cframe_frame: 8,
    cframe_previous: 16,
    frame_code: 32,
    frame_previous: 48,
    frame_position: 56,
    frame_owner: 68,
    code_first_line: 72,
    code_file: 112,
    code_name: 128,
    code_line_table: 136,
    code_bytecode: 184,
    position_kind: abi::POSITION_POINTER,
    entry_kind: abi::ENTRY_CFRAME_LAST,
    ..COMMON
};

const CPYTHON_3_12: CpythonLayout = CpythonLayout {
    cframe_frame: 0,
    cframe_previous: 8,
    frame_code: 0,
    frame_previous: 8,
    frame_owner: 70,
    code_first_line: 68,
    code_version: 92,
    code_bytecode: 192,
    text_ascii: 40,
    text_compact: 56,
    entry_kind: abi::ENTRY_FRAME,
    entry_owner: 3,
    ..CPYTHON_3_11
};

const CPYTHON_3_13: CpythonLayout = CpythonLayout {
    thread_frame: 72,
    thread_cframe: 0,
    cframe_previous: 0,
    code_bytecode: 200,
    ..CPYTHON_3_12
};

const FROM_3_14: CpythonLayout =
    CpythonLayout { frame_owner: 74, code_bytecode: 208, code_tag_mask: 3, ..CPYTHON_3_13 };

/// Returns the layout of a build without a global lock: the header of each object has 16 bytes
/// more.
const fn free_threaded(layout: CpythonLayout) -> CpythonLayout {
    const MORE: u16 = 16;
    CpythonLayout {
        code_first_line: layout.code_first_line + MORE,
        code_name: layout.code_name + MORE,
        code_file: layout.code_file + MORE,
        code_line_table: layout.code_line_table + MORE,
        code_version: layout.code_version + MORE,
        code_bytecode: layout.code_bytecode + MORE,
        text_length: layout.text_length + MORE,
        text_state: layout.text_state + MORE,
        text_ascii: layout.text_ascii + MORE,
        text_compact: layout.text_compact + MORE,
        bytes_length: layout.bytes_length + MORE,
        bytes_data: layout.bytes_data + MORE,
        ..layout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(minor: u32, is_free_threaded: bool) -> Option<CpythonLayout> {
        let patch = if minor < 11 { 0 } else { 0xf0 };
        let version = CpythonVersion::from_hex(3 << 24 | minor << 16 | patch).expect("known");
        of_version(version.with_threads(is_free_threaded))
    }

    #[test]
    fn each_version_has_a_layout() {
        for minor in 7..=15 {
            let layout = layout(minor, false).expect("known");
            assert!(layout.frame_previous > 0 && layout.code_name > 0 && layout.text_ascii > 0);
            let has_anchor = layout.entry_kind != abi::ENTRY_NONE;
            assert_eq!(has_anchor, minor >= 10, "3.{minor}");
            let has_thread_frame = layout.thread_frame > 0 || layout.thread_cframe > 0;
            assert!(has_thread_frame, "3.{minor}");
        }
    }

    #[test]
    fn builds_without_a_global_lock_have_longer_object_headers() {
        assert_eq!(layout(12, true), None);
        let [of_3_13, of_3_14] = [13, 14].map(|minor| layout(minor, true).expect("known"));
        assert_eq!(
            (of_3_13.code_bytecode, of_3_13.frame_owner, of_3_13.code_version),
            (216, 70, 108)
        );
        assert_eq!((of_3_14.code_bytecode, of_3_14.frame_owner, of_3_14.code_name), (232, 78, 144));
        assert_eq!(
            (of_3_14.text_ascii, of_3_14.text_compact, of_3_14.text_kind_shift),
            (56, 72, 8)
        );
    }
}
