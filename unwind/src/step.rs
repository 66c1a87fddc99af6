//! One step from a frame to its caller, by a rule. The reference for `bpf/step.h`.

use crate::arch::{BASE, FP, REGISTERS, Register, SIGNAL_IP, SIGNAL_REGISTERS, SIGNAL_SP, SP};
use crate::frame_pointer::{USER_ADDRESS_MAX, USER_ADDRESS_MIN};
use crate::rule::{Cfa, Gap, RegisterRule, Rule};

/// Where a thread stands in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// The instruction, or the one that a call returns to.
    pub ip: u64,
    /// Whether `ip` is a return address, which belongs to the call before it.
    pub is_return: bool,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer, if it is known.
    pub fp: Option<u64>,
    /// The base register, if it is known.
    pub base: Option<u64>,
    /// All general registers by number, which are known where the thread was interrupted.
    pub all: Option<[u64; REGISTERS]>,
}

/// What a step comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is a caller.
    Caller(Registers),
    /// This was the outermost frame.
    Root,
    /// There is no rule to go by.
    NoRow,
    /// The rule cannot be followed: it has no form here, or needs a register that is not known.
    NotExpressible,
    /// Stack memory could not be read.
    Unreadable,
    /// The return address is no user address, or the stack does not rise.
    ReturnAddress,
}

impl Registers {
    /// Where a thread was interrupted.
    pub fn interrupted(ip: u64, all: [u64; REGISTERS]) -> Self {
        let of = |register: Register| all[usize::from(register.number())];
        let (sp, fp, base) = (of(SP), Some(of(FP)), Some(of(BASE)));
        Self { ip, is_return: false, sp, fp, base, all: Some(all) }
    }

    /// Returns the address whose rule is in force: one byte less for a return address, which may
    /// lie past the end of the calling function.
    pub fn lookup_address(&self) -> u64 {
        self.ip.wrapping_sub(self.is_return.into())
    }

    fn get(&self, register: Register) -> Option<u64> {
        match register {
            SP => Some(self.sp),
            FP => self.fp,
            BASE => self.base,
            other => self.all.map(|all| all[usize::from(other.number())]),
        }
    }
}

/// Steps to the caller. `read`: gives the word of 8 bytes at an address, if it can be read.
pub fn step(at: &Registers, rule: &Rule, read: impl Fn(u64) -> Option<u64>) -> Step {
    let cfa = match rule.cfa {
        Cfa::Gap(Gap::NoRow) => return Step::NoRow,
        Cfa::Gap(Gap::NotExpressible) => return Step::NotExpressible,
        Cfa::Root => return Step::Root,
        Cfa::Signal => return signal(at.sp, read),
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
    };
    let ra = saved(at, rule.ra, cfa, None, &read);
    let fp = saved(at, rule.fp, cfa, at.fp, &read);
    let (Ok(ra), Ok(fp)) = (ra, fp) else { return Step::Unreadable };
    let Some(ip) = ra else { return Step::NotExpressible };
    let Ok(base) = saved(at, rule.base, cfa, at.base, &read) else { return Step::Unreadable };
    // A stack rises with each call, except where the return address has been popped already. A CFA that
    // is not found by sp may lie on another stack: this frame has switched to the one it is on.
    let is_by_sp = matches!(rule.cfa, Cfa::Register(SP, _) | Cfa::Plt { .. });
    let is_risen = cfa > at.sp || cfa < at.sp && !is_by_sp || cfa == at.sp && !at.is_return;
    if !(USER_ADDRESS_MIN..USER_ADDRESS_MAX).contains(&ip) || !is_risen {
        return Step::ReturnAddress;
    }
    Step::Caller(Registers { ip, is_return: true, sp: cfa, fp, base, all: None })
}

struct Unread;

/// Gives the caller's value of a register, `None` when it is not known. `same`: its value here.
fn saved(
    at: &Registers,
    saved: RegisterRule,
    cfa: u64,
    same: Option<u64>,
    read: impl Fn(u64) -> Option<u64>,
) -> Result<Option<u64>, Unread> {
    match saved {
        RegisterRule::SameValue => Ok(same),
        RegisterRule::AtCfa(words) => {
            read(cfa.wrapping_add_signed(8 * i64::from(words))).map(Some).ok_or(Unread)
        }
        RegisterRule::AtFp => match at.fp {
            Some(fp) => read(fp).map(Some).ok_or(Unread),
            None => Ok(None),
        },
        RegisterRule::Register(register) => Ok(at.get(register)),
        RegisterRule::Undefined => Ok(None),
    }
}

/// Leaves a frame that the kernel made: the interrupted registers are all in it.
fn signal(frame: u64, read: impl Fn(u64) -> Option<u64>) -> Step {
    let word = |at: i64| read(frame.wrapping_add_signed(at));
    let mut all = [0; REGISTERS];
    for (value, at) in all.iter_mut().zip(SIGNAL_REGISTERS) {
        match word(at) {
            Some(word) => *value = word,
            None => return Step::Unreadable,
        }
    }
    let (Some(ip), Some(_)) = (word(SIGNAL_IP), word(SIGNAL_SP)) else { return Step::Unreadable };
    if !(USER_ADDRESS_MIN..USER_ADDRESS_MAX).contains(&ip) {
        return Step::ReturnAddress;
    }
    Step::Caller(Registers::interrupted(ip, all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::SAVED_RA;

    const STACK: u64 = 0x7000;
    /// What lies on the stack, from 0x7000 up.
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
        Rule { cfa, fp, base: RegisterRule::Undefined, ra: SAVED_RA }
    }

    #[test]
    fn a_function_that_has_pushed_two_registers() {
        let Step::Caller(caller) =
            step(&at(), &rule(Cfa::Register(SP, 40), RegisterRule::AtCfa(-2)), read)
        else {
            panic!("there is a caller")
        };
        assert_eq!((caller.ip, caller.sp, caller.fp), (0x5_5555, STACK + 40, Some(0x44)));
        assert_eq!((caller.lookup_address(), caller.base, caller.all), (0x5_5554, None, None));
    }

    #[test]
    fn a_rule_that_needs_a_register_of_an_outer_frame_is_not_followed() {
        let outer = Registers { all: None, ..at() };
        let r10 = Register::from_number(10);
        let rule = rule(Cfa::Register(r10, 0), RegisterRule::SameValue);
        assert_eq!(step(&outer, &rule, read), Step::NotExpressible);
    }

    #[test]
    fn a_stack_that_does_not_rise_ends() {
        let rule = |offset| rule(Cfa::Register(SP, offset), RegisterRule::SameValue);
        let read = |_| Some(0x5_5555);
        assert_eq!(step(&at(), &rule(-8), read), Step::ReturnAddress);
        let outer = Registers { is_return: true, ..at() };
        assert_eq!(step(&outer, &rule(0), read), Step::ReturnAddress);
        // vfork() keeps its return address in a register while its child uses the stack.
        assert!(matches!(step(&at(), &rule(0), read), Step::Caller(_)));
    }

    #[test]
    fn a_frame_that_has_switched_stacks_leads_back_to_one_that_lies_lower() {
        let switched = Registers { fp: Some(STACK - 0x1000), is_return: true, ..at() };
        let by_fp = rule(Cfa::Register(FP, 16), RegisterRule::AtCfa(-2));
        match step(&switched, &by_fp, |_| Some(0x5_5555)) {
            Step::Caller(caller) => assert_eq!(caller.sp, STACK - 0x1000 + 16),
            other => panic!("{other:?}"),
        }
        let circle = Registers { fp: Some(switched.sp - 16), ..switched };
        assert_eq!(step(&circle, &by_fp, |_| Some(0x5_5555)), Step::ReturnAddress);
    }

    #[test]
    fn memory_that_cannot_be_read_ends_a_stack() {
        assert_eq!(
            step(&at(), &rule(Cfa::Register(SP, 800), RegisterRule::SameValue), read),
            Step::Unreadable
        );
    }

    #[test]
    fn after_a_signal_frame_every_register_is_known() {
        let Step::Caller(caller) = step(&at(), &Rule::SIGNAL, |address| Some(address * 2)) else {
            panic!("there is a caller")
        };
        assert!(!caller.is_return && caller.all.is_some());
        assert_eq!(caller.ip, (STACK + 168) * 2);
        assert_eq!(caller.sp, (STACK + 160) * 2);
        assert_eq!(caller.fp, Some((STACK + 120) * 2));
    }
}
