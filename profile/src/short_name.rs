//! Names of functions, shortened where they have to be.

/// Returns a name with the arguments of what encloses the function cut short: its own name, which
/// these would push out of view, stays. Arguments are those of templates and of functions, and only
/// those before the last `::`. `kept`: characters that stay of each list of arguments; `ellipsis`:
/// what is written instead of the others.
///
/// ```
/// use profile::short_name;
///
/// let find = "std::_Rb_tree<int, std::pair<int const, long>>::find(int const&) const";
/// assert_eq!(short_name(find, 0, "..."), "std::_Rb_tree<...>::find(int const&) const");
/// assert_eq!(short_name(find, 5, "..."), "std::_Rb_tree<int, ...>::find(int const&) const");
/// let next = "<alloc::vec::IntoIter<T> as core::iter::Iterator>::next";
/// let short = "<alloc::vec::IntoIter<...> as core::iter::Iterator>::next";
/// assert_eq!(short_name(next, 0, "..."), short);
/// ```
pub fn short_name(name: &str, kept: usize, ellipsis: &str) -> String {
    let mut scope = Scope {
        name,
        kept,
        ellipsis,
        short: String::with_capacity(name.len()),
        open: Vec::new(),
        parentheses: 0,
        end: (0, 0),
    };
    let mut at = 0;
    while let Some(character) = name[at..].chars().next() {
        let length = match operator(&scope.short, &name[at..]) {
            0 => character.len_utf8(),
            length => length,
        };
        scope.push(at, &name[at..at + length]);
        at += length;
    }
    let (in_name, in_short) = scope.end;
    format!("{}{}", &scope.short[..in_short], &name[in_name..])
}

/// A bracket that is open.
struct Bracket {
    closing: &'static str,
    /// Where its content begins in the short name.
    content: usize,
    /// Whether it is around arguments, and not a part of the path such as `(anonymous namespace)`.
    has_arguments: bool,
}

/// What encloses a function, as far as the name was read.
struct Scope<'a> {
    name: &'a str,
    kept: usize,
    ellipsis: &'a str,
    /// The name without arguments.
    short: String,
    open: Vec<Bracket>,
    /// How many of the open brackets are parentheses.
    parentheses: usize,
    /// After the last `::` outside of brackets: where in the name, and where in the short name.
    end: (usize, usize),
}

impl Scope<'_> {
    /// Appends the part of the name at `at`: a character, or the rest of an operator's name.
    fn push(&mut self, at: usize, part: &str) {
        let is_arrow = part == ">" && self.short.ends_with(['-', '=']);
        match part {
            "<" | "(" => self.open(part),
            ">" | ")" if !is_arrow => self.close(part),
            _ => self.short.push_str(part),
        }
        let end = at + part.len();
        if self.open.is_empty() && self.name[..end].ends_with("::") {
            self.end = (end, self.short.len());
        }
    }

    fn open(&mut self, bracket: &str) {
        let has_arguments = has_arguments(&self.short, bracket);
        self.short.push_str(bracket);
        self.parentheses += usize::from(bracket == "(");
        let closing = if bracket == "(" { ")" } else { ">" };
        self.open.push(Bracket { closing, content: self.short.len(), has_arguments });
    }

    /// Closes the innermost bracket if it is of this kind. A `)` also closes what is open within
    /// its parentheses: a `<` that compares.
    fn close(&mut self, closing: &str) {
        while let Some(bracket) = self.open.last() {
            let is_closed = bracket.closing == closing;
            if !is_closed && (closing == ">" || self.parentheses == 0) {
                break;
            }
            let arguments = &self.short[bracket.content..];
            let end = arguments.char_indices().nth(self.kept).map(|(end, _)| bracket.content + end);
            if let Some(end) = end.filter(|_| is_closed && bracket.has_arguments) {
                self.short.truncate(end);
                self.short.push_str(self.ellipsis);
            }
            self.parentheses -= usize::from(bracket.closing == ")");
            self.open.pop();
            if is_closed {
                break;
            }
        }
        self.short.push_str(closing);
    }
}

/// Returns whether a bracket after this text is around arguments.
fn has_arguments(before: &str, bracket: &str) -> bool {
    let is_identifier = |c: char| c.is_alphanumeric() || c == '_';
    match bracket {
        "(" => before.ends_with(|c| is_identifier(c) || matches!(c, '>' | ')' | ']')),
        // Rust writes `f::<T>`; `::<lambda()>` is a part of a path.
        _ => before.strip_suffix("::").unwrap_or(before).ends_with(is_identifier),
    }
}

/// Returns the length of the rest of an operator's name, such as `<<` after `operator`; 0 if there
/// is none.
fn operator(before: &str, rest: &str) -> usize {
    let Some(outer) = before.strip_suffix("operator") else { return 0 };
    match rest.strip_prefix("()") {
        _ if outer.ends_with(|c: char| c.is_alphanumeric() || c == '_') => 0,
        Some(_) => 2,
        None => rest.find(|c| !"<>=-!+*/%^&|~,".contains(c)).unwrap_or(rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: &str) {
        assert_eq!(short_name(name, 0, "..."), expected);
    }

    #[test]
    fn function_is_read_behind_the_arguments_of_its_class() {
        check("a::B<int>::c()", "a::B<...>::c()");
        check("A<B<1>, C<2>>::D<3>::e<4>(5)", "A<...>::D<...>::e<4>(5)");
        check(
            "f(int, long)::{lambda(int)#1}::operator()(int) const",
            "f(...)::{lambda(...)#1}::operator()(int) const",
        );
        check("std::enable_if<x, y>::type std::f<z>(w)", "std::enable_if<...>::type std::f<z>(w)");
        check("a::<T, U>::b", "a::<...>::b");
    }

    #[test]
    fn path_without_arguments_stays() {
        for name in [
            "",
            "main",
            "std::vector<int>",
            "f<A, B>(C, D)",
            "(anonymous namespace)::f(int)",
            "net/http.(*Client).Do",
            "<A as B>::c",
            "f()::<lambda()>::g",
            "core::ptr::drop_in_place<alloc::vec::Vec<T>>",
        ] {
            check(name, name);
        }
        check("<A<B> as C<D>>::e", "<A<...> as C<...>>::e");
        check("<fn(A<B>) -> C as D<E>>::f", "<fn(...) -> C as D<...>>::f");
    }

    #[test]
    fn operators_are_no_brackets() {
        check("A<B>::operator<(A<B> const&)", "A<...>::operator<(A<B> const&)");
        check("A<B>::operator<< <C>(D)::E::f", "A<...>::operator<< <C>(...)::E::f");
        check("A<B>::operator->() const", "A<...>::operator->() const");
        check("A<B>::operator()(C)::D::e", "A<...>::operator()(...)::D::e");
        check("cooperator<A>::b", "cooperator<...>::b");
    }

    #[test]
    fn brackets_that_do_not_match_stay() {
        for name in ["a<b::c", ">>a)::b", "a(b<c)>d", "((((", "a<(b>c)::d"] {
            let short = short_name(name, 0, "...");
            assert!(short.len() <= name.len() + 3, "{short}");
        }
        check("A<B>::c<d::e...[cut]", "A<...>::c<d::e...[cut]");
        check("f(a < b)::c", "f(...)::c");
        check("größe<λ>::漢字(🦀)", "größe<...>::漢字(🦀)");
    }

    #[test]
    fn a_long_name_takes_time_in_proportion() {
        for part in ["<", "a<", "(", ")", "a<b>::", "operator", "operator<"] {
            let name = part.repeat(1 << 16) + ")>".repeat(1 << 16).as_str();
            assert!(short_name(&name, 3, "...").len() <= name.len() * 2);
        }
    }
}
