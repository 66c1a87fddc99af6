//! Sorts, hashes and formats on two threads. Compiled with `-C panic=abort`, the functions of this
//! crate have no call frames; those of the standard library do.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::hint::black_box;

#[inline(never)]
fn mix(seed: u64) -> u64 {
    (0..200).fold(seed, |sum, step| black_box(sum.rotate_left(7) ^ step).wrapping_mul(0x9e37_79b9))
}

#[inline(never)]
fn count(seed: u64) -> HashMap<u64, String> {
    (0..500).map(|key| (mix(seed + key) % 97, format!("{key:x}"))).collect()
}

#[inline(never)]
fn ordered(seed: u64) -> BTreeMap<String, u64> {
    let mut all: Vec<_> = count(seed).into_iter().collect();
    all.sort_by(|left, right| left.1.cmp(&right.1));
    all.into_iter().map(|(key, text)| (text, key)).collect()
}

#[inline(never)]
fn walk(depth: u32, seed: u64, text: &mut String) -> u64 {
    if depth == 0 {
        return ordered(seed).into_values().sum();
    }
    let sum = walk(depth - 1, seed + 1, text);
    write!(text, "{sum}").expect("a string takes everything");
    sum ^ text.len() as u64
}

fn work() {
    for seed in 0.. {
        black_box(walk(5, seed, &mut String::new()));
    }
}

fn main() {
    let other = std::thread::spawn(work);
    work();
    other.join().expect("it does not end");
}
