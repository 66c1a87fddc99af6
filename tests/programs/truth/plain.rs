//! Runs main -> a -> b -> c -> spin, without frame pointers.
use std::hint::black_box;

#[inline(never)]
fn spin(sink: &mut u64) {
    for i in 0..1000 {
        *sink = black_box(*sink + i);
    }
}

#[inline(never)]
fn c(sink: &mut u64) {
    let mut data = black_box([*sink; 40]);
    spin(&mut data[7]);
    *sink = black_box(data)[7];
}

#[inline(never)]
fn b(sink: &mut u64) {
    c(sink);
    *sink = black_box(*sink);
}

#[inline(never)]
fn a(sink: &mut u64) {
    b(sink);
    *sink = black_box(*sink);
}

fn main() {
    let mut sink = 0;
    loop {
        a(&mut sink);
    }
}
