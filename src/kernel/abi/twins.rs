//! Values that must be equal in `bpf/` and in the crates `profile` and `unwind`.

use profile::{StackEnd, TickOutcome};
use unwind::{Gap, arch, encoding, frame_pointer};

use super::compare::{same_constants, same_values};
use crate::kernel::skeleton::types;

same_constants!(rule_op {
    encoding::OP_GAP => RULE_OP_GAP,
    encoding::OP_ROOT => RULE_OP_ROOT,
    encoding::OP_REGISTER => RULE_OP_REGISTER,
    encoding::OP_AT_REGISTER => RULE_OP_AT_REGISTER,
    encoding::OP_PLT => RULE_OP_PLT,
    encoding::OP_SIGNAL => RULE_OP_SIGNAL,
    encoding::OP_FRAME_POINTER => RULE_OP_FRAME_POINTER,
    encoding::OP_AT_INDEX => RULE_OP_AT_INDEX,
    encoding::OP_OUTSIDE => RULE_OP_OUTSIDE,
} RULE_OPS);
same_constants!(rule_gap {
    Gap::NoRow => RULE_GAP_NO_ROW,
    Gap::NotExpressible => RULE_GAP_NOT_EXPRESSIBLE,
    Gap::Pending => RULE_GAP_PENDING,
} RULE_GAPS);
same_constants!(rule_saved {
    encoding::SAVED_SAME_VALUE => RULE_SAVED_SAME_VALUE,
    encoding::SAVED_IN_REGISTER => RULE_SAVED_IN_REGISTER,
    encoding::SAVED_INTERRUPTED => RULE_SAVED_INTERRUPTED,
    encoding::SAVED_RETURN_OR_ROOT => RULE_SAVED_RETURN_OR_ROOT,
    encoding::SAVED_UNDEFINED => RULE_SAVED_UNDEFINED,
    encoding::SAVED_AT_FP => RULE_SAVED_AT_FP,
});
same_constants!(stack_limit { arch::REGISTERS => REGISTERS });
same_constants!(arch_register {
    arch::SP.number() => ARCH_SP,
    arch::FP.number() => ARCH_FP,
    arch::BASE.number() => ARCH_BASE,
});
same_constants!(arch_frame {
    arch::RED_ZONE => ARCH_RED_ZONE,
    (arch::SIGNAL_IP - arch::SIGNAL_REGISTERS[8]) / 8 => ARCH_SIGNAL_IP,
    arch::SIGNAL_REGISTERS[8] => ARCH_SIGNAL_OFFSET,
});
same_constants!(user_address {
    arch::USER_ADDRESS_MIN => USER_ADDRESS_MIN,
    arch::USER_ADDRESS_MAX.ilog2() => USER_ADDRESS_BITS,
});
same_constants!(frame_pointer_limit { frame_pointer::FRAME_BYTES_MAX => FRAME_BYTES_MAX });

same_values!(TickOutcome = outcome {
    Delivered = OUTCOME_DELIVERED,
    LostRingFull = OUTCOME_LOST_RING_FULL,
    SkippedIdle = OUTCOME_SKIPPED_IDLE,
    SkippedProcess = OUTCOME_SKIPPED_PROCESS,
    SkippedCgroup = OUTCOME_SKIPPED_CGROUP,
    SkippedComm = OUTCOME_SKIPPED_COMM,
    SkippedMode = OUTCOME_SKIPPED_MODE,
    SkippedNamespace = OUTCOME_SKIPPED_NAMESPACE,
} OUTCOMES);

same_values!(StackEnd = stack_end {
    Absent = STACK_END_ABSENT,
    Complete = STACK_END_COMPLETE,
    Depth = STACK_END_DEPTH,
    NoRow = STACK_END_NO_ROW,
    BadReturnAddress = STACK_END_BAD_RETURN_ADDRESS,
    Unreadable = STACK_END_UNREADABLE,
    ThirtyTwoBit = STACK_END_32_BIT,
    KernelUnavailable = STACK_END_KERNEL_UNAVAILABLE,
    NoMapping = STACK_END_NO_MAPPING,
    NotExpressible = STACK_END_NOT_EXPRESSIBLE,
    TimeLimit = STACK_END_TIME_LIMIT,
    NoTable = STACK_END_NO_TABLE,
    SnapshotEnd = STACK_END_SNAPSHOT_END,
    MappingsUnread = STACK_END_MAPPINGS_UNREAD,
    MappingReplaced = STACK_END_MAPPING_REPLACED,
    Guessed = STACK_END_GUESSED,
} STACK_ENDS);
