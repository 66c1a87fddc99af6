//! Which way a flame graph grows.

/// Which way the calls of a flame graph go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// From the root at the top down to what was called.
    #[default]
    TopDown,
    /// From the root at the bottom up.
    BottomUp,
}

impl Direction {
    /// Returns the direction by whether the root is to be at the bottom.
    pub fn of(is_bottom_up: bool) -> Self {
        if is_bottom_up { Self::BottomUp } else { Self::TopDown }
    }
}
