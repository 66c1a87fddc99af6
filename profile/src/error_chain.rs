//! The text of an error with its causes.

use std::error::Error;

/// Returns the text of an error and of each of its causes, separated by `: `. A cause that the text
/// has already is left out: many errors show their cause, and have it as their source too.
pub fn error_chain(error: &(dyn Error + '_)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let shown = error.to_string();
        if !text.contains(&shown) {
            text.push_str(": ");
            text.push_str(&shown);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Outer {
        #[error("cannot write x: {source}; choose another")]
        Shown { source: io::Error },
        #[error("cannot write x")]
        Hidden { source: io::Error },
        #[error(transparent)]
        Transparent(#[from] io::Error),
        #[error("{0}")]
        Same(#[source] Box<Outer>),
    }

    #[test]
    fn each_cause_is_shown_once() {
        let cause = || io::Error::from(io::ErrorKind::NotFound);
        let check = |error: Outer, expected: &str| assert_eq!(error_chain(&error), expected);
        let shown = || Outer::Shown { source: cause() };
        check(shown(), "cannot write x: entity not found; choose another");
        check(Outer::Hidden { source: cause() }, "cannot write x: entity not found");
        check(Outer::Transparent(cause()), "entity not found");
        check(Outer::Same(shown().into()), "cannot write x: entity not found; choose another");
        let twice = Outer::Same(Outer::Hidden { source: cause() }.into());
        check(twice, "cannot write x: entity not found");
    }
}
