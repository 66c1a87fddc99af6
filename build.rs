//! Compiles the BPF programs of `bpf/`, links them into one object and generates its skeleton.

use std::path::{Path, PathBuf};
use std::{env, fs};

use libbpf_cargo::SkeletonBuilder;
use libbpf_rs::Linker;

const PROGRAMS: [&str; 3] = ["sampler", "follow", "memory"];

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let linked = out.join("everytick.o");

    let mut linker = Linker::new(&linked).expect("cannot create the BPF linker");
    for program in PROGRAMS {
        let object = out.join(format!("{program}.bpf.o"));
        compile(program, &object);
        linker.add_file(&object).expect("cannot link a BPF object");
    }
    linker.link().expect("cannot link the BPF objects");

    let skeleton = out.join("everytick.skel.rs");
    SkeletonBuilder::new()
        .obj(&linked)
        .generate(&skeleton)
        .expect("cannot generate the BPF skeleton");
    strip_inner_attributes(&skeleton);
}

fn compile(program: &str, object: &Path) {
    SkeletonBuilder::new()
        .source(format!("bpf/{program}.bpf.c"))
        .obj(object)
        .clang_args(clang_args())
        .build()
        .unwrap_or_else(|error| panic!("cannot compile bpf/{program}.bpf.c: {error:#}"));
}

/// The target is BPF, but the layout of an interrupted context is that of the host's CPU.
fn clang_args() -> Vec<String> {
    let cpu = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    let mut args = vec!["-Wall".into(), "-Werror".into(), "-mcpu=v3".into()];
    args.push(format!("-I/usr/include/{cpu}-linux-gnu"));
    let headers = env::var("DEP_BPF_INCLUDE").expect("libbpf-sys sets DEP_BPF_INCLUDE");
    args.push(format!("-I{headers}"));
    args
}

/// Removes inner attributes: the skeleton is included in a module, where they are not allowed.
fn strip_inner_attributes(skeleton: &Path) {
    let text = fs::read_to_string(skeleton).expect("cannot read the skeleton");
    let outer: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("#!["))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(skeleton, outer).expect("cannot write the skeleton");
}
