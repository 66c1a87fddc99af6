//! Runs main -> a -> b -> c -> spin forever. The tests know the marked lines.
use std::hint::black_box;

#[inline(never)]
#[rustfmt::skip]
fn spin() {
    let mut step = 0u64;
    while step < 20_000_000 { step = black_box(step) + 1 } // line 8
}

#[inline(never)]
fn c() {
    spin(); // line 13
    black_box(());
}

#[inline(never)]
fn b() {
    c(); // line 19
    black_box(());
}

#[inline(never)]
fn a() {
    b(); // line 25
    black_box(());
}

fn main() {
    loop {
        a(); // line 31
    }
}
