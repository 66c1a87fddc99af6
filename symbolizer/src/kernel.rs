//! Names of the kernel's functions, from its own list of symbols, which has modules and BPF
//! programs too.
//!
//! The functions alone are kept, in 5 MB, and each ends where the next begins.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;

use crate::kernel_access::function;

/// Most bytes of names, ten times those of a large kernel; and most functions.
const NAMES_MAX: usize = 64 << 20;
const FUNCTIONS_MAX: usize = 1 << 22;
/// Longest line; the kernel's names have at most 512 bytes (KSYM_NAME_LEN).
const LINE_MAX: u64 = 4096;
/// Memory grows by this much at a time, so that it is never needed twice.
const STEP: usize = 256 << 10;
/// No function is larger. What follows the last one of a module may be another module later.
const FUNCTION_MAX: u64 = 64 << 10;
/// No BPF program is larger. What follows the last one may be one without a symbol.
const BPF_MAX: u64 = 2 << 20;
const BPF: &str = "bpf_prog_";
/// Symbols that are no function: they say where code ends.
const ENDS: [&str; 3] = ["_etext", "_einittext", "__end_rodata"];

/// The kernel's functions by address.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    /// First address, and the offset of its text in `names`; sorted.
    starts: Vec<(u64, u32)>,
    /// Kind and name of each, followed by a line feed: `Tstart_kernel`.
    names: String,
}

impl Functions {
    /// Reads the functions of the running kernel from its list of symbols. None have addresses if
    /// the one who opened it may not see them.
    ///
    /// # Errors
    /// As reading does.
    pub fn read(list: &File) -> io::Result<Self> {
        Self::parse(BufReader::with_capacity(64 << 10, list))
    }

    /// Returns whether there are no functions with addresses.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    fn parse(mut list: impl BufRead) -> io::Result<Self> {
        let (mut this, mut line) = (Self::default(), String::new());
        while list.by_ref().take(LINE_MAX).read_line(&mut line)? > 0 {
            if let Some((start, kind, name)) = function(&line)
                && !this.add(start, kind, name)
            {
                break;
            }
            line.clear();
        }
        this.sort();
        Ok(this)
    }

    /// Adds a function. Returns whether it fits.
    fn add(&mut self, start: u64, kind: char, name: &str) -> bool {
        let Self { starts, names } = self;
        if names.len() + name.len() >= NAMES_MAX || starts.len() >= FUNCTIONS_MAX {
            return false;
        }
        if names.capacity() - names.len() < name.len() + 2 {
            names.reserve_exact(STEP.max(name.len() + 2));
        }
        if starts.len() == starts.capacity() {
            starts.reserve_exact(STEP / size_of::<(u64, u32)>());
        }
        starts.push((start, names.len() as u32));
        names.push(kind);
        names.push_str(name);
        names.push('\n');
        true
    }

    /// Sorts the functions, and keeps one name for each address.
    fn sort(&mut self) {
        let Self { starts, names } = self;
        starts.sort_unstable();
        let rank = |at: u32| text(names, at).map(|(kind, name)| rank(kind, name));
        starts.dedup_by(|next, best| {
            let is_same = next.0 == best.0;
            if is_same && rank(next.1) < rank(best.1) {
                best.1 = next.1;
            }
            is_same
        });
    }

    /// Returns the name of the function at an address, and its addresses. `None` beyond the end of
    /// code, and too far behind the last function of a module.
    pub fn find(&self, address: u64) -> Option<(&str, Range<u64>)> {
        let next = self.starts.partition_point(|(start, _)| *start <= address);
        let (start, at) = *self.starts.get(next.checked_sub(1)?)?;
        let end = self.starts.get(next).map_or(u64::MAX, |(start, _)| *start);
        let (_, name) = text(&self.names, at)?;
        let max = if name.starts_with(BPF) { BPF_MAX } else { FUNCTION_MAX };
        let end = end.min(start.saturating_add(max));
        (address < end && !ENDS.contains(&name)).then_some((name, start..end))
    }
}

/// Returns kind and name of a function.
fn text(names: &str, at: u32) -> Option<(char, &str)> {
    let (line, _) = names.get(at as usize..)?.split_once('\n')?;
    Some((line.chars().next()?, line.get(1..)?))
}

/// Ranks the names of one address; the least is the best: global before local before weak, then the
/// one with fewest leading underscores, then the longest. An end is no name.
fn rank(kind: char, name: &str) -> (u8, usize, Reverse<usize>) {
    let scope = match kind {
        _ if ENDS.contains(&name) => 3,
        'T' => 0,
        't' => 1,
        _ => 2, // weak
    };
    let underscores = name.len() - name.trim_start_matches('_').len();
    (scope, underscores, Reverse(name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel_access::{KERNEL_SYMBOLS, KernelAccess};

    const LIST: &str = "\
ffffffff81000000 T _text
ffffffff81000000 T startup_64
ffffffff81000100 t helper
ffffffff81000200 W weak
ffffffff81000200 t strong
ffffffff81000400 T _etext
ffffffff82000000 D data
ffffffffc0000000 t of_module\t[module]
ffffffffa0000000 t bpf_prog_6deef7357e7b4530_tick\t[bpf]
0000000000000000 A hidden
no line at all
";

    #[test]
    fn a_function_ends_where_the_next_begins_and_the_best_name_is_taken() {
        let functions = Functions::parse(LIST.as_bytes()).expect("a list");
        let expected = [
            (0xffff_ffff_80ff_ffff, None),
            (
                0xffff_ffff_8100_0000,
                Some(("startup_64", 0xffff_ffff_8100_0000..0xffff_ffff_8100_0100)),
            ),
            (0xffff_ffff_8100_01ff, Some(("helper", 0xffff_ffff_8100_0100..0xffff_ffff_8100_0200))),
            (0xffff_ffff_8100_03ff, Some(("strong", 0xffff_ffff_8100_0200..0xffff_ffff_8100_0400))),
            (0xffff_ffff_8100_0400, None),
            (0xffff_ffff_9000_0000, None),
            (
                0xffff_ffff_c000_0001,
                Some(("of_module", 0xffff_ffff_c000_0000..0xffff_ffff_c001_0000)),
            ),
            (0xffff_ffff_c001_0000, None),
        ];
        for (address, expected) in expected {
            assert_eq!(functions.find(address), expected, "{address:#x}");
        }
    }

    #[test]
    fn hidden_addresses_are_no_functions() {
        let hidden = "0000000000000000 T _text\n0000000000000000 t helper\n";
        assert!(Functions::parse(hidden.as_bytes()).expect("a list").starts.is_empty());
    }

    #[test]
    fn lines_without_an_end_are_bounded() {
        let list = io::repeat(b'x').take(100 << 20);
        let functions = Functions::parse(BufReader::new(list)).expect("a list");
        assert!(functions.starts.is_empty());
    }

    #[test]
    fn probe_agrees_with_the_list() {
        let list = File::open(KERNEL_SYMBOLS).and_then(|list| Functions::read(&list));
        let has_functions = list.is_ok_and(|functions| !functions.is_empty());
        assert_eq!(has_functions, KernelAccess::probe() == KernelAccess::Available);
    }

    #[test]
    fn the_running_kernel_names_its_own_addresses() {
        let list = File::open(KERNEL_SYMBOLS).expect("a list");
        let functions = Functions::read(&list).expect("a list, for root");
        let list = std::fs::read_to_string(KERNEL_SYMBOLS).expect("a list");
        let mut count = 0;
        for line in list.lines().filter(|line| line.contains(" T vfs_")) {
            let (start, _, name) = function(line).expect("a function");
            let (found, range) = functions.find(start + 1).expect("a name");
            assert_eq!((found, range.start), (name, start));
            count += 1;
        }
        assert!(count > 10, "{count} functions of the file system");
        let Functions { names, starts } = &functions;
        assert!(
            names.capacity() <= names.len() + STEP && starts.capacity() <= starts.len() + STEP / 16
        );
    }
}
