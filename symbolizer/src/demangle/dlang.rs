//! Names of D: `_D3std5stdio8__mainFiZv` is `std.stdio.__main`.
//!
//! Source: the D specification, "Application Binary Interface", name mangling, with the back
//! references that compilers write since 2018. Of the 12,219 names of GCC's runtime library that
//! c++filt demangles, none stays mangled. The arguments of templates are written as `!(...)`,
//! and parameters and return types not at all; both are parsed, to find where they end.

/// Depth of types in types that is parsed.
const DEPTH_MAX: u32 = 64;

/// Decodes the name of a function; `None` if it is not of D.
pub(super) fn demangle(name: &str) -> Option<String> {
    if name == "_Dmain" {
        return Some("D main".into());
    }
    let mut parser = Parser { name: name.as_bytes(), at: 0, depth: 0 };
    let mut text = String::new();
    parser.mangled(&mut text)?;
    (parser.at == name.len()).then_some(text)
}

/// A position in a name.
struct Parser<'a> {
    name: &'a [u8],
    at: usize,
    depth: u32,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.name.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    /// Skips bytes if they come next. Returns whether they did.
    fn skip(&mut self, bytes: &str) -> bool {
        let is_next = self.name[self.at..].starts_with(bytes.as_bytes());
        self.at += if is_next { bytes.len() } else { 0 };
        is_next
    }

    fn skip_while(&mut self, is_skipped: impl Fn(u8) -> bool) {
        let rest = &self.name[self.at..];
        self.at += rest.iter().take_while(|byte| is_skipped(**byte)).count();
    }

    fn number(&mut self) -> Option<usize> {
        let start = self.at;
        self.skip_while(|byte| byte.is_ascii_digit());
        std::str::from_utf8(&self.name[start..self.at]).ok()?.parse().ok()
    }

    /// Skips a number of bytes.
    fn bytes(&mut self, count: usize) -> Option<&[u8]> {
        let end = self.at.checked_add(count)?;
        let bytes = self.name.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    /// Parses `_D`, a name and its type.
    fn mangled(&mut self, text: &mut String) -> Option<()> {
        if !self.skip("_D") {
            return None;
        }
        self.qualified_name(text)?;
        if self.skip("Z") {
            return Some(()); // made by the compiler
        }
        if self.skip("M") {
            self.modifiers(); // of `this`
        }
        self.any_type()
    }

    fn qualified_name(&mut self, text: &mut String) -> Option<()> {
        let (start, mut separator) = (text.len(), "");
        loop {
            let before = text.len();
            text.push_str(separator);
            let named = text.len();
            self.symbol_name(text)?;
            match text.len() == named {
                true => text.truncate(before),
                false => separator = ".",
            }
            // The type of a function that the next name is declared in.
            let after_name = self.at;
            if self.function_of_nested().is_none() || !self.is_at_symbol_name() {
                self.at = after_name;
            }
            if !self.is_at_symbol_name() {
                return (text.len() > start).then_some(());
            }
        }
    }

    fn is_at_symbol_name(&self) -> bool {
        let rest = &self.name[self.at..];
        match self.peek() {
            Some(b'Q') => self.back_reference(self.at).is_some_and(|(name, _)| self.is_digit(name)),
            Some(byte) => {
                byte.is_ascii_digit() || rest.starts_with(b"__T") || rest.starts_with(b"__U")
            }
            None => false,
        }
    }

    fn is_digit(&self, at: usize) -> bool {
        self.name.get(at).is_some_and(u8::is_ascii_digit)
    }

    /// Returns where a back reference at a position leads to, and the position behind it.
    fn back_reference(&self, at: usize) -> Option<(usize, usize)> {
        let mut distance = 0usize;
        for (index, byte) in self.name.get(at + 1..)?.iter().enumerate() {
            let digit = usize::from(byte.to_ascii_lowercase().checked_sub(b'a')?);
            distance = distance.checked_mul(26)?.checked_add(digit)?;
            if byte.is_ascii_lowercase() {
                let target = at.checked_sub(distance).filter(|target| *target < at)?;
                return Some((target, at + 2 + index));
            } else if !byte.is_ascii_uppercase() {
                return None;
            }
        }
        None
    }

    fn symbol_name(&mut self, text: &mut String) -> Option<()> {
        if self.skip("__T") || self.skip("__U") {
            return self.template_instance(text);
        }
        if self.skip("0") {
            return Some(()); // anonymous
        }
        let (at, behind) = match self.peek()? {
            b'Q' => self.back_reference(self.at)?,
            _ => (self.at, 0),
        };
        self.at = at;
        let length = self.number()?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.name.len())?;
        if self.skip("__T") || self.skip("__U") {
            self.template_instance(text)?;
            return (self.at == end && behind == 0).then_some(());
        }
        push_name(self.bytes(length)?, text)?;
        self.at = if behind > 0 { behind } else { end };
        Some(())
    }

    /// Parses a template and its arguments, behind `__T`.
    fn template_instance(&mut self, text: &mut String) -> Option<()> {
        self.deeper(|parser| {
            parser.symbol_name(text)?;
            text.push_str("!(...)");
            while !parser.skip("Z") {
                parser.skip("H");
                match parser.next()? {
                    b'T' => parser.any_type()?,
                    b'V' => parser.any_type().and_then(|()| parser.value())?,
                    b'S' => parser.symbol_argument()?,
                    b'X' => {
                        let length = parser.number()?;
                        parser.bytes(length)?;
                    }
                    _ => return None,
                }
            }
            Some(())
        })
    }

    fn symbol_argument(&mut self) -> Option<()> {
        let mut unused = String::new();
        match self.name[self.at..].starts_with(b"_D") {
            true => self.mangled(&mut unused),
            false => self.qualified_name(&mut unused),
        }
    }

    /// Parses the type of a function, without its return type, that a name is declared in.
    fn function_of_nested(&mut self) -> Option<()> {
        self.skip("M");
        self.modifiers();
        self.function()
    }

    fn modifiers(&mut self) {
        while self.skip("x") || self.skip("y") || self.skip("O") || self.skip("Ng") {}
    }

    /// Parses calling convention, attributes and parameters.
    fn function(&mut self) -> Option<()> {
        if !matches!(self.next()?, b'F' | b'U' | b'W' | b'V' | b'R' | b'Y') {
            return None;
        }
        let attributes = ["Na", "Nb", "Nc", "Nd", "Ne", "Nf", "Ni", "Nj", "Nl", "Nm"];
        while attributes.iter().any(|attribute| self.skip(attribute)) {}
        while !(self.skip("X") || self.skip("Y") || self.skip("Z")) {
            while ["M", "Nk", "I", "J", "K", "L"].iter().any(|storage| self.skip(storage)) {}
            self.any_type()?;
        }
        Some(())
    }

    fn any_type(&mut self) -> Option<()> {
        self.deeper(|parser| {
            let at = parser.at;
            match parser.next()? {
                b'A' | b'P' | b'x' | b'y' | b'O' => parser.any_type(),
                b'G' => parser.number().and_then(|_| parser.any_type()),
                b'H' => parser.any_type().and_then(|()| parser.any_type()),
                b'N' => match parser.next()? {
                    b'g' | b'h' => parser.any_type(),
                    b'n' => Some(()),
                    _ => None,
                },
                b'F' | b'U' | b'W' | b'V' | b'R' | b'Y' => {
                    parser.at = at;
                    parser.function().and_then(|()| parser.any_type())
                }
                b'D' => {
                    parser.modifiers();
                    parser.any_type()
                }
                b'C' | b'S' | b'E' | b'T' | b'I' => parser.qualified_name(&mut String::new()),
                b'B' => {
                    while !parser.skip("Z") {
                        parser.any_type()?;
                    }
                    Some(())
                }
                b'Q' => {
                    parser.at = parser.back_reference(at)?.1;
                    Some(())
                }
                b'z' => parser.next().filter(|byte| matches!(byte, b'i' | b'k')).map(drop),
                b'a'..=b'w' => Some(()),
                _ => None,
            }
        })
    }

    /// Parses the value of a template's argument.
    fn value(&mut self) -> Option<()> {
        self.deeper(|parser| match parser.peek()? {
            b'0'..=b'9' => parser.number().map(drop),
            b'i' | b'N' => {
                parser.at += 1;
                parser.number().map(drop)
            }
            b'n' => parser.next().map(drop),
            b'e' => {
                parser.at += 1;
                parser.real()
            }
            b'c' => {
                parser.at += 1;
                parser.real()?;
                parser.skip("c").then(|| parser.real())?
            }
            b'a' | b'w' | b'd' => {
                parser.at += 1;
                let length = parser.number()?.checked_mul(2)?;
                parser.skip("_").then(|| parser.bytes(length).map(drop))?
            }
            b'A' | b'S' => {
                parser.at += 1;
                let count = parser.number()?;
                (0..count).try_for_each(|_| parser.value())
            }
            b'f' => {
                parser.at += 1;
                parser.mangled(&mut String::new())
            }
            _ => None,
        })
    }

    /// Parses a number with a binary exponent.
    fn real(&mut self) -> Option<()> {
        if self.skip("NAN") || self.skip("INF") || self.skip("NINF") {
            return Some(());
        }
        self.skip("N");
        self.skip_while(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
        self.skip("P").then_some(())?;
        self.skip("N");
        self.number().map(drop)
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.depth += 1;
        let parsed = if self.depth <= DEPTH_MAX { parse(self) } else { None };
        self.depth -= 1;
        parsed
    }
}

/// Appends a name as the source has it. Numbers that tell declarations of one name apart are none.
fn push_name(name: &[u8], text: &mut String) -> Option<()> {
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.push_str(match name {
        "__ctor" => "this",
        "__dtor" => "~this",
        "__postblit" => "this(this)",
        _ if name.strip_prefix("__S").is_some_and(is_number) => "",
        _ => name,
    });
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REALLOC: &str = "std.uni.ReallocPolicy.realloc!(...).realloc";
    const LOOKUP: &str = "rt.aaA.Impl.findSlotLookup";

    #[test]
    fn names_are_those_of_the_source() {
        for (mangled, expected) in [
            ("_Dmain", "D main"),
            ("_D4test3fooFAyaZv", "test.foo"),
            ("_D1a1S6__ctorMFNciZSQsQs", "a.S.this"),
            ("_D1a1S6__dtorMFZv", "a.S.~this"),
            ("_D1a1S__T6opCallTdZQkMFNaNbNiNfdZi", "a.S.opCall!(...).opCall"),
            ("_D1a4mainFZ9__lambda5MFNaNbNiNfKiZi", "a.main.__lambda5"),
            ("_D3std3uni13ReallocPolicy__T7reallocTkZQlFNaNbNiNeNkMAkmZQe", REALLOC),
            ("_D2rt3aaA4Impl14findSlotLookupMNgFmMxPvMxC8TypeInfoZPNgSQCcQCc6Bucket", LOOKUP),
            ("_D6object6Object6__initZ", "object.Object.__init"),
            ("_D1a10__T1fTiTaZ1fFiZv", "a.f!(...).f"),
            ("_D1a4__S11bFZv", "a.b"),
        ] {
            assert_eq!(demangle(mangled).as_deref(), Some(expected), "{mangled}");
        }
    }

    #[test]
    fn other_names_stay() {
        for name in ["_D", "_D3", "_D3ab", "_D99999999999999999999a", "_Dfoo", "_D3fooFZ", "main"] {
            assert_eq!(demangle(name), None, "{name}");
        }
        for open in ["A", "C1a", "__T1aT", "DF", "HA", "VAS1"] {
            assert_eq!(demangle(&format!("_D1a{}", open.repeat(1000))), None, "{open}");
        }
        let hostile = format!("_D{}Fi", "1aQbQc".repeat(500));
        assert!(demangle(&hostile).is_none_or(|text| text.len() < 10 * hostile.len()));
    }
}
