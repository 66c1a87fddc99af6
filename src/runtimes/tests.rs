//! Files of real C libraries and interpreters, files that pretend to be interpreters, and files
//! that are made to do harm.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message;
use tempfile::TempDir;

use super::proto::RecognitionMessage;
use super::*;

/// Numbers 2 to 71 of `_Py_DebugOffsets` of 3.13.0.
const DEBUG_OFFSETS_3_13: [u64; 70] = [
    0, 283320, 608, 632, 194968, 7272, 7264, 7344, 7400, 7656, 7640, 7648, 16, 7752, 0, 7768, 7760,
    304, 0, 8, 16, 72, 152, 160, 232, 32, 80, 8, 0, 56, 72, 70, 208, 112, 120, 128, 136, 68, 52,
    96, 104, 200, 16, 8, 416, 24, 88, 168, 32, 24, 16, 40, 24, 16, 48, 32, 40, 24, 16, 32, 16, 24,
    40, 16, 32, 64, 32, 16, 40, 240,
];

/// What a fake interpreter says of itself.
struct Fake {
    version: u64,
    /// Code of the functions.
    functions: &'static str,
}

/// Functions that return a thread-local variable and a value of pthread_setspecific.
const FUNCTIONS: &str =
    "static __thread struct { void *volatile before, *volatile current; } thread;
    void *_PyThreadState_GetCurrent(void) { return thread.current; }
    void *PyGILState_GetThisThreadState(void) {
        int *key = (int *)((char *)&_PyRuntime + 2160);
        return *key ? pthread_getspecific(key[1]) : thread.before;
    }";

impl Default for Fake {
    fn default() -> Self {
        Self { version: 0x030d_00f0, functions: FUNCTIONS }
    }
}

impl Fake {
    fn source(&self) -> String {
        let Self { version, functions } = self;
        let offsets = DEBUG_OFFSETS_3_13.map(|offset| offset.to_string());
        format!(
            "#include <pthread.h>
            struct {{ char cookie[8]; unsigned long numbers[400]; }} _PyRuntime =
                {{ \"xdebugpy\", {{ {version}, {} }} }};
            const unsigned long Py_Version = {version};
            {functions}",
            offsets.join(", ")
        )
    }

    /// Compiles it as a library.
    fn library(&self, directory: &TempDir, options: &[&str]) -> PathBuf {
        compile(directory, &self.source(), &[&["-shared", "-fPIC"], options].concat())
    }

    fn recognized(&self) -> Result<RuntimeFile, RecognitionError> {
        let directory = tempfile::tempdir().unwrap();
        cpython_in(&self.library(&directory, &[]))
    }
}

fn compile(directory: &TempDir, source: &str, options: &[&str]) -> PathBuf {
    let (source_path, path) = (directory.path().join("fake.c"), directory.path().join("fake"));
    fs::write(&source_path, source).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-O2", "-w", "-o"]).arg(&path).arg(&source_path).args(options);
    assert!(gcc.status().unwrap().success(), "{gcc:?}");
    path
}

fn recognized(path: impl AsRef<Path>) -> Recognition {
    recognize(&File::open(path).unwrap())
}

/// Returns the interpreter of a file; panics if there is none. It must be the same behind the
/// socket of the file helper.
fn cpython_in(path: &Path) -> Result<RuntimeFile, RecognitionError> {
    let found = recognized(path);
    let bytes = RecognitionMessage::of(&found).expect("something").encode_to_vec();
    assert_eq!(RecognitionMessage::decode(&*bytes).unwrap().recognition(), found);
    found.runtime.expect("a runtime")
}

#[test]
fn python_of_the_machine_is_recognized() {
    let output = Command::new("/usr/bin/python3").arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap();
    let file = cpython_in(&fs::canonicalize("/usr/bin/python3").unwrap()).unwrap();
    assert_eq!(file.version.to_string(), format!("C{}", version.trim()));
    assert_ne!(file.values[0], ThreadValue::None);
}

#[test]
fn c_libraries_are_recognized() {
    let libc_of = |path: &str| recognized(path).libc.expect("a C library").expect("a known one");
    let glibc = libc_of("/lib/x86_64-linux-gnu/libc.so.6");
    assert_eq!(glibc, Libc { kind: LibcKind::Glibc, specific: 0x510 });
    let musl = libc_of("/usr/lib/x86_64-linux-musl/libc.so");
    assert_eq!(musl, Libc { kind: LibcKind::Musl, specific: 0x80 });
    for path in ["/proc/self/exe", "/bin/sh", "/etc/passwd", "/lib64/ld-linux-x86-64.so.2"] {
        assert_eq!(recognized(path), Recognition::default(), "{path}");
    }
}

#[test]
fn glibc_before_2_34_is_known_by_its_code() {
    let directory = tempfile::tempdir().unwrap();
    let libc_with = |code: &str| {
        let source = format!("void *pthread_getspecific(unsigned int key) {{ {code} }}");
        recognized(compile(&directory, &source, &["-shared", "-fPIC"])).libc
    };
    let code = "void *block; asm(\"mov %%fs:0x510(,%q1,8), %0\" : \"=r\"(block) : \"r\"(key / 32));
        return *(void **)((char *)block + key % 32 * 16 + 8);";
    assert_eq!(libc_with(code), Some(Ok(Libc { kind: LibcKind::Glibc, specific: 0x510 })));
    let implausible = libc_with(&code.replace("0x510", "0x7ffffff0"));
    assert_eq!(implausible, Some(Err(RecognitionError::UnknownLibrary)));
    assert_eq!(libc_with("return (void *)(long)key;"), None);
}

#[test]
fn thread_state_of_a_library_is_dynamic() {
    let directory = tempfile::tempdir().unwrap();
    let file = cpython_in(&Fake::default().library(&directory, &[])).unwrap();
    let [ThreadValue::Dynamic { slot, offset: 8 }, ThreadValue::Key(key)] = file.values else {
        panic!("{:?}", file.values);
    };
    assert_eq!((key, slot % 8), (file.state + 2164, 0));
    assert_eq!(file.version.to_string(), "CPython 3.13.0");
}

#[test]
fn thread_state_of_a_program_has_an_offset() {
    let directory = tempfile::tempdir().unwrap();
    let source = Fake::default().source() + "int main(void) { return 0; }";
    for options in [&["-rdynamic", "-pie", "-fPIE"][..], &["-rdynamic", "-no-pie", "-fno-pic"]] {
        let file = cpython_in(&compile(&directory, &source, options)).unwrap();
        let [ThreadValue::Static(offset), ThreadValue::Key(_)] = file.values else {
            panic!("{options:?}: {:?}", file.values);
        };
        assert!((-16..0).contains(&offset), "{offset}");
    }
}

#[test]
fn an_offset_in_a_slot_leaves_the_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = Fake::default().library(&directory, &["-ftls-model=initial-exec"]);
    let file = cpython_in(&path).unwrap();
    assert_eq!(file.values, [ThreadValue::Key(file.state + 2164), ThreadValue::None]);
}

#[test]
fn symbols_are_found_by_either_hash_and_without_sections() {
    let directory = tempfile::tempdir().unwrap();
    for style in ["-Wl,--hash-style=gnu", "-Wl,--hash-style=sysv"] {
        let path = Fake::default().library(&directory, &[style, "-s"]);
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[0; 8], 40).unwrap(); // e_shoff
        file.write_all_at(&[0; 4], 60).unwrap(); // e_shnum, e_shstrndx
        cpython_in(&path).unwrap();
    }
}

#[test]
fn only_a_file_that_defines_the_state_is_the_interpreter() {
    let directory = tempfile::tempdir().unwrap();
    let uses = "extern char _PyRuntime[]; char *module(void) { return _PyRuntime; }";
    let path = compile(&directory, uses, &["-shared", "-fPIC"]);
    assert_eq!(recognized(&path), Recognition::default());
    let hidden = Fake::default().library(&directory, &["-fvisibility=hidden"]);
    assert_eq!(recognized(&hidden), Recognition::default());
}

#[test]
fn versions_before_3_11_are_those_of_their_functions() {
    const STATE: &str = "char _PyRuntime[4096] = {1};
        extern void *PyThread_tss_get(void *);
        void *PyGILState_GetThisThreadState(void) { return PyThread_tss_get(_PyRuntime + KEY); }";
    let directory = tempfile::tempdir().unwrap();
    let functions = ["PyThread_tss_create", "Py_BytesMain", "PyFrame_GetBack", "PyIter_Send"];
    let keys = [1504, 1392, 584, 584];
    let recognized = |functions: &[&str], key: u32| {
        let functions = functions.iter().map(|function| format!("void {function}(void) {{}}\n"));
        let source = STATE.to_owned() + &functions.collect::<String>();
        let key = format!("-DKEY={key}");
        cpython_in(&compile(&directory, &source, &["-shared", "-fPIC", &key]))
    };
    for (count, key) in (1..).zip(keys) {
        let file = recognized(&functions[..count], key).unwrap();
        assert_eq!(file.version.to_string(), format!("CPython 3.{}", 6 + count));
        let expected = ThreadValue::Key(file.state + u64::from(key) + 4);
        assert_eq!(file.values, [expected, ThreadValue::None]);
        let elsewhere = recognized(&functions[..count], key + 8);
        assert_eq!(elsewhere, Err(RecognitionError::NoThreadState));
    }
    assert_eq!(recognized(&[], 584), Err(RecognitionError::UnknownVersion));
    assert_eq!(recognized(&functions[1..], 584), Err(RecognitionError::UnknownVersion));
}

#[test]
fn other_versions_have_a_reason() {
    let with = |version| Fake { version, ..Fake::default() }.recognized();
    for version in [0x0310_00f0, 0x030e_00a1, 0x0306_00f0] {
        assert_eq!(with(version), Err(RecognitionError::UnsupportedVersion), "{version:x}");
    }
    for version in [0, 0x0207_12f0, u64::MAX, 0x1_030d_00f0] {
        assert_eq!(with(version), Err(RecognitionError::UnknownVersion), "{version:x}");
    }
    let directory = tempfile::tempdir().unwrap();
    let old = "void *_PyThreadState_Current = &_PyThreadState_Current;";
    let path = compile(&directory, old, &["-shared", "-fPIC"]);
    assert_eq!(cpython_in(&path), Err(RecognitionError::UnsupportedVersion));
}

#[test]
fn structures_that_are_not_as_known_have_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = Fake::default().library(&directory, &[]);
    let whole = fs::read(&path).unwrap();
    let start = whole.windows(8).position(|bytes| bytes == b"xdebugpy").unwrap();
    let with = |index: usize, value: u64| {
        let mut bytes = whole.clone();
        bytes[start + 8 * index..][..8].copy_from_slice(&value.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        cpython_in(&path)
    };
    let unknown = Err(RecognitionError::UnknownLayout);
    for index in [23, 29, 30, 31, 33, 35, 37, 38, 39, 43, 65, 66, 68, 69, 70] {
        assert_eq!(with(index, DEBUG_OFFSETS_3_13[index - 2] + 8), unknown, "number {index}");
    }
    assert_eq!(with(0, 0), unknown, "no cookie");
    assert_eq!(with(2, 1), unknown, "other offsets without a global lock");
    assert_eq!(with(1, 0x030d_01f0), Err(RecognitionError::UnknownVersion));
    with(19, 1 << 40).expect("the size of a thread state is not used");
}

#[test]
fn functions_of_another_form_are_not_followed() {
    const NONE: [&str; 6] = [
        "void *_PyThreadState_GetCurrent(void) { return 0; }",
        "void *_PyThreadState_GetCurrent(void) { for (;;); }",
        "asm(\".globl _PyThreadState_GetCurrent; .type _PyThreadState_GetCurrent, @function; \"
            \"_PyThreadState_GetCurrent: .rept 100000; nop; .endr\");",
        "extern void *f(void *); static __thread char tstate[8];
            void *_PyThreadState_GetCurrent(void) { return *(void **)f(&tstate); }",
        "void *_PyThreadState_GetCurrent(void) {
            void *value; asm(\"mov %%fs:0x28, %0\" : \"=r\"(value)); return value; }",
        "void *_PyThreadState_GetCurrent[4] = {(void *)1};",
    ];
    for functions in NONE {
        let error = Fake { functions, ..Fake::default() }.recognized();
        assert_eq!(error, Err(RecognitionError::NoThreadState), "{functions}");
    }
}

/// Changes numbers of a file, wherever they are, and recognizes it.
#[test]
fn changed_files_do_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    for style in ["-Wl,--hash-style=gnu", "-Wl,--hash-style=sysv"] {
        let path = Fake::default().library(&directory, &[style, "-s"]);
        let whole = fs::read(&path).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let end = whole.len().min(16 << 10);
        for at in (0..end).step_by(4) {
            for value in [0u32, 0x7fff_ffff, u32::MAX] {
                file.write_all_at(&value.to_le_bytes(), at as u64).unwrap();
                let found = recognize(&file);
                if let Some(message) = RecognitionMessage::of(&found) {
                    assert_eq!(message.recognition(), found);
                }
            }
            file.write_all_at(&whole[at..(at + 4).min(whole.len())], at as u64).unwrap();
        }
        for len in (0..whole.len() as u64).rev().step_by(61) {
            file.set_len(len).unwrap();
            recognize(&file);
        }
    }
}

/// Makes the chains of both kinds of hash tables endless, and lets each name be that of another
/// symbol.
#[test]
fn endless_chains_end() {
    let directory = tempfile::tempdir().unwrap();
    let names: String = (0..5000).map(|n| format!("int symbol_{n};\n")).collect();
    for (style, tag) in [("gnu", 0x6fff_fef5_u64), ("sysv", 4)] {
        let style = format!("-Wl,--hash-style={style}");
        let path = compile(&directory, &names, &["-shared", "-fPIC", &style, "-s", "-nostdlib"]);
        let mut bytes = fs::read(&path).unwrap();
        let number =
            |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        // Its dynamic segment is the only place with the tag; the table is in the first page.
        let is_tag = |at: &usize| number(&bytes, *at) == tag && number(&bytes, *at + 8) < 0x1000;
        let entry = (0x1000..bytes.len() - 16).step_by(8).find(is_tag).unwrap();
        let table = number(&bytes, entry + 8) as usize;
        if tag == 4 {
            let buckets = u32::from_le_bytes(bytes[table..table + 4].try_into().unwrap()) as usize;
            // Each bucket begins with symbol 1, and each symbol is followed by 1.
            for link in bytes[table + 8..table + 8 + 4 * (buckets + 5000)].chunks_exact_mut(4) {
                link.copy_from_slice(&1u32.to_le_bytes());
            }
        } else {
            // One bucket, which begins with symbol 1, and a filter that lets all names pass. Each
            // link is the hash of the name, and none ends the chain.
            let hash = b"_PyRuntime"
                .iter()
                .fold(5381u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(u32::from(*byte)));
            let header = [1, 1, 1, 0, u32::MAX, u32::MAX, 1];
            let links = [hash & !1; 4000];
            let numbers = header.into_iter().chain(links).flat_map(u32::to_le_bytes);
            bytes.splice(table..table + 4 * (header.len() + links.len()), numbers);
        }
        fs::write(&path, &bytes).unwrap();
        assert_eq!(recognized(&path), Recognition::default());
    }
}

#[test]
fn answers_of_the_file_helper_are_checked_again() {
    let directory = tempfile::tempdir().unwrap();
    let found = recognized(Fake::default().library(&directory, &[]));
    let good = RecognitionMessage::of(&found).unwrap().encode_to_vec();
    let mut malformed = 0;
    for at in 0..good.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = good.clone();
            bytes[at] = value;
            let Ok(message) = RecognitionMessage::decode(&*bytes) else { continue };
            match message.recognition().runtime {
                Some(Ok(file)) => {
                    assert!(file.values.iter().all(|value| value.is_plausible()), "{file:?}");
                    assert!(file.state < 1 << 47);
                }
                Some(Err(RecognitionError::Malformed)) => malformed += 1,
                _ => {}
            }
        }
    }
    assert!(malformed > 10, "{malformed}");
}

#[test]
fn a_process_has_the_addresses_of_its_mapping() {
    const BIAS: u64 = 0x7f00_0000_0000;
    let directory = tempfile::tempdir().unwrap();
    let found = recognized(Fake::default().library(&directory, &[]));
    let file = found.runtime.unwrap().unwrap();
    let glibc = Libc { kind: LibcKind::Glibc, specific: 0x510 };
    let process = RuntimeProcess::new(&file, BIAS, Some(glibc)).unwrap();
    assert_eq!((process.state, process.specific), (file.state + BIAS, 0x510));
    assert_eq!(process.values, file.values.map(|value| value.relocated(BIAS)));
    assert_eq!(RuntimeProcess::new(&file, BIAS, None), Err(RecognitionError::NoLibrary));
    let beyond = RuntimeProcess::new(&file, u64::MAX / 2, Some(glibc));
    assert_eq!(beyond, Err(RecognitionError::Malformed));
}
