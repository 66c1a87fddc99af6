//! Compiles the kernel's unwinding step, and its walk over interpreter frames, for the host.

fn main() {
    println!("cargo::rerun-if-changed=../../bpf");
    println!("cargo::rerun-if-changed=step.c");
    println!("cargo::rerun-if-changed=interpreter.c");
    let mut build = cc::Build::new();
    build.files(["step.c", "interpreter.c"]).include("../../bpf");
    build.warnings_into_errors(true).compile("step");
}
