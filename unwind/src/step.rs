//! One step from a frame to its caller, by a rule.
//!
//! This is the reference for `bpf/step.h`: the same rules, written to be read. `tests/step`
//! compiles the kernel's step for the host and compares the two.

use crate::arch::{
    BASE, FP, REGISTERS, Register, SAVED_RA_WORDS, SIGNAL_FLAGS, SIGNAL_IP, SIGNAL_REGISTERS, SP,
    USER_ADDRESS_MAX, USER_ADDRESS_MIN, is_behind_system_call,
};
use crate::rule::{Cfa, Gap, RegisterRule, Rule};

/// The registers of a thread in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Where the thread goes on in this frame.
    pub ip: u64,
    /// Whether `ip` is behind the instruction that the frame is at: a call, or a system call while
    /// it runs. Where a tick or a signal interrupted the thread otherwise, it is at `ip` itself.
    pub is_behind: bool,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer, if known.
    pub fp: Option<u64>,
    /// The base register, if known.
    pub base: Option<u64>,
    /// All general registers by number. Known only where the thread was interrupted.
    pub all: Option<[u64; REGISTERS]>,
    /// The general registers of the function that this frame called, if that was interrupted. Those
    /// that a function may change are this frame's only if that one is written so: call frames in
    /// assembly rely on it.
    pub callee: Option<[u64; REGISTERS]>,
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are callers, and none is kept")]
pub enum Step {
    /// The frame has a caller.
    Caller(Registers),
    /// The frame is the root of the stack.
    Root,
    /// This is no frame: the one before was the root of the stack.
    Outside,
    /// There is no rule.
    NoRow,
    /// The rule is not expressible, or needs a register whose value is unknown.
    NotExpressible,
    /// Stack memory cannot be read.
    Unreadable,
    /// The return address is no user address, or the caller's frame is not above this one.
    BadReturnAddress,
}

impl Registers {
    /// Returns the innermost frame of a thread that was interrupted at `ip`.
    pub fn interrupted(ip: u64, all: [u64; REGISTERS]) -> Self {
        let of = |register: Register| all[usize::from(register.number())];
        let (sp, fp, base) = (of(SP), Some(of(FP)), Some(of(BASE)));
        Self { ip, is_behind: false, sp, fp, base, all: Some(all), callee: None }
    }

    /// Returns the innermost frame of a thread that was interrupted at `ip` with these flags. It is
    /// behind a system call if the registers say so: the instruction copies ip and flags.
    pub fn interrupted_with_flags(ip: u64, flags: u64, all: [u64; REGISTERS]) -> Self {
        let is_behind = is_behind_system_call(&all, ip, flags);
        Self { is_behind, ..Self::interrupted(ip, all) }
    }

    /// Returns the address by which the row and the name of the frame are looked up: that of the
    /// instruction that it is at. What it is behind may be the last instruction of its function.
    pub fn lookup_address(&self) -> u64 {
        self.ip.wrapping_sub(self.is_behind.into())
    }

    fn get(&self, register: Register) -> Option<u64> {
        match register {
            SP => Some(self.sp),
            FP => self.fp,
            BASE => self.base,
            other => {
                let callee = self.callee.filter(|_| !Register::SAVED_BY_CALLEE.contains(&other));
                self.all.or(callee).map(|all| all[usize::from(other.number())])
            }
        }
    }
}

/// Steps to the caller. `read`: returns the 8-byte word at an address, if it can be read.
///
/// ```
/// use unwind::{Cfa, RegisterRule, Registers, Rule, Step, arch, step};
///
/// let rule = Rule {
///     cfa: Cfa::Register(arch::SP, 16),
///     fp: RegisterRule::AtCfa(-2),
///     base: RegisterRule::Undefined,
///     ra: RegisterRule::AtCfa(-1),
/// };
/// let stack = [0x7040, 0x40_1005]; // from 0x7000: the saved fp, the return address
/// let read = |address: u64| stack.get((address.checked_sub(0x7000)? / 8) as usize).copied();
/// let frame = Registers {
///     ip: 0x40_2000,
///     is_behind: false,
///     sp: 0x7000,
///     fp: None,
///     base: None,
///     all: None,
///     callee: None,
/// };
/// let Step::Caller(caller) = step(&frame, &rule, read) else { panic!("it has a caller") };
/// assert_eq!((caller.ip, caller.sp, caller.fp), (0x40_1005, 0x7010, Some(0x7040)));
/// ```
pub fn step(at: &Registers, rule: &Rule, read: impl Fn(u64) -> Option<u64>) -> Step {
    let cfa = match rule.cfa {
        Cfa::Gap(Gap::NoRow | Gap::Pending) => return Step::NoRow,
        Cfa::Gap(Gap::NotExpressible) => return Step::NotExpressible,
        Cfa::Root => return Step::Root,
        Cfa::Outside => return Step::Outside,
        Cfa::Signal => return step_from_signal(at.sp, read),
        Cfa::FramePointer => return Step::NoRow,
        Cfa::Plt { pushed } => {
            let has_pushed = at.lookup_address() & 15 >= pushed.into();
            at.sp.wrapping_add(if has_pushed { 16 } else { 8 })
        }
        Cfa::Register(register, offset) => match at.get(register) {
            Some(value) => value.wrapping_add_signed(offset.into()),
            None => return Step::NotExpressible,
        },
        Cfa::AtRegister { register, at: inner, offset } => {
            let Some(value) = at.get(register) else { return Step::NotExpressible };
            match read(value.wrapping_add_signed(inner.into())) {
                Some(word) => word.wrapping_add_signed(offset.into()),
                None => return Step::Unreadable,
            }
        }
        Cfa::AtIndex { index, at: inner, offset } => {
            let Some(value) = at.get(index) else { return Step::NotExpressible };
            let word = at.sp.wrapping_add(value.wrapping_mul(8));
            match read(word.wrapping_add_signed(inner.into())) {
                Some(word) => word.wrapping_add_signed(offset.into()),
                None => return Step::Unreadable,
            }
        }
    };
    let ra = caller_value(at, rule.ra, cfa, None, &read);
    let fp = caller_value(at, rule.fp, cfa, at.fp, &read);
    let (Ok(ra), Ok(fp)) = (ra, fp) else { return Step::Unreadable };
    let Some(ip) = ra else { return Step::NotExpressible };
    let Ok(base) = caller_value(at, rule.base, cfa, at.base, &read) else {
        return Step::Unreadable;
    };
    // The CFA lies above sp, except where the return address has been popped already. A CFA that is
    // not relative to sp may lie on another stack: the frame has switched to the one it is on.
    let is_by_sp = matches!(rule.cfa, Cfa::Register(SP, _) | Cfa::Plt { .. });
    let is_risen = cfa > at.sp || cfa < at.sp && !is_by_sp || cfa == at.sp && at.all.is_some();
    if !is_risen {
        return Step::BadReturnAddress;
    }
    if ip == 0 && rule.ra == RegisterRule::ReturnOrRoot {
        return Step::Root;
    }
    if !(USER_ADDRESS_MIN..USER_ADDRESS_MAX).contains(&ip) {
        return Step::BadReturnAddress;
    }
    let is_behind = rule.ra != RegisterRule::Interrupted;
    Step::Caller(Registers { ip, is_behind, sp: cfa, fp, base, all: None, callee: at.all })
}

struct Unreadable;

/// Returns the caller's value of a register, `None` if unknown. `same`: its value in this frame.
fn caller_value(
    at: &Registers,
    rule: RegisterRule,
    cfa: u64,
    same: Option<u64>,
    read: impl Fn(u64) -> Option<u64>,
) -> Result<Option<u64>, Unreadable> {
    match rule {
        RegisterRule::SameValue => Ok(same),
        RegisterRule::AtCfa(words) => {
            read(cfa.wrapping_add_signed(8 * i64::from(words))).map(Some).ok_or(Unreadable)
        }
        RegisterRule::Interrupted | RegisterRule::ReturnOrRoot => {
            read(cfa.wrapping_add_signed(8 * i64::from(SAVED_RA_WORDS))).map(Some).ok_or(Unreadable)
        }
        RegisterRule::AtFp => match at.fp {
            Some(fp) => read(fp).map(Some).ok_or(Unreadable),
            None => Ok(None),
        },
        RegisterRule::Register(register) => Ok(at.get(register)),
        RegisterRule::Undefined => Ok(None),
    }
}

/// Steps from a frame that the kernel made for a signal: it holds all interrupted registers.
fn step_from_signal(frame: u64, read: impl Fn(u64) -> Option<u64>) -> Step {
    let word = |at: i64| read(frame.wrapping_add_signed(at));
    let mut all = [0; REGISTERS];
    for (value, at) in all.iter_mut().zip(SIGNAL_REGISTERS) {
        match word(at) {
            Some(word) => *value = word,
            None => return Step::Unreadable,
        }
    }
    let (Some(ip), Some(flags)) = (word(SIGNAL_IP), word(SIGNAL_FLAGS)) else {
        return Step::Unreadable;
    };
    if !(USER_ADDRESS_MIN..USER_ADDRESS_MAX).contains(&ip) {
        return Step::BadReturnAddress;
    }
    Step::Caller(Registers::interrupted_with_flags(ip, flags, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: u64 = 0x7000;
    /// The words of the stack, from 0x7000 up.
    const WORDS: [u64; 6] = [0x11, 0x22, 0x33, 0x44, 0x5_5555, 0x66];

    fn read(address: u64) -> Option<u64> {
        WORDS.get((address.checked_sub(STACK)? / 8) as usize).copied()
    }

    fn at() -> Registers {
        let mut all = [0; REGISTERS];
        all[usize::from(SP.number())] = STACK;
        all[usize::from(FP.number())] = STACK + 16;
        Registers::interrupted(0x40_0000, all)
    }

    fn rule(cfa: Cfa, fp: RegisterRule) -> Rule {
        Rule { cfa, fp, base: RegisterRule::Undefined, ra: RegisterRule::SAVED_RA }
    }

    #[test]
    fn steps_from_a_function_that_pushed_registers() {
        let Step::Caller(caller) =
            step(&at(), &rule(Cfa::Register(SP, 40), RegisterRule::AtCfa(-2)), read)
        else {
            panic!("there is a caller")
        };
        assert_eq!((caller.ip, caller.sp, caller.fp), (0x5_5555, STACK + 40, Some(0x44)));
        assert_eq!((caller.lookup_address(), caller.base, caller.all), (0x5_5554, None, None));
    }

    #[test]
    fn rule_with_an_unknown_register_is_not_expressible() {
        let outer = Registers { all: None, ..at() };
        let r10 = Register::from_number(10);
        let rule = rule(Cfa::Register(r10, 0), RegisterRule::SameValue);
        assert_eq!(step(&outer, &rule, read), Step::NotExpressible);
    }

    #[test]
    fn caller_must_lie_above() {
        let rule = |offset| rule(Cfa::Register(SP, offset), RegisterRule::SameValue);
        let read = |_| Some(0x5_5555);
        assert_eq!(step(&at(), &rule(-8), read), Step::BadReturnAddress);
        let outer = Registers { is_behind: true, all: None, ..at() };
        assert_eq!(step(&outer, &rule(0), read), Step::BadReturnAddress);
        // vfork() keeps its return address in a register while its child uses the stack.
        assert!(matches!(step(&at(), &rule(0), read), Step::Caller(_)));
    }

    #[test]
    fn caller_by_fp_may_lie_below_after_a_stack_switch() {
        let switched = Registers { fp: Some(STACK - 0x1000), is_behind: true, all: None, ..at() };
        let by_fp = rule(Cfa::Register(FP, 16), RegisterRule::AtCfa(-2));
        match step(&switched, &by_fp, |_| Some(0x5_5555)) {
            Step::Caller(caller) => assert_eq!(caller.sp, STACK - 0x1000 + 16),
            other => panic!("{other:?}"),
        }
        let circle = Registers { fp: Some(switched.sp - 16), ..switched };
        assert_eq!(step(&circle, &by_fp, |_| Some(0x5_5555)), Step::BadReturnAddress);
    }

    #[test]
    fn unreadable_memory_ends_the_stack() {
        assert_eq!(
            step(&at(), &rule(Cfa::Register(SP, 800), RegisterRule::SameValue), read),
            Step::Unreadable
        );
    }

    #[test]
    fn signal_frame_restores_every_register() {
        let Step::Caller(caller) = step(&at(), &Rule::SIGNAL, |address| Some(address * 2)) else {
            panic!("there is a caller")
        };
        assert!(!caller.is_behind && caller.all.is_some());
        assert_eq!(caller.ip, (STACK + 168) * 2);
        assert_eq!(caller.sp, (STACK + 160) * 2);
        assert_eq!(caller.fp, Some((STACK + 120) * 2));
    }
    #[test]
    fn frame_below_a_signal_is_behind_a_system_call_or_at_its_instruction() {
        // rcx and r11 are at 152 and 64, ip and flags at 168 and 176.
        let frame = |rcx: u64, r11: u64| {
            move |address: u64| match address - STACK {
                152 => Some(rcx),
                64 => Some(r11),
                168 => Some(0x40_2000),
                176 => Some(0x246),
                _ => Some(0x7777),
            }
        };
        let lookup = |rcx, r11| match step(&at(), &Rule::SIGNAL, frame(rcx, r11)) {
            Step::Caller(caller) => caller.lookup_address(),
            other => panic!("{other:?}"),
        };
        assert_eq!(lookup(0x40_2000, 0x246), 0x40_1fff);
        assert_eq!(lookup(0x40_2000, 0x202), 0x40_2000, "called through rcx");
        assert_eq!(lookup(0x40_2002, 0x246), 0x40_2000, "to be restarted");
    }

    #[test]
    fn zero_is_the_root_only_of_functions_that_never_return() {
        let zero = |_| Some(0);
        let returns = rule(Cfa::Register(SP, 16), RegisterRule::SameValue);
        assert_eq!(step(&at(), &returns, zero), Step::BadReturnAddress);
        let never = Rule { ra: RegisterRule::ReturnOrRoot, ..returns };
        assert_eq!(step(&at(), &never, zero), Step::Root);
        assert!(matches!(step(&at(), &never, |_| Some(0x5_5555)), Step::Caller(_)));
        assert_eq!(step(&at(), &never, |_| Some(5)), Step::BadReturnAddress);
    }

    #[test]
    fn caller_of_an_interrupted_function_has_its_volatile_registers() {
        let r11 = Register::from_number(11);
        let r12 = Register::from_number(12);
        let mut all = [0; REGISTERS];
        all[usize::from(SP.number())] = STACK;
        all[11] = STACK + 32;
        all[12] = STACK + 32;
        let leaf = Registers::interrupted(0x40_0000, all);
        let by_sp = rule(Cfa::Register(SP, 8), RegisterRule::SameValue);
        let code = |_| Some(0x5_5555);
        let Step::Caller(caller) = step(&leaf, &by_sp, code) else { panic!("it has a caller") };
        let by = |register| rule(Cfa::Register(register, 8), RegisterRule::SameValue);
        let Step::Caller(outer) = step(&caller, &by(r11), code) else { panic!("by r11") };
        assert_eq!(outer.sp, STACK + 40);
        assert_eq!(step(&caller, &by(r12), code), Step::NotExpressible, "may have been changed");
        assert_eq!(step(&outer, &by(r11), code), Step::NotExpressible, "two calls further");
    }

    #[test]
    fn stack_is_indexed_by_a_register() {
        let r9 = Register::from_number(9);
        let mut all = [0; REGISTERS];
        all[usize::from(SP.number())] = STACK;
        all[9] = 2;
        let indexed = Cfa::AtIndex { index: r9, at: 8, offset: 8 };
        let read = |address: u64| Some(if address == STACK + 24 { STACK + 80 } else { 0x5_5555 });
        let leaf = Registers::interrupted(0x40_0000, all);
        let Step::Caller(caller) = step(&leaf, &rule(indexed, RegisterRule::SameValue), read)
        else {
            panic!("it has a caller")
        };
        assert_eq!(caller.sp, STACK + 88);
    }
}
