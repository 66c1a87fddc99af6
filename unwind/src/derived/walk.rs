//! Follows the paths of one function, with the state at each block.
//!
//! Blocks are visited until nothing changes: where two paths meet, only what holds on both is
//! known. What is least certain to be reached is visited last. If it disagrees with what is known
//! already, the walk stops and says which path is none.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Instruction, Mnemonic, OpKind};

use super::branch::{Way, refine};
use super::callees::Returns;
use super::flow::Flow;
use super::jump_table::{self, Targets};
use super::operands::{self, Address};
use super::path::{DeadPaths, Path};
use super::program::Program;
use super::reason::Reason;
use super::starts::Starts;
use super::state::State;
use super::value::Value;
use crate::arch::{Register, SP};

/// Blocks of one function.
const BLOCKS_MAX: usize = 1 << 15;
/// Places that a function returns to by one register; hand-written code has a few.
const CONTINUATIONS_MAX: usize = 16;
/// Jumps by a register that are followed so.
const CONTINUED_JUMPS_MAX: usize = 16;
/// Visits of one block.
const VISITS_MAX: u32 = 64;

/// Why a walk ends early, and the path on which it does.
pub(super) type Stop = (Reason, Path);

/// Code that is entered at its first instruction only.
pub(super) struct CodeBlock {
    /// What is known at its first instruction.
    pub state: State,
    path: Path,
    visits: u32,
    /// Where the last visit ended, 0 before the first.
    pub end: u64,
}

/// What a walk has found.
#[derive(Default)]
pub(super) struct Found {
    /// Functions that are called.
    pub calls: BTreeSet<u64>,
    /// Functions that are left to by a jump.
    pub tail_calls: BTreeSet<u64>,
    /// Known starts that are parts of the function.
    pub parts: BTreeSet<u64>,
    /// Returns with the return address on top of the stack.
    pub returns: BTreeSet<u64>,
    /// Indirect jumps whose targets are unknown: the register, the state and the path.
    pub unresolved_jumps: BTreeMap<u64, (Register, State, Path)>,
    /// Code whose address is put into a register, by the register's number.
    continuations: BTreeMap<u8, BTreeSet<u64>>,
    /// Address of each jump table, and of the data after it.
    tables: BTreeMap<u64, u64>,
}

/// The walk through one function.
pub(super) struct Walk<'w, 'a> {
    pub program: &'w mut Program<'a>,
    starts: &'w Starts,
    dead: &'w DeadPaths,
    start: u64,
    pub blocks: BTreeMap<u64, CodeBlock>,
    /// Blocks to visit, by the rank of their paths.
    queue: BTreeSet<(u32, u64)>,
    /// Instructions that may still be interpreted.
    pub instructions_left: u64,
    pub found: Found,
}

impl<'w, 'a> Walk<'w, 'a> {
    pub fn new(
        program: &'w mut Program<'a>,
        starts: &'w Starts,
        dead: &'w DeadPaths,
        start: u64,
        instructions_left: u64,
    ) -> Self {
        let is_root = start == program.elf.entry;
        let state = if is_root { State::at_root() } else { State::at_entry() };
        let first = CodeBlock { state, path: Path::Certain, visits: 0, end: 0 };
        Self {
            program,
            starts,
            dead,
            start,
            blocks: BTreeMap::from([(start, first)]),
            queue: BTreeSet::from([(0, start)]),
            instructions_left,
            found: Found::default(),
        }
    }

    /// Visits blocks until nothing changes.
    ///
    /// # Errors
    /// Why the function cannot be followed this way.
    pub fn run(&mut self) -> Result<(), Stop> {
        loop {
            while let Some((_, address)) = self.queue.pop_first() {
                self.visit(address)?;
            }
            self.reach_continuations()?;
            if self.queue.is_empty() {
                return Ok(());
            }
        }
    }

    /// Returns whether a jump table was read beyond data that was found afterwards.
    pub fn has_overlong_table(&self) -> bool {
        let data_after = |table: &u64| self.program.mentions.data_after(*table).unwrap_or(u64::MAX);
        self.found.tables.iter().any(|(table, next)| data_after(table) < *next)
    }

    /// Walks a block to its end, and reaches the blocks that it leads to.
    fn visit(&mut self, address: u64) -> Result<(), Stop> {
        let Some(block) = self.blocks.get_mut(&address) else { return Ok(()) };
        block.visits += 1;
        if block.visits > VISITS_MAX {
            return Err((Reason::Limit, Path::Certain));
        }
        let (mut state, path) = (block.state.clone(), block.path);
        let mut at = self.program.code.instructions(address).ok_or((Reason::Undecodable, path))?;
        let mut next_block = self.block_after(address);
        let next_start = self.starts.next(address).min(self.mentioned_after(address, path));
        let mut instruction = Instruction::default();
        loop {
            if at.at > next_block {
                next_block = self.block_after(at.at - 1); // instructions overlap
            }
            if at.at >= next_block.min(next_start) {
                return self.fall(at.at, state, path);
            }
            self.instructions_left -= 1;
            if self.instructions_left == 0 {
                return Err((Reason::Limit, Path::Certain));
            }
            if self.program.code.next(&mut at, &mut instruction).is_none() {
                return Err((Reason::Undecodable, path));
            }
            self.blocks.entry(address).and_modify(|block| block.end = at.at);
            if Flow::of(&instruction) == Flow::Next {
                self.note_operands(&state, &instruction);
                self.program.transfer.apply(&mut state, &instruction);
            } else if !self.branch(&mut state, &instruction, path)? {
                return Ok(());
            }
        }
    }

    fn block_after(&self, address: u64) -> u64 {
        self.blocks.range(address + 1..).next().map_or(u64::MAX, |(next, _)| *next)
    }

    /// Returns the next address at which a function may begin, if this code is reached by a call
    /// that may not return.
    fn mentioned_after(&self, address: u64, path: Path) -> u64 {
        match path {
            Path::Certain => u64::MAX,
            _ => self.program.mentions.code_after(address),
        }
    }

    /// Notes data that is accessed by a computed address, where a jump table before it ends, and
    /// code whose address is put into a register.
    fn note_operands(&mut self, state: &State, instruction: &Instruction) {
        let base = operands::general(instruction.memory_base());
        if base.is_some_and(|base| matches!(state.get(base), Value::Constant(_))) {
            match operands::address(state, instruction) {
                Address::Constant(data) | Address::Indexed { array: data, .. } => {
                    self.program.mentions.insert_accessed(data);
                }
                _ => {}
            }
        }
        if instruction.mnemonic() == Mnemonic::Lea && instruction.is_ip_rel_memory_operand() {
            let target = instruction.ip_rel_memory_address();
            if let Some(register) = operands::general(instruction.op0_register())
                && self.program.code.contains(target)
            {
                self.found.continuations.entry(register.number()).or_default().insert(target);
            }
        }
    }

    /// Applies an instruction that may not go on to the next one. Returns whether it does within
    /// the same block.
    fn branch(
        &mut self,
        state: &mut State,
        instruction: &Instruction,
        path: Path,
    ) -> Result<bool, Stop> {
        match Flow::of(instruction) {
            Flow::Next => return Ok(true),
            Flow::Condition(target) => {
                self.program.transfer.apply(state, instruction);
                let mut taken = state.clone();
                if refine(&mut taken, instruction, Way::Taken) {
                    self.jump(target, taken, path)?;
                }
                if refine(state, instruction, Way::NotTaken) {
                    self.fall(instruction.next_ip(), state.clone(), path)?;
                }
            }
            Flow::Transaction(target) => {
                self.program.transfer.apply(state, instruction);
                self.reach(target, state.clone(), path)?;
                return Ok(true);
            }
            Flow::Jump(target) => self.jump(target, state.clone(), path)?,
            Flow::IndirectJump => self.jump_indirectly(state, instruction, path)?,
            Flow::Call => self.call(state, instruction, path)?,
            Flow::Return => self.check_return(state, instruction.ip(), path)?,
            Flow::End => {}
        }
        Ok(false)
    }

    fn check_return(&mut self, state: &State, at: u64, path: Path) -> Result<(), Stop> {
        match state.get(SP).cfa_offset() {
            Some(-8) => {
                self.found.returns.insert(at);
                Ok(())
            }
            Some(_) => Err((Reason::ReturnHeight, path)),
            None => Ok(()), // the height is unknown, so nothing contradicts it
        }
    }

    /// Follows a direct jump, unless it leaves the function.
    fn jump(&mut self, target: u64, state: State, path: Path) -> Result<(), Stop> {
        let is_inside = self.blocks.contains_key(&target);
        if !is_inside && state.is_entry() && self.starts.contains(target) {
            self.found.tail_calls.insert(target);
            return Ok(());
        }
        self.reach(target, state, path)
    }

    fn jump_indirectly(
        &mut self,
        state: &State,
        jump: &Instruction,
        path: Path,
    ) -> Result<(), Stop> {
        if let Some(targets) = jump_table::targets(self.program, state, jump) {
            return self.jump_by_table(state, &targets, path);
        }
        let register = operands::wide_register(jump, 0);
        if let Some(Value::Constant(target)) = register.map(|register| state.get(register)) {
            return self.jump(target, state.clone(), path);
        }
        if state.get(SP).cfa_offset().is_some_and(|sp| sp > -8) {
            return Err((Reason::ReturnHeight, path)); // it was not entered by a call
        }
        let number = register.map(Register::number);
        let has_continuation = number.is_some_and(|n| self.found.continuations.contains_key(&n));
        if has_continuation || !state.is_entry() {
            let jump_state = (register.unwrap_or(SP), state.clone(), path);
            self.found.unresolved_jumps.insert(jump.ip(), jump_state);
        }
        Ok(())
    }

    fn jump_by_table(&mut self, state: &State, targets: &Targets, path: Path) -> Result<(), Stop> {
        let Targets { addresses, is_certain, table, next } = targets;
        self.found.tables.insert(*table, *next);
        for (word, target) in addresses {
            if self.dead.has_word(*table, *word) {
                let path = path.by_table(*table, *word, *is_certain);
                self.reach(*target, state.clone(), path)?;
            }
        }
        Ok(())
    }

    /// Follows jumps by a register to the code whose address the function puts into it somewhere:
    /// hand-written code returns so from parts that it uses several times.
    fn reach_continuations(&mut self) -> Result<(), Stop> {
        let jumps = self.found.unresolved_jumps.values().take(CONTINUED_JUMPS_MAX);
        let jumps: Vec<_> = jumps.cloned().collect();
        for (register, state, path) in jumps {
            let targets = self.found.continuations.get(&register.number());
            let targets = targets.filter(|targets| targets.len() <= CONTINUATIONS_MAX).cloned();
            for target in targets.into_iter().flatten() {
                self.reach(target, state.clone(), path)?;
            }
        }
        Ok(())
    }

    fn call(&mut self, state: &mut State, call: &Instruction, path: Path) -> Result<(), Stop> {
        let next = call.next_ip();
        let target = (call.op0_kind() == OpKind::NearBranch64).then(|| call.near_branch64());
        if target == Some(next) && self.begins_with_pop(next) {
            state.push(Value::Unknown, 8); // the address of the next instruction
            return self.fall(next, state.clone(), path);
        }
        let Program { code, image, callees, .. } = &mut *self.program;
        let returns = callees.returns(code, image, self.starts, call);
        if let Some(target) = target.filter(|target| code.contains(*target)) {
            self.found.calls.insert(target);
        }
        if returns == Returns::No || self.dead.is_last_call(call.ip()) {
            return Ok(());
        }
        self.program.transfer.apply(state, call);
        self.fall(next, state.clone(), path.after_call(call.ip(), returns == Returns::Yes))
    }

    fn begins_with_pop(&mut self, address: u64) -> bool {
        let mut instruction = Instruction::default();
        let code = &mut self.program.code;
        code.instructions(address).and_then(|mut at| code.next(&mut at, &mut instruction)).is_some()
            && instruction.mnemonic() == Mnemonic::Pop
    }

    /// Goes on at the next instruction. If a function begins there, with another state than this,
    /// it is not reached: the last call does not return.
    fn fall(&mut self, next: u64, state: State, path: Path) -> Result<(), Stop> {
        let is_start = || {
            self.starts.contains(next) || self.mentioned_after(next.wrapping_sub(1), path) == next
        };
        if next != self.start && !state.is_entry() && is_start() {
            return Ok(());
        }
        self.reach(next, state, path)
    }

    /// Goes on at an address with a state.
    fn reach(&mut self, target: u64, state: State, path: Path) -> Result<(), Stop> {
        if self.starts.is_covered(target) {
            return Ok(());
        }
        if target != self.start && self.starts.contains(target) {
            if state.is_entry() {
                self.found.tail_calls.insert(target);
                return Ok(());
            }
            self.found.parts.insert(target);
        }
        if !self.program.code.contains(target) {
            return Err((Reason::Undecodable, path));
        }
        let Some(block) = self.blocks.get_mut(&target) else {
            return self.add_block(target, state, path);
        };
        if let (Some(old), Some(new)) =
            (block.state.get(SP).cfa_offset(), state.get(SP).cfa_offset())
            && old != new
        {
            // One of the two paths is none, unless both are certain.
            let suspect = if path.rank() >= block.path.rank() { path } else { block.path };
            if suspect != Path::Certain {
                return Err((Reason::Conflict, suspect));
            }
        }
        let is_surer = path.class() < block.path.class();
        if path.rank() < block.path.rank() {
            block.path = path;
        }
        if block.state.join(&state) || is_surer {
            self.queue.insert((block.path.rank(), target));
        }
        Ok(())
    }

    fn add_block(&mut self, target: u64, state: State, path: Path) -> Result<(), Stop> {
        if self.blocks.len() == BLOCKS_MAX {
            return Err((Reason::Limit, Path::Certain));
        }
        // A block that went on across the target now ends there.
        if let Some((before, block)) = self.blocks.range(..target).next_back()
            && block.end > target
        {
            self.queue.insert((block.path.rank(), *before));
        }
        self.blocks.insert(target, CodeBlock { state, path, visits: 0, end: 0 });
        self.queue.insert((path.rank(), target));
        Ok(())
    }
}
