//! Recursion in a stack: frames that repeat many times in a row are drawn once.
//!
//! A thousand equal frames would fill twenty screens and say nothing more than one that says how
//! often it is there. The other formats keep every frame.

/// Longest cycle of functions that is found: `a` calls `b` calls `a` is one of two.
const PERIOD_MAX: usize = 8;
/// Frames in a row that are drawn as they are, repeated or not.
const REPEATED_DRAWN_MAX: usize = 16;

/// A frame of a stack, or the first frame of a cycle of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repeated {
    /// Index in the stack.
    pub index: usize,
    /// How many times in a row the cycle is there; 1 for a frame that is no cycle's first.
    pub times: u32,
    /// Number of frames of the cycle.
    pub period: u32,
}

/// Returns the frames to draw, in their order: of frames that repeat, the first cycle only.
pub(super) fn without_repeats<T: PartialEq>(stack: &[T]) -> Vec<Repeated> {
    let mut drawn = Vec::with_capacity(stack.len().min(256));
    let mut at = 0;
    while at < stack.len() {
        let cycle = (1..=PERIOD_MAX).find_map(|period| {
            let times = times_in_a_row(&stack[at..], period);
            (times * period > REPEATED_DRAWN_MAX && times > 1).then_some((times, period))
        });
        let (times, period) = cycle.unwrap_or((1, 1));
        drawn.push(Repeated { index: at, times: times as u32, period: period as u32 });
        let others = at + 1..at + period;
        drawn.extend(others.map(|index| Repeated { index, times: 1, period: 1 }));
        at += times * period;
    }
    drawn
}

/// Returns how many times in a row the first `period` frames are at the start of a stack.
fn times_in_a_row<T: PartialEq>(stack: &[T], period: usize) -> usize {
    let equal = stack.iter().zip(stack.iter().skip(period)).take_while(|(a, b)| a == b).count();
    if stack.len() < period { 0 } else { equal / period + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws a stack of letters: `a*3/1` is `aaa`.
    fn drawn(stack: &str) -> String {
        let stack: Vec<char> = stack.chars().collect();
        let one = |one: &Repeated| match one.times {
            1 => stack[one.index].to_string(),
            times => format!("{}*{times}/{} ", stack[one.index], one.period),
        };
        without_repeats(&stack).iter().map(one).collect()
    }

    #[test]
    fn long_recursion_is_drawn_once() {
        assert_eq!(drawn(&format!("m{}z", "r".repeat(1_000))), "mr*1000/1 z");
        assert_eq!(drawn(&format!("m{}az", "ab".repeat(500))), "ma*500/2 baz");
        assert_eq!(drawn(&"abc".repeat(6)), "a*6/3 bc");
    }

    #[test]
    fn short_recursion_is_drawn_as_it_is() {
        for stack in ["", "a", "mrrrrz", "abababab", &"r".repeat(16)] {
            assert_eq!(drawn(stack), stack);
        }
    }

    #[test]
    fn every_frame_is_drawn_or_in_a_cycle() {
        let stack: Vec<u8> = (0..4_000u32).map(|n| (n * n / 7 % 3) as u8).collect();
        let covers = |one: &Repeated| if one.times > 1 { one.times * one.period } else { 1 };
        let others = |one: &Repeated| if one.times > 1 { one.period - 1 } else { 0 };
        let drawn = without_repeats(&stack);
        let covered: u32 = drawn.iter().map(covers).sum();
        let counted_twice: u32 = drawn.iter().map(others).sum();
        assert_eq!(covered - counted_twice, 4_000);
    }
}
