//! Compiles the kernel's unwinding step for the host.

fn main() {
    println!("cargo::rerun-if-changed=../../bpf");
    println!("cargo::rerun-if-changed=step.c");
    cc::Build::new().file("step.c").include("../../bpf").warnings_into_errors(true).compile("step");
}
