//! From the linker's names to those of the source.

mod dlang;
mod haskell;
mod ocaml;

use std::fmt::Write;

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

use crate::text::{BoundedText, TEXT_MAX, bounded};

/// Depth of types in types that is parsed and written. The stack of the main thread holds far more.
const DEPTH_MAX: u32 = 128;

/// Ending of the name of a stub that leads to a function.
const STUB: &str = "@plt";

/// Demangles the name of a function of Rust, C++ or D, without hash, parameters and return type, of
/// Haskell or OCaml; other names stay as they are. Also returns whether the name was cut, see
/// [`crate::text`].
pub(crate) fn demangle(name: &str) -> (String, bool) {
    if name.len() > TEXT_MAX {
        return bounded(name); // the rest of it is needed to demangle it
    }
    if let Some((function, is_cut)) = name.strip_suffix(STUB).and_then(demangle_mangled) {
        return (function + STUB, is_cut);
    }
    let demangled = demangle_mangled(name).filter(|(text, _)| !text.is_empty());
    demangled.unwrap_or_else(|| (name.to_owned(), false))
}

fn demangle_mangled(name: &str) -> Option<(String, bool)> {
    let others = || {
        let functional = haskell::demangle(name).or_else(|| ocaml::demangle(name));
        functional.or_else(|| dlang::demangle(name))
    };
    rust(name).or_else(|| cpp(name)).or_else(|| others().map(|text| bounded(&text)))
}

fn rust(name: &str) -> Option<(String, bool)> {
    let rust = rustc_demangle::try_demangle(name).ok()?;
    let mut text = BoundedText::default();
    let is_written = write!(text, "{rust:#}").is_ok();
    (is_written || text.is_full()).then(|| text.finish())
}

fn cpp(name: &str) -> Option<(String, bool)> {
    if !name.starts_with("_Z") {
        return None;
    }
    let parsing = ParseOptions::default().recursion_limit(DEPTH_MAX);
    let writing = DemangleOptions::new().no_params().no_return_type().recursion_limit(DEPTH_MAX);
    let symbol = Symbol::new_with_options(name, &parsing).ok()?;
    let mut text = BoundedText::default();
    let is_written = symbol.structured_demangle(&mut text, &writing).is_ok();
    (is_written || text.is_full()).then(|| text.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_each_language() {
        let check = |mangled, expected: &str| {
            assert_eq!(demangle(mangled), (expected.to_owned(), false), "{mangled}");
        };
        check("main", "main");
        check("_ZN17h0123456789abcdefE", "_ZN17h0123456789abcdefE");
        check("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad");
        check("_RNvC6_123foo3bar", "123foo::bar");
        check("_ZN5space3fooIiEEvT_", "space::foo<int>");
        check("_Znot mangled", "_Znot mangled");
        check("_ZN5space3fooIiEEvT_@plt", "space::foo<int>@plt");
        check("random@plt", "random@plt");
    }

    #[test]
    fn names_that_explode_are_cut() {
        // Six templates in each other, each of sixteen of the next: 16^6 names of a type.
        let mut cpp = format!("_Z4veryI1tIJ{}4type", "S0_IJ".repeat(5));
        for depth in 1..=6 {
            cpp.push_str(&format!("S{depth}_").repeat(15));
            cpp.push_str("EE");
        }
        cpp.push_str("EvPT_");
        // Forty tuples in each other, each of the next one and a reference to it: 2^40 types.
        let mut rust = format!("_RINvC1a1f{}m", "T".repeat(40));
        let start = "INvC1a1f".len(); // positions are counted behind `_R`
        for depth in (0..40).rev() {
            rust.push_str(&format!("B{}_E", base62(start + depth + 1)));
        }
        rust.push('E');
        for (name, start) in [(cpp, "very<t<t<t<"), (rust, "a::f::<((((")] {
            let (text, is_cut) = demangle(&name);
            assert!(is_cut && text.starts_with(start) && text.ends_with("...[cut]"), "{text}");
            assert!(name.len() < 500 && text.len() <= TEXT_MAX, "{} bytes", text.len());
        }
    }

    #[test]
    fn deep_names_neither_overflow_the_stack_nor_take_long() {
        let deep = |open: &str, close: &str| format!("{}{}", open.repeat(1000), close.repeat(1000));
        for name in [
            format!("_Z1f{}v", "P".repeat(4000)),
            format!("_Z1fI{}E", deep("1tI", "E")),
            format!("_ZN{}E", deep("1aI", "E")),
            format!("_RINvC1a1f{}E", deep("T", "E")),
            format!("_RINvC1a1f{}mE", "P".repeat(4000)),
            format!("_ZZ{}v", "Z1fvE".repeat(800)),
        ] {
            let (text, _) = demangle(&name);
            assert!(text.len() <= TEXT_MAX, "{} bytes", text.len());
        }
    }

    #[test]
    fn a_name_beyond_the_bound_is_not_demangled() {
        let name = format!("_ZN{}{}E", 100_000, "x".repeat(100_000));
        let (text, is_cut) = demangle(&name);
        assert!(is_cut && text.starts_with("_ZN100000xxx") && text.len() == TEXT_MAX);
    }

    /// Returns a number as v0 mangling writes it before `_` (RFC 2603): 0 as nothing, 1 as `0`.
    fn base62(number: usize) -> String {
        const DIGITS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let Some(mut number) = number.checked_sub(1) else { return String::new() };
        let mut digits = Vec::new();
        loop {
            digits.push(DIGITS[number % 62] as char);
            number /= 62;
            if number == 0 {
                return digits.iter().rev().collect();
            }
        }
    }
}
