//! Takes constants from the BTF of the programs, and compares mirrors with it while this compiles.

/// A type with the layout of `T`: `T` itself, or its compared mirror.
pub(super) trait Mirrors<T> {}
impl<T> Mirrors<T> for T {}

pub(super) const fn same_type<Ours: Mirrors<Theirs>, Theirs>(_: &Ours, _: &Theirs) {}

/// Takes constants from an enum of `bpf/abi.h`.
macro_rules! constants {
    ($theirs:ident { $($(#[$doc:meta])* $name:ident: $type:ty,)* }) => {
        $($(#[$doc])* pub const $name: $type = types::$theirs::$name.0 as $type;)*
    };
}

/// Compares the size and each field of a structure.
macro_rules! mirror {
    ($ours:ident = $theirs:ident { $($field:ident),* $(,)? }) => {
        const _: () = {
            use std::mem::offset_of;
            assert!(size_of::<$ours>() == size_of::<types::$theirs>());
            $(assert!(offset_of!($ours, $field) == offset_of!(types::$theirs, $field));)*
        };
        const _: fn(&$ours, &types::$theirs) = |ours, theirs| {
            let types::$theirs { $($field: _),* } = theirs;
            $(same_type(&ours.$field, &theirs.$field);)*
        };
        impl Mirrors<types::$theirs> for $ours {}
    };
}

/// Compares constants of a Rust module, by path, with those of an enum of `bpf/`. With a count, the
/// list must name every enumerator.
macro_rules! same_constants {
    ($theirs:ident { $($ours:expr => $constant:ident),* $(,)? }) => {
        const _: () = { $(assert!($ours as u64 == types::$theirs::$constant.0 as u64);)* };
    };
    ($theirs:ident { $($ours:expr => $constant:ident),* $(,)? } $count:ident) => {
        same_constants!($theirs { $($ours => $constant),* });
        const _: () = assert!(
            [$(stringify!($constant)),*].len() == types::$theirs::$count.0 as usize
        );
    };
}

/// Compares the values of an enum, with none left out.
macro_rules! same_values {
    ($ours:ident = $theirs:ident { $($variant:ident = $constant:ident),* $(,)? } $count:ident) => {
        const _: () = {
            $(assert!($ours::$variant as u32 == types::$theirs::$constant.0);)*
            let compared = [$($ours::$variant),*];
            assert!(compared.len() == $ours::COUNT);
            assert!(compared.len() == types::$theirs::$count.0 as usize);
        };
    };
}

pub(super) use {constants, mirror, same_constants, same_values};
