//! Programs of Go: its own linker and the system's, with C code, stripped, and without C code.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{alone, directory};
use crate::programs::{Program, run, source};
use crate::truth::Truth;
use crate::{check, check_stacks, profile};

/// What runs `golang.go`: each goroutine, a thread of C, and the runtime itself. Go's linker has a
/// symbol `main(.text)` where the C code of each file begins.
const CHAINS: [&str; 8] = [
    "runtime.goexit main.inGo > main.middle main.leaf",
    "runtime.goexit main.inC \
     > main._Cfunc_outer runtime.cgocall runtime.asmcgocall _cgo_~* outer spin|main(.text)",
    "runtime.goexit main.callsBack > main._Cfunc_c_calls_back runtime.cgocall \
     runtime.asmcgocall _cgo_~* c_calls_back goCallback|main(.text) crosscall2 runtime.~* \
     _cgoexp_~ main.goCallback* main.middle main.leaf",
    "@libc.so.6{2} c_thread > goFromThread|main(.text) crosscall2 runtime.~* \
     _cgoexp_~ main.goFromThread* main.middle main.leaf",
    "runtime.goexit main.panics > main.recovers main.faults runtime.sigpanic runtime.panicmem* \
     runtime.gopanic main.recovers.func1 main.leaf",
    "runtime.goexit main.switches > main.leaf",
    "runtime.goexit main.startsGrowing.func1|main.startsGrowing > main.grows* main.leaf",
    "runtime.goexit|runtime.mcall|runtime.mstart|runtime.morestack", // the runtime itself
];
/// Functions of the runtime, and what they call.
const TOPS: &str = "runtime.~|internal/~|indexbytebody|memeqbody|@[vdso]|@libc.so.6";

/// Builds a program. `environment`: variables beside those of the test.
fn build(dir: &Path, name: &str, source: PathBuf, flags: &[&str], cgo: &str) -> Program {
    let path = dir.join(name);
    let mut go = Command::new("go");
    go.env("CGO_ENABLED", cgo).env("CGO_CFLAGS", "-O2 -fomit-frame-pointer");
    run(go.args(["build", "-o"]).arg(&path).args(flags).arg(source));
    Program { name: name.into(), path, arguments: Vec::new() }
}

#[test]
fn go_linked_by_its_own_linker_with_c() {
    let _alone = alone();
    let dir = directory();
    let build = |name: &str, more: &str| {
        let flags = format!("-ldflags=-linkmode=internal {more}");
        build(dir.path(), name, source("golang.go"), &[&flags], "1")
    };
    let programs = [build("whole", ""), build("stripped", "-s -w")];
    let stacks = profile(&programs);
    let truth = Truth { chains: &CHAINS, tops: TOPS, guessed: "" };
    check_stacks(programs.iter().map(|program| (program, truth)), &stacks);
}

#[test]
fn go_signals_without_a_c_library() {
    let _alone = alone();
    let dir = directory();
    let program = build(dir.path(), "pure", source("signals.go"), &[], "0");
    let chains = [
        "runtime.goexit runtime.main main.main > main.raises syscall.RawSyscall",
        "runtime.goexit > main.main.func1|main.spins",
        "runtime.goexit os/signal.loop > os/signal.~*",
        "runtime.mcall|runtime.mstart|runtime.morestack",
    ];
    let tops = &format!("syscall.~|{TOPS}");
    check(&[program], &Truth { chains: &chains, tops, guessed: "" });
}
