//! The code objects of interpreters, by process: names and lines of interpreted functions.

use std::collections::HashMap;
use std::sync::Arc;

use super::code_names::CodeName;
use crate::events::{CodeRecord, CodeText};
use crate::limits::{Charge, Owner, SharedPool};
use crate::runtimes::{CodeObject, CodeParts, RuntimeVersion, TextPart};

/// Bytes that a code object takes besides its texts and its line table.
const CODE_BYTES: u64 = 192;

/// The code objects of one process.
#[derive(Debug)]
pub(super) struct ProcessCode {
    version: RuntimeVersion,
    /// By address and fingerprint.
    objects: HashMap<(u64, u32), NamedCode>,
}

/// A code object with texts that its frames share.
#[derive(Debug)]
pub(super) struct NamedCode {
    name: Arc<str>,
    file: Arc<str>,
    object: CodeObject,
    _charge: Charge,
}

impl ProcessCode {
    pub fn new(version: RuntimeVersion) -> Self {
        Self { version, objects: HashMap::new() }
    }

    /// Returns whether code objects are decoded as those of a version.
    pub fn is_of(&self, version: RuntimeVersion) -> bool {
        self.version == version
    }

    /// Adds a code object, for which an owner pays. Returns whether it fits; if not, all are
    /// removed, and those that are still in use have to be sent again.
    pub fn add(&mut self, record: &CodeRecord, owner: Owner, pool: &SharedPool) -> bool {
        let parts = CodeParts {
            name: text_part(&record.name),
            file: text_part(&record.file),
            first_line: record.first_line,
            lines: &record.lines,
            lines_length: record.lines_length,
        };
        let mut object = self.version.decode(&parts);
        let bytes = CODE_BYTES + object.bytes() as u64;
        let Some(charge) = pool.charge(owner, bytes) else {
            self.objects.clear();
            return false;
        };
        let text = |text: Option<Box<str>>| text.map_or_else(|| Arc::from(""), Arc::from);
        let (name, file) = (text(object.name.take()), text(object.file.take()));
        let named = NamedCode { name, file, object, _charge: charge };
        self.objects.insert((record.code.0, record.fingerprint), named);
        true
    }

    /// Returns the code object at an address with a fingerprint, if it was added.
    pub fn get(&self, address: u64, fingerprint: u32) -> Option<&NamedCode> {
        self.objects.get(&(address, fingerprint))
    }
}

impl NamedCode {
    /// Returns whether its frames are those of a function.
    pub fn is_function(&self) -> bool {
        self.object.is_function
    }

    /// Returns the name with the line of the instruction at a position; `None` if there is none.
    pub fn name_at(&self, position: Option<u32>) -> Option<CodeName> {
        let line = position.and_then(|position| self.object.line(position)).unwrap_or(0);
        let (name, file) = (Arc::clone(&self.name), Arc::clone(&self.file));
        let start_line = self.object.first_line;
        (!name.is_empty()).then_some(CodeName { name, file, line, start_line })
    }
}

fn text_part(text: &CodeText) -> TextPart<'_> {
    TextPart { bytes: &text.bytes, width: text.width, length: text.length }
}
