//! Whether outputs show the machinery of interpreters: their own native code between the functions
//! that they run.

use std::borrow::Cow;

use profile::{MappingKind, Profile};

/// What outputs other than pprof, which has all frames, show of an interpreter's machinery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeFrames {
    /// Nothing: a function that an interpreter runs is below the one that has called it.
    #[default]
    Hide,
    /// All of it.
    Show,
}

impl RuntimeFrames {
    /// Returns a profile with the frames that are shown.
    pub(super) fn of(self, profile: &Profile) -> Cow<'_, Profile> {
        let is_machinery = |frame: &u32| {
            let frame = &profile.frames[*frame as usize];
            profile.mapping_of(frame).kind == MappingKind::Interpreter
        };
        let has_machinery = || profile.stacks.iter().any(|stack| stack.iter().any(is_machinery));
        if self == Self::Show || !has_machinery() {
            return Cow::Borrowed(profile);
        }
        let shown = |stack: &[u32]| -> Box<[u32]> {
            stack.iter().copied().filter(|frame| !is_machinery(frame)).collect()
        };
        let stacks = profile.stacks.iter().map(|stack| shown(stack)).collect();
        Cow::Owned(Profile { stacks, ..profile.clone() })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::folded::tests::example;
    use super::*;
    use profile::{FileAddr, Function, InterpretedLanguage, Line, Mapping, SymbolizedFrame};

    /// Returns a profile of one stack: `main` of a Python program calls `work`, which calls a
    /// native function. The interpreter runs each by a function of its own.
    pub fn python_example() -> Profile {
        let file = Mapping::new("/usr/bin/python3", None, MappingKind::File);
        let python = MappingKind::Interpreted(InterpretedLanguage::Python);
        let function = |name: &str, file: &str, start_line| Function {
            name: name.into(),
            system_name: name.into(),
            file: file.into(),
            start_line,
        };
        let frame = |mapping, address, lines: &[(u32, u32)]| SymbolizedFrame {
            mapping,
            address: FileAddr(address),
            lines: lines
                .iter()
                .map(|(function, line)| Line { function: *function, line: *line })
                .collect(),
        };
        let mut profile = example();
        profile.mappings = vec![
            Mapping::new("[python]", None, python),
            file.machinery(),
            Mapping::new("/lib/speedups.so", None, MappingKind::File),
        ];
        profile.functions = vec![
            function("<module>", "/srv/app.py", 1),
            function("App.work", "/srv/app.py", 4),
            function("run_eval", "", 0),
            function("encode", "speedups.c", 0),
        ];
        profile.frames = vec![
            frame(2, 0x40, &[(3, 70)]),
            frame(0, 0, &[(1, 5)]),
            frame(1, 0x10, &[(2, 0)]),
            frame(0, 0, &[(0, 9)]),
            frame(1, 0x20, &[(2, 0)]),
            frame(1, 0x30, &[]),
            frame(0, 0, &[]),
        ];
        profile.stacks = vec![Box::new([0, 1, 2, 3, 4, 5]), Box::new([6, 4])];
        profile
    }

    #[test]
    fn machinery_is_hidden_unless_it_is_wanted() {
        let profile = python_example();
        let stacks = |option: RuntimeFrames| option.of(&profile).stacks.clone();
        assert_eq!(stacks(RuntimeFrames::Hide), [[0, 1, 3].as_slice().into(), [6].into()]);
        assert_eq!(stacks(RuntimeFrames::Show), profile.stacks);
        let native = example();
        assert!(matches!(RuntimeFrames::Hide.of(&native), Cow::Borrowed(_)), "no copy");
    }
}
