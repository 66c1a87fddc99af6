//! Names of GHC: `base_GHCziBase_map_info` is the code of `GHC.Base.map`.
//!
//! A name has package, module, function and kind between underscores. Each part is z-encoded: what
//! is neither a letter nor a digit is `z` or `Z` and a letter.
//!
//! Source: the GHC source tree, `compiler/GHC/Utils/Encoding.hs`.

const INFO: &str = "_info";
const CONSTRUCTOR: &str = "_con_info";
/// Kinds of code and data.
const KINDS: [&str; 8] =
    ["_static_info", CONSTRUCTOR, "_con_entry", INFO, "_entry", "_slow", "_fast", "_closure"];
/// Elements of a tuple that is written out.
const ELEMENTS_MAX: usize = 64;

/// Decodes the name of a function; `None` if it is not of GHC.
pub(super) fn demangle(name: &str) -> Option<String> {
    let (name, kind) = KINDS.iter().find_map(|kind| Some((name.strip_suffix(kind)?, *kind)))?;
    let parts: Vec<&str> = name.split('_').take(4).collect();
    let (package, module, function) = match parts[..] {
        [package, module, function] => (package, module, function),
        [module, function] => ("", module, function),
        _ => return None,
    };
    // C has names like that, too, but not these parts in them. The program's own module is `Main`.
    let is_own = parts.len() == 2 && module == "Main" && [INFO, CONSTRUCTOR].contains(&kind);
    let is_haskell = module.contains("zi") || package.contains("zm") || is_own;
    let (package, module) = (decode(package)?, decode(module)?);
    let is_package = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    if !is_haskell || !package.chars().all(is_package) || !module.split('.').all(is_module) {
        return None;
    }
    let function = decode(function).filter(|function| !function.is_empty())?;
    Some(format!("{module}.{function}"))
}

/// Returns whether a part of a module's name is one: `Data` or `Map'`.
fn is_module(name: &str) -> bool {
    let is_inner = |c: char| c.is_alphanumeric() || "_'".contains(c);
    name.starts_with(|c: char| c.is_uppercase()) && name.chars().all(is_inner)
}

fn decode(text: &str) -> Option<String> {
    let (mut decoded, mut rest) = (String::new(), text);
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        if !matches!(first, 'z' | 'Z') {
            decoded.push(first);
            continue;
        }
        let code = rest.chars().next()?;
        if code.is_ascii_digit() {
            let (character, length) = numbered(first, rest)?;
            decoded.push_str(&character);
            rest = &rest[length..];
        } else {
            decoded.push(special(first, code)?);
            rest = &rest[code.len_utf8()..];
        }
    }
    Some(decoded)
}

fn special(first: char, code: char) -> Option<char> {
    let codes = match first {
        'Z' => "L(R)M[N]C:ZZ",
        _ => "zza&b|c^d$e=g>h#i.l<m-n!p+q'r\\s/t*u_v%",
    };
    let codes: Vec<char> = codes.chars().collect();
    codes.chunks(2).find(|pair| pair[0] == code).map(|pair| pair[1])
}

/// Decodes what has a number: a tuple, as `Z2T` and `Z3H`, or a character, as `z2025U`. Returns
/// also the length behind the first letter.
fn numbered(first: char, rest: &str) -> Option<(String, usize)> {
    let end = rest.find(['T', 'H', 'U'])?;
    let (number, kind) = (&rest[..end], rest.as_bytes()[end]);
    let text = match (first, kind) {
        ('z', b'U') => char::from_u32(u32::from_str_radix(number, 16).ok()?)?.to_string(),
        ('Z', b'T' | b'H') => {
            let elements = number.parse::<usize>().ok().filter(|count| *count <= ELEMENTS_MAX)?;
            let commas = ",".repeat(elements.saturating_sub(1));
            if kind == b'T' { format!("({commas})") } else { format!("(#{commas}#)") }
        }
        _ => return None,
    };
    Some((text, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_source() {
        for (mangled, expected) in [
            ("base_GHCziBase_map_info", "GHC.Base.map"),
            ("base_GHCziBase_zd_info", "GHC.Base.$"),
            ("ghczmprim_GHCziTypes_ZC_con_info", "GHC.Types.:"),
            ("ghczmprim_GHCziTuple_Z2T_con_info", "GHC.Tuple.(,)"),
            ("ghczmprim_GHCziTuple_Z3H_con_info", "GHC.Tuple.(#,,#)"),
            (
                "containerszm0zi6zi5zi1_DataziMapziInternal_zdwinsert_info",
                "Data.Map.Internal.$winsert",
            ),
            ("textzm2zi0zi2_Foo_barzq_entry", "Foo.bar'"),
            ("Main_main1_info", "Main.main1"),
            ("base_DataziOldList_z2025U_info", "Data.OldList.\u{2025}"),
        ] {
            assert_eq!(demangle(mangled).as_deref(), Some(expected), "{mangled}");
        }
    }

    #[test]
    fn names_of_other_languages_stay() {
        for name in [
            "get_info",
            "gtk_Widget_get_info",
            "foo_Resizing_get_info",
            "SSL_get_info",
            "Main_loop_fast",
            "Main_Menu_draw_info",
            "resize_zi_info",
            "stg_upd_frame_info",
            "_info",
            "base_GHCzi_x_info",
            "base_GHCziBase_zQ_info",
            "base_GHCziBase_z99999999999U_info",
            "ghczmprim_GHCziTuple_Z99999T_con_info",
            "ghczmprim_GHCziTuple_Z2",
            "base_GHCziBase_\u{e9}z",
        ] {
            assert_eq!(demangle(name), None, "{name}");
        }
    }
}
