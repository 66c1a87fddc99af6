//! The languages whose functions have frames of their own: an interpreter runs them.

use crate::ExecutableId;

/// A language whose functions an interpreter runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InterpretedLanguage {
    /// Python, as CPython runs it.
    Python,
}

/// A row of the table.
struct LanguageDefinition {
    language: InterpretedLanguage,
    /// Its name for people.
    name: &'static str,
    /// Name of the mapping that its frames are in.
    mapping: &'static str,
    /// Value of OpenTelemetry's attribute `profile.frame.type`, which names the runtime.
    frame_type: &'static str,
}

/// The table, in the order of [`InterpretedLanguage`].
const LANGUAGES: [LanguageDefinition; 1] = [LanguageDefinition {
    language: InterpretedLanguage::Python,
    name: "Python",
    mapping: "[python]",
    frame_type: "cpython",
}];

impl InterpretedLanguage {
    /// Lists all of them.
    pub fn all() -> impl Iterator<Item = Self> {
        LANGUAGES.iter().map(|definition| definition.language)
    }

    /// Returns the language whose frames are in the mapping of this name.
    pub fn of_mapping(name: &str) -> Option<Self> {
        let found = LANGUAGES.iter().find(|definition| definition.mapping == name);
        found.map(|definition| definition.language)
    }

    /// Returns the executable that its frames are in.
    pub fn executable(self) -> ExecutableId {
        ExecutableId(ExecutableId::FIRST_INTERPRETED.0 + self as u32)
    }

    /// Returns the name of the mapping that its frames are in.
    pub fn mapping_name(self) -> &'static str {
        self.definition().mapping
    }

    /// Returns its name for people.
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// Returns the value of OpenTelemetry's attribute `profile.frame.type`.
    pub fn frame_type(self) -> &'static str {
        self.definition().frame_type
    }

    fn definition(self) -> &'static LanguageDefinition {
        &LANGUAGES[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::MappingKind;

    #[test]
    fn each_language_has_a_mapping_and_a_reserved_executable_of_its_own() {
        let mut executables =
            HashSet::from([ExecutableId::KERNEL, ExecutableId::UNKNOWN, ExecutableId::VSYSCALL]);
        for language in InterpretedLanguage::all() {
            assert_eq!(language.definition().language, language, "the table is in its order");
            let (name, executable) = (language.mapping_name(), language.executable());
            assert_eq!(InterpretedLanguage::of_mapping(name), Some(language));
            assert_eq!(MappingKind::of_name(name), MappingKind::Interpreted(language));
            assert!(executable.is_reserved() && executables.insert(executable), "{language:?}");
        }
        assert!(!ExecutableId::FIRST_UNRESERVED.is_reserved());
        assert_eq!(InterpretedLanguage::of_mapping("[jit]"), None);
    }
}
