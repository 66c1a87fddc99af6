//! The memory of a process with CPython, written object by object.

use std::collections::BTreeMap;

/// Objects by address. A read that is not within one object fails, as one does that leads out of a
/// page behind which there is no other.
#[derive(Default)]
pub struct Memory(BTreeMap<u64, Vec<u8>>);

impl Memory {
    pub fn read(&self, address: u64, size: usize) -> Option<&[u8]> {
        let (start, object) = self.0.range(..=address).next_back()?;
        let at = usize::try_from(address - start).ok()?;
        object.get(at..at.checked_add(size)?)
    }

    /// Reserves memory for objects that lie side by side.
    pub fn reserve(&mut self, start: u64, bytes: usize) {
        self.0.insert(start, vec![0; bytes]);
    }

    /// Writes the field of an object, which grows up to it.
    pub fn set(&mut self, object: u64, offset: u16, value: &[u8]) {
        let before = self.0.range(..=object).next_back();
        let reserved = before.filter(|(start, bytes)| object - **start < bytes.len() as u64);
        let start = reserved.map_or(object, |(start, _)| *start);
        let offset = usize::from(offset) + (object - start) as usize;
        let (object, end) = (self.0.entry(start).or_default(), offset + value.len());
        object.resize(object.len().max(end), 0);
        object[offset..end].copy_from_slice(value);
    }

    pub fn set_word(&mut self, object: u64, offset: u16, value: u64) {
        self.set(object, offset, &value.to_ne_bytes());
    }
}

/// `struct host_layout` of `interpreter.c`: offsets and bytes in the order of `struct
/// cpython_layout`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Layout {
    pub thread_frame: u16,
    pub thread_cframe: u16,
    pub cframe_frame: u16,
    pub cframe_previous: u16,
    pub frame_code: u16,
    pub frame_previous: u16,
    pub frame_position: u16,
    pub frame_owner: u16,
    pub code_first_line: u16,
    pub code_name: u16,
    pub code_file: u16,
    pub code_line_table: u16,
    pub code_version: u16,
    pub code_bytecode: u16,
    pub text: [u16; 4],
    pub bytes: [u16; 2],
    pub text_kind_shift: u8,
    pub position_kind: u8,
    pub entry_kind: u8,
    pub entry_owner: u8,
    pub code_tag_mask: u8,
}

pub const PYTHON_3_9: Layout = Layout {
    thread_frame: 24,
    thread_cframe: 0,
    cframe_frame: 0,
    cframe_previous: 0,
    frame_code: 32,
    frame_previous: 24,
    frame_position: 104,
    frame_owner: 0,
    code_first_line: 40,
    code_name: 112,
    code_file: 104,
    code_line_table: 120,
    code_version: 0,
    code_bytecode: 0,
    text: [16, 32, 48, 72],
    bytes: [16, 32],
    text_kind_shift: 2,
    position_kind: 0,
    entry_kind: 0,
    entry_owner: 0,
    code_tag_mask: 0,
};

pub const PYTHON_3_10: Layout = Layout {
    thread_cframe: 48,
    cframe_previous: 8,
    frame_position: 96,
    position_kind: 1,
    entry_kind: 1,
    ..PYTHON_3_9
};

pub const PYTHON_3_11: Layout = Layout {
    thread_frame: 0,
    thread_cframe: 56,
    cframe_frame: 8,
    cframe_previous: 16,
    frame_previous: 48,
    frame_position: 56,
    frame_owner: 68,
    code_first_line: 72,
    code_name: 128,
    code_file: 112,
    code_line_table: 136,
    code_bytecode: 184,
    position_kind: 2,
    entry_kind: 2,
    ..PYTHON_3_9
};

pub const PYTHON_3_12: Layout = Layout {
    cframe_frame: 0,
    cframe_previous: 8,
    frame_code: 0,
    frame_previous: 8,
    frame_owner: 70,
    code_first_line: 68,
    code_version: 92,
    code_bytecode: 192,
    text: [16, 32, 40, 56],
    entry_kind: 3,
    entry_owner: 3,
    ..PYTHON_3_11
};

pub const PYTHON_3_15: Layout = Layout {
    thread_frame: 72,
    thread_cframe: 0,
    frame_owner: 74,
    code_bytecode: 208,
    code_tag_mask: 3,
    ..PYTHON_3_12
};

/// A code object as a test writes it.
pub struct Code<'a> {
    pub first_line: u32,
    pub version: u32,
    pub name: u64,
    pub file: u64,
    pub lines: &'a [u8],
}

/// Writes structures of one version into memory.
pub struct Python {
    pub memory: Memory,
    pub layout: Layout,
}

impl Python {
    /// Writes a frame that is at the instruction with a byte offset.
    pub fn frame(&mut self, frame: u64, code: u64, previous: u64, offset: i32, owner: u8) {
        let Self { memory, layout } = self;
        let address = code & !u64::from(layout.code_tag_mask);
        memory.set_word(frame, layout.frame_code, code);
        memory.set_word(frame, layout.frame_previous, previous);
        match layout.position_kind {
            0 => memory.set(frame, layout.frame_position, &offset.to_ne_bytes()),
            1 => memory.set(frame, layout.frame_position, &(offset / 2).to_ne_bytes()),
            _ => {
                let bytecode = address + u64::from(layout.code_bytecode);
                let instruction = bytecode.wrapping_add_signed(offset.into());
                memory.set_word(frame, layout.frame_position, instruction);
            }
        }
        if layout.frame_owner > 0 {
            memory.set(frame, layout.frame_owner, &[owner]);
        }
    }

    /// Writes a code object; its line table is a bytes object behind it.
    pub fn code(&mut self, code: u64, Code { first_line, version, name, file, lines }: &Code<'_>) {
        let Self { memory, layout } = self;
        let table = code + 0x800;
        memory.set(code, layout.code_first_line, &first_line.to_ne_bytes());
        if layout.code_version > 0 {
            memory.set(code, layout.code_version, &version.to_ne_bytes());
        }
        for (field, value) in
            [(layout.code_name, *name), (layout.code_file, *file), (layout.code_line_table, table)]
        {
            memory.set_word(code, field, value);
        }
        memory.set_word(table, layout.bytes[0], lines.len() as u64);
        memory.set(table, layout.bytes[1], lines);
    }

    /// Writes a compact str. `width`: bytes of a character, 0 for ASCII.
    pub fn text(&mut self, text: u64, width: u8, data: &[u8]) {
        let [length, state, ascii, compact] = self.layout.text;
        let (kind, is_ascii) = (u32::from(width.max(1)), width == 0);
        let flags = (kind | 1 << 3 | u32::from(is_ascii) << 4) << self.layout.text_kind_shift;
        let characters = data.len() as u64 / u64::from(kind);
        self.memory.set_word(text, length, characters);
        self.memory.set(text, state, &flags.to_ne_bytes());
        self.memory.set(text, if is_ascii { ascii } else { compact }, data);
    }
}
