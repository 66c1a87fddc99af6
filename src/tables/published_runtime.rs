//! The runtime of a process, as the kernel side reads it.

use zerocopy::IntoBytes;

use crate::kernel::abi;
use crate::runtimes::cpython::CpythonLayout;
use crate::runtimes::{LibcKind, RuntimeProcess, ThreadValue};

/// Returns the kind of a process's runtime, and what follows its mappings: see
/// [`abi::RuntimeProcess`].
pub(super) fn runtime_bytes(
    runtime: Option<&RuntimeProcess>,
    epoch: u16,
) -> (abi::RuntimeKind, Vec<u8>) {
    let Some(runtime) = runtime else { return (abi::RuntimeKind::None, Vec::new()) };
    let process = abi::RuntimeProcess {
        state: runtime.state,
        values: runtime.values.map(thread_value),
        specific: runtime.specific,
        libc: match runtime.libc {
            LibcKind::Glibc => abi::LIBC_GLIBC,
            LibcKind::Musl => abi::LIBC_MUSL,
        },
        epoch,
        cpython: layout(&runtime.cpython),
    };
    (abi::RuntimeKind::Cpython, process.as_bytes().to_vec())
}

fn thread_value(value: ThreadValue) -> abi::ThreadValue {
    let (kind, address, offset) = match value {
        ThreadValue::None => (abi::THREAD_VALUE_NONE, 0, 0),
        ThreadValue::Static(offset) => (abi::THREAD_VALUE_STATIC, 0, offset),
        ThreadValue::Dynamic { slot, offset } => (abi::THREAD_VALUE_DYNAMIC, slot, offset),
        ThreadValue::Key(address) => (abi::THREAD_VALUE_KEY, address, 0),
    };
    abi::ThreadValue { address, offset, kind }
}

fn layout(layout: &CpythonLayout) -> abi::CpythonLayout {
    abi::CpythonLayout {
        thread_frame: layout.thread_frame,
        thread_cframe: layout.thread_cframe,
        cframe_frame: layout.cframe_frame,
        cframe_previous: layout.cframe_previous,
        frame_code: layout.frame_code,
        frame_previous: layout.frame_previous,
        frame_position: layout.frame_position,
        frame_owner: layout.frame_owner,
        code_first_line: layout.code_first_line,
        code_name: layout.code_name,
        code_file: layout.code_file,
        code_line_table: layout.code_line_table,
        code_version: layout.code_version,
        code_bytecode: layout.code_bytecode,
        text_length: layout.text_length,
        text_state: layout.text_state,
        text_ascii: layout.text_ascii,
        text_compact: layout.text_compact,
        bytes_length: layout.bytes_length,
        bytes_data: layout.bytes_data,
        text_kind_shift: layout.text_kind_shift,
        // The variants of both are in the order of the values.
        position_kind: layout.position_kind as u8,
        entry_kind: layout.entry_kind as u8,
        entry_owner: layout.entry_owner,
        code_tag_mask: layout.code_tag_mask,
        reserved: [0; 3],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtimes::cpython::{EntryKind, PositionKind};

    #[test]
    fn variants_have_the_values_of_the_kernel_side() {
        let positions = [PositionKind::Bytes, PositionKind::Units, PositionKind::Pointer];
        let values = [abi::POSITION_BYTES, abi::POSITION_UNITS, abi::POSITION_POINTER];
        assert_eq!(positions.map(|kind| kind as u8), values);
        let entries =
            [EntryKind::None, EntryKind::CframeEach, EntryKind::CframeLast, EntryKind::Frame];
        let values =
            [abi::ENTRY_NONE, abi::ENTRY_CFRAME_EACH, abi::ENTRY_CFRAME_LAST, abi::ENTRY_FRAME];
        assert_eq!(entries.map(|kind| kind as u8), values);
    }

    #[test]
    fn a_process_without_a_runtime_has_no_bytes() {
        assert_eq!(runtime_bytes(None, 0), (abi::RuntimeKind::None, Vec::new()));
    }
}
