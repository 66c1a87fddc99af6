//! Names of OCaml: `camlStdlib__List__map_308` is `Stdlib.List.map`.
//!
//! Source: the OCaml source tree, `asmcomp/asmlink.ml` and `backend_sym`: a module begins with a
//! capital, modules are separated by two underscores or since 5.2 a dot, other characters are `$`
//! and two hexadecimal digits, and a number tells functions of one name apart.

const PREFIX: &str = "caml";

/// Decodes the name of a function; `None` if it is not of OCaml.
pub(super) fn demangle(name: &str) -> Option<String> {
    let name = name.strip_prefix(PREFIX)?;
    name.chars().next().filter(char::is_ascii_uppercase)?;
    let numbered = name.rsplit_once('_');
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let name = match numbered {
        Some((name, number)) if is_number(number) => name,
        _ => name,
    };
    decode(&name.replace("__", "."))
}

fn decode(text: &str) -> Option<String> {
    let mut parts = text.split('$');
    let mut decoded = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        let code = u8::from_str_radix(code, 16).ok().filter(u8::is_ascii_graphic)?;
        decoded.push(code.into());
        decoded.push_str(rest);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_source() {
        for (mangled, expected) in [
            ("camlStdlib__List__map_308", "Stdlib.List.map"),
            ("camlStdlib__List.map_308", "Stdlib.List.map"),
            ("camlMain__fun_1234", "Main.fun"),
            ("camlStdlib__$5e_123", "Stdlib.^"),
            ("camlMain__go_on_7", "Main.go_on"),
            ("camlMain__entry", "Main.entry"),
        ] {
            assert_eq!(demangle(mangled).as_deref(), Some(expected), "{mangled}");
        }
    }

    #[test]
    fn names_of_its_runtime_and_of_others_stay() {
        for name in ["caml_call_gc", "caml", "camlMain__$zz_1", "camlMain__$5", "camlM$0a", "main"]
        {
            assert_eq!(demangle(name), None, "{name}");
        }
    }
}
