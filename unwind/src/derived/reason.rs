//! Why code has no derived row.

/// Why code has no derived row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No path from a known function leads to it.
    NotReached,
    /// It begins a function or a part of one, and it is not proven which.
    Unproven,
    /// Its function has an indirect jump of which it is unknown where it leads.
    JumpTable,
    /// The distance of the stack pointer from the CFA is unknown, and no register helps.
    StackPointer,
    /// The frame pointer is zeroed, as at the root of a stack.
    Root,
    /// There is no return address, as at the entry point of a file, or it was moved.
    ReturnAddress,
    /// No rule expresses it.
    NotExpressible,
    /// Paths or functions disagree.
    Conflict,
    /// The function returns with something else than its return address on top of the stack.
    ReturnHeight,
    /// A path of the function leads to bytes that are no instruction.
    Undecodable,
    /// The function is larger, or takes more work, than is allowed.
    Limit,
}

impl Reason {
    /// Returns the reason in words.
    pub fn text(self) -> &'static str {
        match self {
            Self::NotReached => "not reached",
            Self::Unproven => "unproven start",
            Self::JumpTable => "jump table",
            Self::StackPointer => "stack pointer unknown",
            Self::Root => "root of a stack",
            Self::ReturnAddress => "no return address",
            Self::NotExpressible => "not expressible",
            Self::Conflict => "paths disagree",
            Self::ReturnHeight => "returns elsewhere",
            Self::Undecodable => "undecodable",
            Self::Limit => "limit",
        }
    }
}
