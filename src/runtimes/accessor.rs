//! Where a pointer of the current thread is, by the machine code of the functions that return it.
//!
//! Such a function has a few instructions: it takes the thread pointer, or calls `__tls_get_addr`,
//! loads and returns. They are followed one by one, and what each register holds is noted. At an
//! instruction of any other kind the search ends without a result. The code is untrusted; the
//! number of instructions is bounded.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::dynamic_file::{DynamicFile, Symbol};
use super::thread_value::ThreadValue;

/// Instructions followed; real functions have about six.
const INSTRUCTIONS_MAX: usize = 32;
/// Jumps followed: to the function proper from one that has no other code.
const JUMPS_MAX: usize = 2;
/// Bytes of code read of a function, or behind a jump.
const CODE_MAX: usize = 192;

/// Returns what an exported function returns, if that is a pointer of the current thread and
/// nothing else.
pub(super) fn returned_thread_value(file: &DynamicFile<'_>, function: Symbol) -> ThreadValue {
    let mut address = function.address;
    let mut registers = Registers::default();
    let mut left = INSTRUCTIONS_MAX;
    for _ in 0..=JUMPS_MAX {
        let Some(code) = file.code(address, CODE_MAX) else { break };
        match registers.follow(file, &code, address, &mut left) {
            End::Jump(target) => address = target,
            End::Return(value) => return value,
            End::Unknown => break,
        }
    }
    ThreadValue::None
}

/// Returns the offset from the thread pointer of the array of pointers to blocks of values, by the
/// code of `pthread_getspecific` of glibc before 2.34: `mov %fs:OFFSET(,%rax,8), %rdx`.
pub(super) fn offset_of_blocks(file: &DynamicFile<'_>, function: Symbol) -> Option<u32> {
    let code = file.code(function.address, CODE_MAX)?;
    let is_element = |instruction: &Instruction| {
        instruction.mnemonic() == Mnemonic::Mov
            && instruction.segment_prefix() == Register::FS
            && instruction.memory_base() == Register::None
            && instruction.memory_index() != Register::None
            && instruction.memory_index_scale() == 8
    };
    let element = decode(&code, function.address).find(is_element)?;
    u32::try_from(element.memory_displacement64()).ok()
}

/// Returns the offset from the thread pointer of the pointer to all values of pthread_setspecific,
/// by the code of musl's `pthread_getspecific`.
pub(super) fn offset_of_values(file: &DynamicFile<'_>, function: Symbol) -> Option<u32> {
    let code = file.code(function.address, CODE_MAX)?;
    let mut registers = Registers::default();
    for instruction in decode(&code, function.address).take(INSTRUCTIONS_MAX) {
        // Value number `key` of 8 bytes each: `mov (%rax,%rdi,8), %rax`.
        let is_element = instruction.mnemonic() == Mnemonic::Mov
            && instruction.memory_index() == Register::RDI
            && instruction.memory_index_scale() == 8
            && instruction.memory_displacement64() == 0;
        if is_element {
            return match registers.get(instruction.memory_base()) {
                Value::Variable(ThreadValue::Static(offset)) => u32::try_from(offset).ok(),
                _ => None,
            };
        }
        if registers.apply(file, &instruction).is_some() {
            return None;
        }
    }
    None
}

/// Returns whether the code of a function uses one of these addresses, or one of these offsets from
/// a register.
pub(super) fn mentions(
    file: &DynamicFile<'_>,
    function: Symbol,
    addresses: [u64; 2],
    offsets: [u64; 2],
) -> bool {
    let len = function.size.min(CODE_MAX as u64) as usize;
    let code = file.code(function.address, len).unwrap_or_default();
    decode(&code, function.address).take(INSTRUCTIONS_MAX).any(|instruction| {
        let base = instruction.memory_base();
        if instruction.is_ip_rel_memory_operand() {
            addresses.contains(&instruction.ip_rel_memory_address())
        } else if base == Register::None {
            addresses.contains(&instruction.memory_displacement64())
                || has_immediate(&instruction, addresses)
        } else {
            offsets.contains(&instruction.memory_displacement64())
        }
    })
}

/// Returns whether an instruction has one of these numbers as an operand: programs with fixed
/// addresses load them in this way.
fn has_immediate(instruction: &Instruction, numbers: [u64; 2]) -> bool {
    let mut operands = 0..instruction.op_count();
    operands.any(|operand| {
        let is_number =
            matches!(instruction.op_kind(operand), OpKind::Immediate32 | OpKind::Immediate64);
        let number = instruction.try_immediate(operand);
        is_number && number.is_ok_and(|number| numbers.contains(&number))
    })
}

fn decode(code: &[u8], address: u64) -> impl Iterator<Item = Instruction> {
    let decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    decoder.into_iter().take_while(|instruction| !instruction.is_invalid())
}

/// What is known of a number.
#[derive(Clone, Copy, Debug, Default)]
enum Value {
    #[default]
    Unknown,
    /// A number that is the same for all threads.
    Number(i64),
    /// An address in the file.
    Address(u64),
    /// The thread pointer and an offset.
    ThreadPointer(i64),
    /// An address in the block of a module, by the slot of `__tls_get_addr`.
    Block(u64, i64),
    /// The pointer of the thread itself.
    Variable(ThreadValue),
}

impl Value {
    /// Returns the sum with a number.
    fn plus(self, number: i64) -> Self {
        match self {
            Self::Number(value) => Self::Number(value.wrapping_add(number)),
            Self::Address(address) => Self::Address(address.wrapping_add_signed(number)),
            Self::ThreadPointer(offset) => Self::ThreadPointer(offset.wrapping_add(number)),
            Self::Block(slot, offset) => Self::Block(slot, offset.wrapping_add(number)),
            Self::Unknown | Self::Variable(_) => Self::Unknown,
        }
    }

    /// Returns what is in memory at this address.
    fn loaded(self) -> Self {
        let offset = |offset: i64| i32::try_from(offset).ok();
        match self {
            // The thread pointer is the address of a pointer to itself (ELF TLS ABI, variant II).
            Self::ThreadPointer(0) => Self::ThreadPointer(0),
            Self::ThreadPointer(at) => offset(at)
                .map_or(Self::Unknown, |offset| Self::Variable(ThreadValue::Static(offset))),
            Self::Block(slot, at) => offset(at).map_or(Self::Unknown, |offset| {
                Self::Variable(ThreadValue::Dynamic { slot, offset })
            }),
            Self::Unknown | Self::Number(_) | Self::Address(_) | Self::Variable(_) => Self::Unknown,
        }
    }
}

/// How a piece of code ends.
#[derive(Debug)]
enum End {
    /// It goes on at an address.
    Jump(u64),
    /// It returns this.
    Return(ThreadValue),
    /// In a way that is not followed.
    Unknown,
}

/// What the general registers hold, by their number.
#[derive(Debug, Default)]
struct Registers([Value; 16]);

impl Registers {
    /// Follows code up to its end. `left`: instructions that may still be followed.
    fn follow(
        &mut self,
        file: &DynamicFile<'_>,
        code: &[u8],
        address: u64,
        left: &mut usize,
    ) -> End {
        for instruction in decode(code, address) {
            let Some(rest) = left.checked_sub(1) else { break };
            *left = rest;
            if let Some(end) = self.apply(file, &instruction) {
                return end;
            }
        }
        End::Unknown
    }

    /// Applies an instruction; returns how the code ends if it does with this one.
    fn apply(&mut self, file: &DynamicFile<'_>, instruction: &Instruction) -> Option<End> {
        let target = instruction.op0_register();
        match instruction.mnemonic() {
            Mnemonic::Endbr64 | Mnemonic::Nop | Mnemonic::Push => {}
            Mnemonic::Mov => match (instruction.op0_kind(), instruction.op1_kind()) {
                (OpKind::Register, OpKind::Memory) => {
                    let loaded = self.address(instruction).loaded();
                    self.set(target, loaded);
                }
                (OpKind::Register, OpKind::Register) => {
                    self.set(target, self.get(instruction.op1_register()));
                }
                (OpKind::Register, _) => self.set(target, number_in(instruction)),
                _ => return Some(End::Unknown), // it would store something
            },
            Mnemonic::Lea => {
                let address = self.address(instruction);
                self.set(target, address);
            }
            Mnemonic::Add | Mnemonic::Sub | Mnemonic::And if target == Register::RSP => {}
            Mnemonic::Add => {
                let sum = match number_in(instruction) {
                    Value::Number(number) => self.get(target).plus(number),
                    _ => Value::Unknown,
                };
                self.set(target, sum);
            }
            Mnemonic::Xor if target == instruction.op1_register() => {
                self.set(target, Value::Number(0));
            }
            Mnemonic::Pop | Mnemonic::Leave => self.set(target, Value::Unknown),
            Mnemonic::Call => return self.call(file),
            Mnemonic::Jmp if instruction.is_jmp_short_or_near() => {
                return Some(End::Jump(instruction.near_branch_target()));
            }
            Mnemonic::Ret if instruction.code() == Code::Retnq => {
                let Value::Variable(value) = self.get(Register::RAX) else {
                    return Some(End::Unknown);
                };
                return Some(End::Return(value));
            }
            _ => return Some(End::Unknown),
        }
        None
    }

    /// Applies a call, which must be one of `__tls_get_addr`: its argument is the address of a
    /// module's number and an offset.
    fn call(&mut self, file: &DynamicFile<'_>) -> Option<End> {
        let Value::Address(slot) = self.get(Register::RDI) else { return Some(End::Unknown) };
        if !file.is_tls_module_slot(slot) {
            return Some(End::Unknown);
        }
        *self = Self::default();
        self.set(Register::RAX, Value::Block(slot, 0));
        None
    }

    /// Returns the address of the memory that an instruction names.
    fn address(&self, instruction: &Instruction) -> Value {
        let displacement = instruction.memory_displacement64().cast_signed();
        let (base, index) = (instruction.memory_base(), instruction.memory_index());
        let is_thread_relative = instruction.segment_prefix() == Register::FS;
        if index != Register::None {
            return Value::Unknown;
        }
        match (is_thread_relative, base) {
            (false, Register::RIP) => Value::Address(instruction.ip_rel_memory_address()),
            (false, Register::None) => Value::Address(displacement.cast_unsigned()),
            (false, base) => self.get(base).plus(displacement),
            (true, Register::None) => Value::ThreadPointer(displacement),
            (true, base) => match self.get(base) {
                Value::Number(number) => Value::ThreadPointer(number.wrapping_add(displacement)),
                _ => Value::Unknown,
            },
        }
    }

    fn get(&self, register: Register) -> Value {
        match number_of(register) {
            Some(number) if register.size() == 8 => self.0[number],
            _ => Value::Unknown,
        }
    }

    /// Sets a register. One of 32 bits is the lower half of one of 64, and clears the upper half.
    fn set(&mut self, register: Register, value: Value) {
        let Some(number) = number_of(register) else { return };
        self.0[number] = match (register.size(), value) {
            (8, value) => value,
            (4, Value::Number(value)) => Value::Number(value & 0xffff_ffff),
            _ => Value::Unknown,
        };
    }
}

/// Returns the number of a general register, by which its halves and quarters are found, too.
fn number_of(register: Register) -> Option<usize> {
    let is_general = register.is_gpr();
    is_general.then(|| register.full_register().number())
}

/// Returns the second operand of an instruction, if it is a number.
fn number_in(instruction: &Instruction) -> Value {
    let number = instruction.try_immediate(1).map(u64::cast_signed);
    number.map_or(Value::Unknown, Value::Number)
}
