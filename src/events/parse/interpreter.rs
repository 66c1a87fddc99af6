//! Parses the records of interpreters in the sampler's ring: [`InterpreterStack`], [`CodeRecord`].

use profile::{Cpu, Pid, VirtAddr};
use zerocopy::FromBytes;

use crate::events::event::{Event, TimedEvent};
use crate::events::interpreter::{CodeRecord, CodeText, InterpreterFrame, InterpreterStack};
use crate::kernel::abi::{self, InterpreterEnd, RuntimeKind};

/// Parses a record of interpreter frames; `None` if its length or a value is not valid.
pub fn parse_stack(record: &[u8]) -> Option<TimedEvent> {
    let (head, frames) = abi::InterpreterRecord::ref_from_prefix(record).ok()?;
    let count = usize::from(head.count);
    let frames = <[abi::InterpreterFrame]>::ref_from_bytes_with_elems(frames, count).ok()?;
    let stack = InterpreterStack {
        sequence: head.sequence,
        cpu: Cpu(head.cpu),
        pid: Pid(head.pid),
        runtime: runtime(head.kind)?,
        frames: frames.iter().map(frame).collect(),
        end: InterpreterEnd::from_value(head.end)?,
    };
    Some(TimedEvent { time: head.time, event: Event::Interpreter(Box::new(stack)) })
}

/// Parses a record of a code object; `None` if its length or a value is not valid.
pub fn parse_code(record: &[u8]) -> Option<TimedEvent> {
    let (head, bytes) = abi::CodeRecord::ref_from_prefix(record).ok()?;
    let (name, bytes) = bytes.split_at_checked(head.name_bytes.into())?;
    let (file, lines) = bytes.split_at_checked(head.file_bytes.into())?;
    let is_whole = lines.len() == usize::from(head.lines_bytes);
    if !is_whole || lines.len() > head.lines_length as usize {
        return None;
    }
    let code = CodeRecord {
        pid: Pid(head.pid),
        runtime: runtime(head.kind)?,
        code: VirtAddr(head.code),
        fingerprint: head.fingerprint,
        first_line: head.first_line,
        name: text(name, head.name_width, head.name_length)?,
        file: text(file, head.file_width, head.file_length)?,
        lines: lines.into(),
        lines_length: head.lines_length,
    };
    Some(TimedEvent { time: head.time, event: Event::CodeObject(Box::new(code)) })
}

fn runtime(value: u8) -> Option<RuntimeKind> {
    RuntimeKind::from_value(value).filter(|kind| *kind != RuntimeKind::None)
}

fn frame(frame: &abi::InterpreterFrame) -> InterpreterFrame {
    let address = VirtAddr(frame.code & !abi::INTERPRETER_ENTRY);
    if frame.code & abi::INTERPRETER_ENTRY != 0 {
        let native_frame = u32::try_from(frame.position).ok();
        return InterpreterFrame::Entry { anchor: address, native_frame };
    }
    let position = frame.position as u32;
    InterpreterFrame::Code {
        code: address,
        fingerprint: (frame.position >> 32) as u32,
        position: (position != u32::MAX).then_some(position),
    }
}

/// Returns a text, unless it has more bytes than characters, or a part of one.
fn text(bytes: &[u8], width: u8, length: u32) -> Option<CodeText> {
    let character = match width {
        0 | 1 => 1,
        2 | 4 => usize::from(width),
        _ => return None,
    };
    let is_valid =
        bytes.len().is_multiple_of(character) && bytes.len() / character <= length as usize;
    is_valid.then(|| CodeText { bytes: bytes.into(), width, length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn stack(count: u16, kind: u8, end: u8, frames: &[(u64, u64)]) -> Vec<u8> {
        let head = abi::InterpreterRecord {
            time: 7,
            marker: abi::RECORD_INTERPRETER,
            sequence: 1,
            pid: 3,
            cpu: 5,
            count,
            kind,
            end,
            reserved: 0,
        };
        let frames = frames.iter().flat_map(|(code, position)| {
            let frame = abi::InterpreterFrame { code: *code, position: *position };
            frame.as_bytes().to_vec()
        });
        head.as_bytes().iter().copied().chain(frames).collect()
    }

    fn code(texts: [(&[u8], u8, u32); 2], lines: &[u8], lines_length: u32) -> Vec<u8> {
        let [(name, name_width, name_length), (file, file_width, file_length)] = texts;
        let head = abi::CodeRecord {
            time: 7,
            marker: abi::RECORD_CODE,
            code: 0x1000,
            pid: 3,
            fingerprint: 9,
            first_line: 12,
            name_length,
            file_length,
            lines_length,
            name_bytes: name.len() as u16,
            file_bytes: file.len() as u16,
            lines_bytes: lines.len() as u16,
            name_width,
            file_width,
            kind: RuntimeKind::Cpython as u8,
            reserved: [0; 7],
        };
        [head.as_bytes(), name, file, lines].concat()
    }

    #[test]
    fn stack_has_frames_and_entries() {
        let entry = 0x7ff8 | abi::INTERPRETER_ENTRY;
        let frames = [
            (0x1000, 9 << 32 | 24),
            (0x2000, 8 << 32 | u64::from(u32::MAX)),
            (entry, 4),
            (entry, u64::MAX),
        ];
        let timed = parse_stack(&stack(4, 1, 1, &frames)).expect("a well-formed record");
        let Event::Interpreter(stack) = timed.event else { panic!("not a stack") };
        assert_eq!((timed.time, stack.sequence, stack.cpu, stack.pid), (7, 1, Cpu(5), Pid(3)));
        assert_eq!((stack.runtime, stack.end), (RuntimeKind::Cpython, InterpreterEnd::Depth));
        let code = |code, fingerprint, position| {
            let code = VirtAddr(code);
            InterpreterFrame::Code { code, fingerprint, position }
        };
        let entry = |native_frame| {
            let anchor = VirtAddr(0x7ff8);
            InterpreterFrame::Entry { anchor, native_frame }
        };
        let expected =
            [code(0x1000, 9, Some(24)), code(0x2000, 8, None), entry(Some(4)), entry(None)];
        assert_eq!(*stack.frames, expected);
    }

    #[test]
    fn malformed_stacks_are_rejected() {
        let frames = [(0x1000, 0), (0x2000, 0)];
        assert!(parse_stack(&stack(2, 1, 0, &frames)).is_some());
        assert_eq!(parse_stack(&stack(1, 1, 0, &frames)), None);
        assert_eq!(parse_stack(&stack(3, 1, 0, &frames)), None);
        assert_eq!(parse_stack(&stack(2, 0, 0, &frames)), None);
        assert_eq!(parse_stack(&stack(2, RuntimeKind::COUNT as u8, 0, &frames)), None);
        assert_eq!(parse_stack(&stack(2, 1, 5, &frames)), None);
        assert_eq!(parse_stack(&stack(0, 1, 0, &[])[1..]), None);
    }

    #[test]
    fn code_object_has_its_parts_as_stored() {
        let record = code([(b"f", 0, 300), (&[1, 2, 3, 4], 2, 2)], &[5, 6], 70_000);
        let timed = parse_code(&record).expect("a well-formed record");
        let Event::CodeObject(code) = timed.event else { panic!("not a code object") };
        let (time, ids) = (timed.time, (code.pid, code.code, code.fingerprint, code.first_line));
        assert_eq!((time, ids), (7, (Pid(3), VirtAddr(0x1000), 9, 12)));
        let text = |bytes: &[u8], width, length| CodeText { bytes: bytes.into(), width, length };
        assert_eq!((code.name, code.file), (text(b"f", 0, 300), text(&[1, 2, 3, 4], 2, 2)));
        assert_eq!((&*code.lines, code.lines_length), (&[5, 6][..], 70_000));
    }

    #[test]
    fn malformed_code_objects_are_rejected() {
        let unread: (&[u8], u8, u32) = (&[], 0, 0);
        let whole = code([(b"name", 1, 4), unread], &[1], 1);
        assert!(parse_code(&whole).is_some());
        for len in 0..whole.len() {
            assert_eq!(parse_code(&whole[..len]), None, "{len} bytes");
        }
        assert_eq!(parse_code(&[&whole[..], &[0]].concat()), None);
        assert_eq!(parse_code(&code([(b"name", 1, 3), unread], &[], 0)), None);
        assert_eq!(parse_code(&code([(b"name", 3, 9), unread], &[], 0)), None);
        assert_eq!(parse_code(&code([unread, (b"name", 8, 9)], &[], 0)), None);
        assert_eq!(parse_code(&code([unread, (b"odd", 2, 9)], &[], 0)), None);
        assert_eq!(parse_code(&code([unread, unread], &[1, 2], 1)), None);
    }
}
