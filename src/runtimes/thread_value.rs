//! How the kernel side reads a pointer of the current thread.

/// Largest offset of a thread-local variable, from the thread pointer or in the block of its
/// module: static TLS of real programs has a few thousand bytes.
const OFFSET_MAX: i32 = 1 << 24;
/// Address after the last one of user space.
pub(super) const USER_ADDRESSES_END: u64 = 1 << 47;

/// Where a pointer of the current thread is. Addresses are those of the file until
/// [`ThreadValue::relocated`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThreadValue {
    /// Nowhere.
    #[default]
    None,
    /// At an offset from the thread pointer: a variable of the program itself.
    Static(i32),
    /// In the block that a module has for each thread.
    Dynamic {
        /// Address of the pair of module and offset, which the dynamic linker writes.
        slot: u64,
        /// Added to the offset of the pair.
        offset: i32,
    },
    /// A value of pthread_setspecific, by the address of its key, an `int`.
    Key(u64),
}

impl ThreadValue {
    /// Returns the value of a file that is loaded with this bias.
    #[must_use]
    pub fn relocated(self, bias: u64) -> Self {
        match self {
            Self::None | Self::Static(_) => self,
            Self::Dynamic { slot, offset } => {
                Self::Dynamic { slot: slot.wrapping_add(bias), offset }
            }
            Self::Key(address) => Self::Key(address.wrapping_add(bias)),
        }
    }

    /// Returns whether it can be of a real program: offsets are small, addresses are of user space
    /// and aligned.
    pub(super) fn is_plausible(self) -> bool {
        match self {
            Self::None => true,
            Self::Static(offset) => (-OFFSET_MAX..0).contains(&offset),
            Self::Dynamic { slot, offset } => {
                is_user_pointer(slot, 8) && (0..OFFSET_MAX).contains(&offset)
            }
            Self::Key(address) => is_user_pointer(address, 4),
        }
    }
}

/// Returns whether an address is aligned, not 0, and of user space.
pub(super) fn is_user_pointer(address: u64, align: u64) -> bool {
    (1..USER_ADDRESSES_END).contains(&address) && address.is_multiple_of(align)
}
