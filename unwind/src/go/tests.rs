//! The rows of each kind of Go function, from a function table made by hand.

use super::table::FunctionTable;
use super::*;

const TEXT: u64 = 0x40_1000;

/// A function of the table.
struct TestFunction {
    name: &'static str,
    code: Vec<u8>,
    /// Bytes of code, bytes of stack.
    distances: &'static [(u32, i32)],
    flags: u8,
}

fn function(
    name: &'static str,
    code: &[u8],
    distances: &'static [(u32, i32)],
    flags: u8,
) -> TestFunction {
    let mut code = code.to_vec();
    code.resize(64, 0x90);
    TestFunction { name, code, distances, flags }
}

/// Returns a table as Go 1.20 writes it, with the start of the text in its header.
fn table(functions: &[TestFunction]) -> Vec<u8> {
    const HEADER: usize = 8 + 8 * 8;
    let (mut names, mut distances, mut records, mut list) = (vec![0], vec![0], vec![], vec![]);
    for (number, function) in functions.iter().enumerate() {
        let entry = 64 * number as u32;
        let list_bytes = 8 * functions.len() + 4;
        list.extend([entry, (list_bytes + records.len()) as u32]);
        let record = [entry, names.len() as u32, 0, 0, distances.len() as u32, 0, 0, 0, 0, 0];
        records.extend(record.iter().flat_map(|word| word.to_le_bytes()));
        records.extend([0, function.flags, 0, 0]);
        names.extend(function.name.bytes().chain([0]));
        let mut value = -1;
        for (bytes, distance) in function.distances {
            let change = distance - value;
            let zigzag = ((change << 1) ^ (change >> 31)) as u32;
            for mut number in [zigzag, *bytes] {
                while number >= 0x80 {
                    distances.push(number as u8 | 0x80);
                    number >>= 7;
                }
                distances.push(number as u8);
            }
            value = *distance;
        }
        distances.push(0);
    }
    list.push(64 * functions.len() as u32);
    let list: Vec<u8> = list.iter().flat_map(|word| word.to_le_bytes()).collect();
    let at = [HEADER, HEADER + names.len(), HEADER + names.len() + distances.len()];
    let mut bytes = vec![0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8];
    let words = [functions.len(), 0, TEXT as usize, at[0], 0, 0, at[1], at[2]];
    bytes.extend(words.iter().flat_map(|word| (*word as u64).to_le_bytes()));
    [bytes, names, distances, list, records].concat()
}

/// Returns the rows of a function. Ordinary functions follow it, by which the text is found.
fn rows(first: TestFunction) -> Vec<(u64, Rule)> {
    let mut all = vec![first];
    all.extend((0..20).map(|_| function("main.f", &PUSHES, PUSHED, 0)));
    let code: Vec<u8> = all.iter().flat_map(|function| function.code.clone()).collect();
    let read = |range: Range<u64>| {
        let from = range.start.checked_sub(TEXT)? as usize;
        let to = ((range.end - TEXT) as usize).min(code.len());
        code.get(from..to).map(<[u8]>::to_vec)
    };
    let table = FunctionTable::parse(table(&all), TEXT).expect("a valid table");
    let mut layer = GoLayer::new(&table, &read);
    let mut rows = Vec::new();
    assert_eq!(layer.next(TEXT..TEXT + 0x1000), Some(TEXT..TEXT + 64));
    layer.rows(&mut |address, rule| rows.push((address - TEXT, rule)));
    rows
}

/// push %rbp; mov %rsp, %rbp; sub $24, %rsp; ...
const PUSHES: [u8; 8] = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x18];
const PUSHED: &[(u32, i32)] = &[(1, 0), (7, 8), (52, 32), (2, 8), (2, 0)];

fn by_sp(offset: i32, fp: RegisterRule) -> Rule {
    Rule {
        cfa: Cfa::Register(SP, offset),
        fp,
        base: RegisterRule::Undefined,
        ra: RegisterRule::SAVED_RA,
    }
}

#[test]
fn ordinary_function_has_its_cfa_relative_to_sp() {
    let saved = RegisterRule::AtCfa(-2);
    let expected = [
        (0, by_sp(8, RegisterRule::SameValue)),
        (1, by_sp(16, saved)),
        (8, by_sp(40, saved)),
        (60, by_sp(16, saved)),
        (62, by_sp(8, RegisterRule::SameValue)),
    ];
    assert_eq!(rows(function("main.main", &PUSHES, PUSHED, 0)), expected);
}

#[test]
fn go_before_1_21_stores_fp_after_moving_sp() {
    // sub $24, %rsp; mov %rbp, 16(%rsp)
    let code = [0x48, 0x83, 0xec, 0x18, 0x48, 0x89, 0x6c, 0x24, 0x10];
    let found = rows(function("main.main", &code, &[(4, 0), (56, 24), (4, 0)], 0));
    let expected = [
        (0, by_sp(8, RegisterRule::SameValue)),
        (4, by_sp(32, RegisterRule::SameValue)),
        (9, by_sp(32, RegisterRule::AtCfa(-2))),
        (60, by_sp(8, RegisterRule::SameValue)),
    ];
    assert_eq!(found, expected);
}

#[test]
fn stack_switching_function_has_its_cfa_relative_to_fp() {
    let found = rows(function("runtime.asmcgocall", &PUSHES, PUSHED, 2));
    assert_eq!(found[1], (1, by_sp(16, RegisterRule::AtCfa(-2))));
    assert_eq!(found[2], (4, BY_FP));
    assert_eq!(found.last(), Some(&(62, by_sp(8, RegisterRule::SameValue))));
}

#[test]
fn stack_switch_without_fp_is_a_gap() {
    let code = [0x90, 0x90, 0x48, 0x8b, 0x63, 0x38]; // mov 56(%rbx), %rsp
    let found = rows(function("runtime.gogo", &code, &[(64, 0)], 2));
    assert_eq!(found, [(0, by_sp(8, RegisterRule::SameValue)), (2, Rule::NOT_EXPRESSIBLE)]);
}

#[test]
fn the_top_of_a_go_stack_is_its_root() {
    assert_eq!(rows(function("runtime.goexit", &[], &[(64, 0)], 1)), [(0, Rule::ROOT)]);
    let found = rows(function("runtime.sigtramp", &[], &[(64, 0)], 1));
    assert_eq!(found, [(0, by_sp(8, RegisterRule::SameValue))]);
}

#[test]
fn scheduler_switch_is_a_root_after_it_happened() {
    let code = [0x55, 0x48, 0x89, 0xe5, 0x49, 0x8b, 0x66, 0x38]; // ...; mov 56(%r14), %rsp
    let found = rows(function("runtime.mcall", &code, PUSHED, 2));
    assert_eq!(found[0], (0, by_sp(8, RegisterRule::SameValue)));
    assert_eq!(found.last(), Some(&(4, Rule::ROOT)));
    let other = rows(function("runtime.mcall2", &PUSHES, PUSHED, 0));
    assert!(other.iter().all(|(_, rule)| *rule != Rule::ROOT));
}

#[test]
fn corrupt_table_does_not_panic() {
    let functions: Vec<TestFunction> =
        (0..20).map(|_| function("main.f", &PUSHES, PUSHED, 0)).collect();
    let whole = table(&functions);
    let read = |_: Range<u64>| Some(PUSHES.repeat(1024));
    let read_all = |bytes: Vec<u8>| {
        let Some(table) = FunctionTable::parse(bytes, TEXT) else { return };
        let mut layer = GoLayer::new(&table, &read);
        while layer.next(0..u64::MAX).is_some() {
            layer.rows(&mut |_, _| {});
        }
    };
    for at in 0..whole.len() {
        read_all(whole[..at].to_vec());
        for byte in [0, 0x7f, 0xff] {
            let mut corrupt = whole.clone();
            corrupt[at] = byte;
            read_all(corrupt);
        }
    }
}

/// Reads a file of the corpus, all functions of which begin with the same code.
fn corpus_file(name: &str) -> crate::CallFrames {
    let path = format!("{}/../tests/corpus/elf/{name}", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read(path).expect("a file of the corpus");
    crate::read(&crate::test_file::bytes_of(&file)).expect("a table")
}

/// Numbers of functions in files of the corpus.
const ASYNC_PREEMPT: u64 = 23;
const SIGNAL_RETURN: u64 = 24;
const FOREIGN: u64 = 25;

#[test]
fn module_data_say_where_the_text_is() {
    for name in ["go", "go_merged"] {
        let table = corpus_file(name).table;
        let start = table.start;
        let text = (start..start + 0x1000).find(|at| table.rule_at(*at) != Rule::NO_ROW);
        let function = |number: u64| text.expect("rows") + 64 * number;
        let pushed = by_sp(16, RegisterRule::AtCfa(-2));
        assert_eq!(table.rule_at(function(0)), by_sp(8, RegisterRule::SameValue), "{name}");
        assert_eq!(table.rule_at(function(19) + 1), pushed, "{name}");
        let injected = Rule { ra: RegisterRule::Interrupted, ..pushed };
        assert_eq!(table.rule_at(function(ASYNC_PREEMPT) + 1), injected, "{name}");
        // A handler's return address is looked up a byte before.
        let signal_return = function(SIGNAL_RETURN);
        assert_ne!(table.rule_at(signal_return - 2), Rule::SIGNAL, "{name}");
        for at in [signal_return - 1, signal_return + 20, function(FOREIGN) - 1] {
            assert_eq!(table.rule_at(at), Rule::SIGNAL, "{name}");
        }
        assert_eq!(table.rule_at(function(FOREIGN)), Rule::NO_ROW, "{name}");
    }
}

#[test]
fn functions_of_other_languages_are_left_to_other_layers() {
    let mut all = vec![function("main.f", &PUSHES, PUSHED, 0), function("in_c", &[], &[], 0)];
    all.push(function("main.g", &PUSHES, PUSHED, 0));
    let mut bytes = table(&all);
    // No distances: the linker knows the name and the start alone.
    let second = bytes.len() - 2 * 44 + 16;
    bytes[second..second + 4].fill(0);
    let table = FunctionTable::parse(bytes, TEXT).expect("a valid table");
    assert_eq!(table.described(), [TEXT..TEXT + 64, TEXT + 128..TEXT + 192]);
    assert_eq!(table.foreign_functions().collect::<Vec<_>>(), [TEXT + 64]);
    let mut layer = GoLayer::new(&table, &|_| None);
    assert_eq!(layer.next(TEXT..TEXT + 0x1000), Some(TEXT..TEXT + 64));
    assert_eq!(layer.next(TEXT + 64..TEXT + 0x1000), Some(TEXT + 128..TEXT + 192));
}
