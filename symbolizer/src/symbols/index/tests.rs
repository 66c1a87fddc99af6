//! Which symbols contain an address.

use super::*;

const CODE: Range<u64> = 0x1000..0x2000;

/// Builds the index of symbols with these starts and sizes; their numbers are those in the list.
fn index(symbols: &[(u64, u64)]) -> FunctionIndex {
    index_with_labels(symbols, &[])
}

/// The same with local labels at these addresses, whose numbers follow.
fn index_with_labels(symbols: &[(u64, u64)], labels: &[u64]) -> FunctionIndex {
    let mut builder = IndexBuilder::new(vec![0x100..0x117, CODE], 1 << 20);
    let mut ids = (0..).map(|number| SymbolId::new(0, number).expect("small"));
    for ((start, bytes), id) in symbols.iter().zip(&mut ids) {
        builder.add(id, *start, *bytes);
    }
    for (start, id) in labels.iter().zip(ids) {
        builder.add(id.as_local_label(), *start, 0);
    }
    builder.finish()
}

/// Returns the numbers of the symbols at an address, and the addresses that have the same ones.
fn found(index: &FunctionIndex, address: u64) -> Option<(Vec<u32>, Range<u64>)> {
    let found = index.find(address)?;
    assert!(found.addresses.contains(&address), "{found:x?}");
    Some((found.aliases.iter().map(|id| id.split().1).collect(), found.addresses))
}

#[test]
fn an_address_beyond_the_end_has_no_symbol() {
    let index = index(&[(0x1000, 0x10), (0x1020, 0x10)]);
    assert_eq!(found(&index, 0xfff), None);
    assert_eq!(found(&index, 0x1000), Some((vec![0], 0x1000..0x1010)));
    assert_eq!(found(&index, 0x100f), Some((vec![0], 0x1000..0x1010)));
    assert_eq!(found(&index, 0x1010), None);
    assert_eq!(found(&index, 0x1020), Some((vec![1], 0x1020..0x1030)));
    assert_eq!(found(&index, 0x1030), None);
}

#[test]
fn symbols_without_a_size_end_with_the_next_or_their_section() {
    let index = index(&[(0x100, 0), (0x1000, 0), (0x1040, 0x10), (0x1f00, 0), (0x3000, 0)]);
    assert_eq!(found(&index, 0x116), Some((vec![0], 0x100..0x117)), "as _init");
    assert_eq!(found(&index, 0x117), None);
    assert_eq!(found(&index, 0x103f), Some((vec![1], 0x1000..0x1040)));
    assert_eq!(found(&index, 0x1050), None, "behind a symbol with a size");
    assert_eq!(found(&index, 0x1fff), Some((vec![3], 0x1f00..0x2000)));
    assert_eq!(found(&index, 0x3000), None, "outside of all code");
}

#[test]
fn local_labels_within_functions_are_left_out_and_those_at_the_start_are_names() {
    let index = index_with_labels(&[(0x1000, 0x100)], &[0x1000, 0x1020, 0x10ff, 0x1100]);
    assert_eq!(found(&index, 0x1030), Some((vec![0, 1], 0x1000..0x1100)));
    assert_eq!(found(&index, 0x1100), Some((vec![4], 0x1100..0x2000)));
    assert!(!index.find(0x1000).expect("found").aliases[1].is_sized());
}

#[test]
fn functions_without_a_size_end_with_the_function_around_them() {
    let symbols = [(0x1000, 0x100), (0x1020, 0), (0x1080, 0), (0x1080, 0x10), (0x10a0, 0)];
    let index = index_with_labels(&symbols, &[0x1030]);
    let expected = [
        (0x1010, Some((vec![0], 0x1000..0x1020))),
        (0x1040, Some((vec![1], 0x1020..0x1080))),
        (0x1080, Some((vec![3, 2], 0x1080..0x1090))),
        (0x1090, Some((vec![0], 0x1090..0x10a0))),
        (0x10ff, Some((vec![4], 0x10a0..0x1100))),
        (0x1100, None),
    ];
    for (address, expected) in expected {
        assert_eq!(found(&index, address), expected, "{address:#x}");
    }
}

#[test]
fn the_innermost_function_has_the_address() {
    let index = index(&[(0x1000, 0x100), (0x1010, 0x10), (0x1018, 0x20), (0x1000, 8)]);
    let expected = [
        (0x1000, Some((vec![3], 0x1000..0x1008))),
        (0x1008, Some((vec![0], 0x1008..0x1010))),
        (0x1010, Some((vec![1], 0x1010..0x1018))),
        (0x1018, Some((vec![2], 0x1018..0x1038))),
        (0x1038, Some((vec![0], 0x1038..0x1100))),
        (0x1100, None),
    ];
    for (address, expected) in expected {
        assert_eq!(found(&index, address), expected, "{address:#x}");
    }
}

#[test]
fn every_index_agrees_with_a_search_of_all_symbols() {
    let mut random = 1u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    for _ in 0..300 {
        let symbols: Vec<(u64, u64)> =
            (0..1 + next(20)).map(|_| (0x1000 + next(64), 1 + next(64))).collect();
        let index = index(&symbols);
        for address in 0x1000..0x1090 {
            let contains =
                |(start, bytes): &&(u64, u64)| (*start..start + bytes).contains(&address);
            let best =
                symbols.iter().filter(contains).max_by_key(|(start, n)| (*start, Reverse(*n)));
            let found = found(&index, address);
            let number = found.as_ref().map(|(numbers, _)| numbers[0] as usize);
            assert_eq!(number.map(|number| symbols[number]), best.copied(), "{symbols:x?}");
            for same in found.iter().flat_map(|(_, range)| range.clone()) {
                assert_eq!(self::found(&index, same), found, "{symbols:x?}");
            }
        }
    }
}

#[test]
fn memory_and_aliases_are_bounded() {
    let mut builder = IndexBuilder::new(vec![CODE], 56 * 1000);
    let id = |number| SymbolId::new(0, number).expect("small");
    let added = (0..u32::MAX).take_while(|number| builder.add(id(*number), 0x1000, u64::MAX));
    assert_eq!(added.count(), 999);
    assert!(builder.is_full());
    let index = builder.finish();
    assert_eq!(index.find(0x1fff).map(|found| found.aliases.len()), Some(ALIASES_MAX));
    assert_eq!((SymbolId::new(4, 0), SymbolId::new(0, 1 << 28)), (None, None));
}

#[test]
fn functions_in_each_other_have_one_part_each() {
    let nested: Vec<(u64, u64)> = (0..0x800).map(|n| (0x1000 + n, 0x1000 - 2 * n)).collect();
    let index = index(&nested[..0x7ff]);
    assert_eq!(found(&index, 0x1ffe), Some((vec![1], 0x1ffe..0x1fff)));
    assert_eq!(found(&index, 0x1005), Some((vec![5], 0x1005..0x1006)));
    assert_eq!(index.outer_parts.len(), 0x7fe);
}
