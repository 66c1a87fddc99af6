//! The second unwinder: framehop, on perf's stack snapshots and the call frames of the mapped
//! files.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ::framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use ::framehop::{Error, ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder};
use profile::{ExecutableId, FileOffset, Pid, VirtAddr};
use unwind::arch::{FP, SP, is_behind_system_call};

use super::comparison::{IncomparableReason, UnwoundStack, WalkEnd};
use crate::events::{PerfSample, PerfStackSnapshot};
use crate::kernel::abi::USER_FRAMES_MAX;
use crate::processes::{AddressSpace, Executables, Mapping};

/// Bytes of sections cached. Beyond that the cache is cleared and files are read again.
const SECTIONS_BYTES_MAX: usize = 512 << 20;
/// Bytes above the stack pointer that may be stack. An address farther up is a wild pointer.
const STACK_MAX: usize = 64 << 20;
/// Processes whose unwinders are cached.
const PROCESSES_MAX: usize = 512;

type Bytes = Arc<[u8]>;
type Sections = ExplicitModuleSectionInfo<Bytes>;

/// Unwinds with framehop and caches the sections of files and the unwinders of processes.
#[derive(Default)]
pub(super) struct FramehopUnwinder {
    /// The sections of each file; `None` if it cannot be read.
    files: HashMap<ExecutableId, Option<Sections>>,
    bytes: usize,
    processes: HashMap<Pid, Process>,
}

/// The unwinder of a process, valid as long as its mappings are unchanged.
struct Process {
    memory: AddressSpace,
    unwinder: UnwinderX86_64<Bytes>,
    // One cache per unwinder: framehop distinguishes the unwinders in a cache by 16 bits only.
    cache: CacheX86_64,
}

impl FramehopUnwinder {
    /// Unwinds a perf sample of a process. `memory`: its mappings at that time.
    pub fn unwind(
        &mut self,
        pid: Pid,
        memory: &AddressSpace,
        executables: &Executables,
        sample: &PerfSample,
    ) -> UnwoundStack {
        let mut process = self.process(pid, memory, executables);
        let register = |register: unwind::arch::Register| {
            sample.snapshot.registers[usize::from(register.number())]
        };
        let stack = StackSnapshot { sample, start: register(SP), missing: Cell::new(None) };
        let PerfStackSnapshot { ip, flags, registers: all, .. } = &sample.snapshot;
        let mut registers = UnwindRegsX86_64::new(*ip, register(SP), register(FP));
        let behind = is_behind_system_call(all, *ip, *flags);
        let behind = behind.then(|| FrameAddress::from_return_address(*ip)).flatten();
        let mut at = behind.unwrap_or(FrameAddress::from_instruction_pointer(*ip));
        let mut frames = Vec::new();
        let end = loop {
            if frames.len() > USER_FRAMES_MAX as usize {
                break WalkEnd::Limit(IncomparableReason::FramehopLimit);
            }
            frames.push(at.address());
            let before = registers;
            match process.step(at, &mut registers, &stack) {
                // Where a word is missing, framehop tries something else. The result is no frame.
                _ if stack.missing.get().is_some() => break stack.end(),
                Ok(Some(caller)) if is_code(memory, caller) => at = caller,
                Ok(Some(_)) => break WalkEnd::Stopped("address outside code"),
                Ok(None) if process.is_root(at, before, &stack) => break WalkEnd::Complete,
                Ok(None) => break WalkEnd::Stopped("frame pointer 0 where it has no row"),
                Err(error) => break WalkEnd::Stopped(text(error)),
            }
        };
        if end != WalkEnd::Complete {
            // After a failed read, framehop uses the frame pointer at that address from then on.
            process.cache = CacheX86_64::new();
        }
        self.processes.insert(pid, process);
        UnwoundStack { frames, end }
    }

    /// Takes the unwinder of a process out of the cache, or makes one.
    fn process(&mut self, pid: Pid, memory: &AddressSpace, executables: &Executables) -> Process {
        let cached = self.processes.remove(&pid);
        if let Some(process) = cached.filter(|process| memory.is_unchanged(&process.memory)) {
            return process;
        }
        if self.processes.len() >= PROCESSES_MAX {
            self.processes.clear();
        }
        let mut unwinder = UnwinderX86_64::new();
        for mapping in memory.iter() {
            if let Some(module) = self.module(mapping, executables) {
                unwinder.add_module(module);
            }
        }
        Process { memory: memory.clone(), unwinder, cache: CacheX86_64::new() }
    }

    fn module(&mut self, mapping: &Mapping, executables: &Executables) -> Option<Module<Bytes>> {
        let Mapping { start, end, offset, executable } = *mapping;
        let file = executables.get(executable);
        let sections = self.sections(executable, file.file())?;
        let address = file.address_of(FileOffset(offset), VirtAddr(start)).0;
        // The address at which address 0 of the file would be mapped.
        let base = start.wrapping_sub(address);
        Some(Module::new(file.name.to_string(), start..end, base, sections))
    }

    fn sections(&mut self, executable: ExecutableId, file: Option<&File>) -> Option<Sections> {
        if let Some(cached) = self.files.get(&executable) {
            return cached.clone();
        }
        if self.bytes > SECTIONS_BYTES_MAX {
            (self.files, self.bytes) = (HashMap::new(), 0);
            self.processes.clear();
        }
        let sections = file.and_then(read);
        self.bytes += sections.as_ref().map_or(0, bytes);
        self.files.insert(executable, sections.clone());
        sections
    }
}

impl Process {
    /// Steps to the caller.
    fn step(
        &mut self,
        at: FrameAddress,
        registers: &mut UnwindRegsX86_64,
        stack: &StackSnapshot<'_>,
    ) -> Result<Option<FrameAddress>, Error> {
        let mut read = |address| stack.read(address).ok_or(());
        let caller = self.unwinder.unwind_frame(at, registers, &mut self.cache, &mut read)?;
        let null = Error::ReturnAddressIsNull;
        caller.map(|address| FrameAddress::from_return_address(address).ok_or(null)).transpose()
    }

    /// Returns whether a frame is the root by its call frames. Where framehop has none, it uses the
    /// frame pointer and takes 0 for the end; with another frame pointer it would then not end.
    fn is_root(
        &mut self,
        at: FrameAddress,
        mut registers: UnwindRegsX86_64,
        stack: &StackSnapshot<'_>,
    ) -> bool {
        const NO_FRAME_POINTER: u64 = 8;
        registers.set_bp(NO_FRAME_POINTER);
        matches!(self.step(at, &mut registers, stack), Ok(None))
    }
}

fn is_code(memory: &AddressSpace, caller: FrameAddress) -> bool {
    memory.find(VirtAddr(caller.address_for_lookup())).is_some()
}

fn text(error: Error) -> &'static str {
    match error {
        Error::CouldNotReadStack(_) => "unreadable stack",
        Error::FramepointerUnwindingMovedBackwards => "frame pointer that leads back",
        Error::DidNotAdvance => "no advance",
        Error::IntegerOverflow => "overflow",
        Error::ReturnAddressIsNull => "return address 0",
    }
}

/// The stack snapshot in perf's record.
struct StackSnapshot<'a> {
    sample: &'a PerfSample,
    start: u64,
    /// An address that was read and may be stack, but is not in the snapshot.
    missing: Cell<Option<u64>>,
}

impl StackSnapshot<'_> {
    fn read(&self, address: u64) -> Option<u64> {
        let stack = &self.sample.snapshot.stack;
        let offset = usize::try_from(address.checked_sub(self.start)?).ok()?;
        let word = offset.checked_add(8).and_then(|end| stack.get(offset..end));
        if word.is_none() && offset < STACK_MAX {
            self.missing.set(Some(address));
        }
        Some(u64::from_ne_bytes(word?.try_into().ok()?))
    }

    /// Returns why a word is missing.
    fn end(&self) -> WalkEnd {
        WalkEnd::Limit(if self.sample.is_cut {
            IncomparableReason::SnapshotEnded
        } else {
            IncomparableReason::SnapshotHole
        })
    }
}

/// Reads the sections of an ELF file. framehop uses `.eh_frame` alone if there is one.
fn read(file: &File) -> Option<Sections> {
    let at = |offset: u64, bytes: &mut [u8]| file.read_exact_at(bytes, offset).is_ok();
    let unwind::UnwindSections { eh_frame, eh_frame_hdr, debug_frame, text, got } =
        unwind::UnwindSections::read(&at).ok()?;
    let start = |section: &Option<(u64, Vec<u8>)>| section.as_ref().map(|(start, _)| *start);
    let data = |section: Option<(u64, Vec<u8>)>| section.map(|(_, bytes)| Bytes::from(bytes));
    // framehop uses only the start of a range.
    let at = |start: Option<u64>| start.map(|start| start..start);
    Some(Sections {
        text_svma: at(text),
        got_svma: at(got),
        eh_frame_svma: at(start(&eh_frame)),
        eh_frame: data(eh_frame),
        eh_frame_hdr_svma: at(start(&eh_frame_hdr)),
        eh_frame_hdr: data(eh_frame_hdr),
        debug_frame: data(debug_frame),
        ..Sections::default()
    })
}

fn bytes(sections: &Sections) -> usize {
    let all = [&sections.eh_frame, &sections.eh_frame_hdr, &sections.debug_frame];
    all.into_iter().flatten().map(|bytes| bytes.len()).sum()
}
