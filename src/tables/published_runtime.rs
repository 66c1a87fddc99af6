//! The runtime of a process, as the kernel side reads it.

use zerocopy::IntoBytes;

use crate::kernel::abi;
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
        layout: runtime.layout,
    };
    (runtime.version.kind(), process.as_bytes().to_vec())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_a_runtime_has_no_bytes() {
        assert_eq!(runtime_bytes(None, 0), (abi::RuntimeKind::None, Vec::new()));
    }
}
