//! Linker names become names for people.

use cpp_demangle::{DemangleOptions, Symbol};

/// Longest name that is demangled, in bytes; longer ones stay as they are.
const NAME_MAX: usize = 16 << 10;

/// Demangles Rust and C++ names: without hash, parameters and return type. Others stay as they are.
pub(crate) fn demangle(name: &str) -> String {
    if name.len() > NAME_MAX {
        return name.to_owned();
    }
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return format!("{rust:#}");
    }
    if name.starts_with("_Z") {
        let options = DemangleOptions::new().no_params().no_return_type();
        if let Ok(cpp) = Symbol::new(name)
            .map_err(|_| ())
            .and_then(|s| s.demangle_with_options(&options).map_err(|_| ()))
        {
            return cpp;
        }
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::demangle;

    #[test]
    fn names_of_each_language() {
        let check = |mangled, expected: &str| assert_eq!(demangle(mangled), expected);
        check("main", "main");
        check("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad");
        check("_RNvC6_123foo3bar", "123foo::bar");
        check("_ZN5space3fooIiEEvT_", "space::foo<int>");
        check("_Znot mangled", "_Znot mangled");
    }
}
