//! Names of the kernel's functions, from its own list of symbols: it has modules and BPF programs too.
//!
//! blazesym reads the same list and takes 20 MB for it, and knows no end of a function, so that each address has to be asked
//! for. Here are the functions alone, in 5 MB, and each ends where the next begins.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;

const PATH: &str = "/proc/kallsyms";
/// Bytes of names that are kept, ten times those of a large kernel; and so many functions.
const NAMES_MAX: usize = 64 << 20;
const FUNCTIONS_MAX: usize = 1 << 22;
/// Memory grows by so much at once: what is there is not held twice over.
const STEP: usize = 256 << 10;
/// No function is larger. What follows the last one of a module may be another module's tomorrow.
const FUNCTION_MAX: u64 = 64 << 10;

/// The kernel's functions by address.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    /// First address, and where its text begins in `names`; in order.
    starts: Vec<(u64, u32)>,
    /// Kind and name of each, with a line feed behind it: `Tstart_kernel`.
    names: String,
}

impl Functions {
    /// Reads those of the running kernel.
    ///
    /// # Errors
    /// When the list cannot be read, or hides its addresses.
    pub fn of_running_kernel() -> io::Result<Self> {
        Self::read(BufReader::with_capacity(64 << 10, File::open(PATH)?))
    }

    fn read(mut list: impl BufRead) -> io::Result<Self> {
        let (mut this, mut line) = (Self::default(), String::new());
        while list.read_line(&mut line)? > 0 {
            if let Some((start, kind, name)) = function(&line)
                && !this.add(start, kind, name)
            {
                break;
            }
            line.clear();
        }
        if this.starts.is_empty() {
            let hidden = format!("{PATH} hides addresses");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, hidden));
        }
        this.sort();
        Ok(this)
    }

    /// Adds a function; says whether there was room for it.
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

    /// Puts them in order, with one name for each address.
    fn sort(&mut self) {
        let Self { starts, names } = self;
        starts.sort_unstable();
        let rank = |at: u32| text(names, at).map(|(kind, name)| rank(kind, name));
        starts.dedup_by(|next, kept| {
            let is_same = next.0 == kept.0;
            if is_same && rank(next.1) < rank(kept.1) {
                kept.1 = next.1;
            }
            is_same
        });
    }

    /// Gives the name of the function at an address, and the addresses that are called so, if more than this one are for sure.
    pub fn find(&self, address: u64) -> Option<(&str, Range<u64>)> {
        let next = self.starts.partition_point(|(start, _)| *start <= address);
        let (start, at) = *self.starts.get(next.checked_sub(1)?)?;
        let end = self.starts.get(next).map_or(u64::MAX, |(start, _)| *start);
        let end = end.min(start.saturating_add(FUNCTION_MAX));
        let (_, name) = text(&self.names, at)?;
        Some((name, if address < end { start..end } else { address..address }))
    }
}

/// Gives kind and name of a function.
fn text(names: &str, at: u32) -> Option<(char, &str)> {
    let (line, _) = names.get(at as usize..)?.split_once('\n')?;
    Some((line.chars().next()?, line.get(1..)?))
}

/// Reads a line such as `ffffffff81000000 T _text`, perhaps with a module behind the name; `None`: it is no function, or its address
/// is hidden.
fn function(line: &str) -> Option<(u64, char, &str)> {
    let mut words = line.split_ascii_whitespace();
    let start = u64::from_str_radix(words.next()?, 16).ok().filter(|start| *start > 0)?;
    let kind = words.next()?.chars().next()?;
    let name = words.next()?;
    "tTwW".contains(kind).then_some((start, kind, name))
}

/// Which of several names for one address is the best, which is the smallest: one that all may use, else the one with fewest
/// underscores before it, else the longest.
fn rank(kind: char, name: &str) -> (u8, usize, Reverse<usize>) {
    let scope = match kind {
        'T' => 0,
        't' => 1,
        _ => 2, // it is weak
    };
    let underscores = name.len() - name.trim_start_matches('_').len();
    (scope, underscores, Reverse(name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
ffffffff81000000 T _text
ffffffff81000000 T startup_64
ffffffff81000100 t helper
ffffffff81000200 W weak
ffffffff81000200 t strong
ffffffff82000000 D data
ffffffffc0000000 t of_module\t[module]
ffffffffa0000000 t bpf_prog_6deef7357e7b4530_tick\t[bpf]
0000000000000000 A hidden
no line at all
";

    #[test]
    fn a_function_ends_where_the_next_begins_and_the_best_name_is_taken() {
        let functions = Functions::read(LIST.as_bytes()).expect("a list");
        let expected = [
            (0xffff_ffff_80ff_ffff, None),
            (
                0xffff_ffff_8100_0000,
                Some(("startup_64", 0xffff_ffff_8100_0000..0xffff_ffff_8100_0100)),
            ),
            (0xffff_ffff_8100_01ff, Some(("helper", 0xffff_ffff_8100_0100..0xffff_ffff_8100_0200))),
            (0xffff_ffff_8101_01ff, Some(("strong", 0xffff_ffff_8100_0200..0xffff_ffff_8101_0200))),
            (0xffff_ffff_9000_0000, Some(("strong", 0xffff_ffff_9000_0000..0xffff_ffff_9000_0000))),
            (
                0xffff_ffff_c000_0001,
                Some(("of_module", 0xffff_ffff_c000_0000..0xffff_ffff_c001_0000)),
            ),
        ];
        for (address, expected) in expected {
            assert_eq!(functions.find(address), expected, "{address:#x}");
        }
    }

    #[test]
    fn a_list_that_hides_addresses_is_an_error() {
        let hidden = "0000000000000000 T _text\n0000000000000000 t helper\n";
        let error = Functions::read(hidden.as_bytes()).expect_err("hidden");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn the_running_kernel_names_its_own_addresses() {
        let functions = Functions::of_running_kernel().expect("a list, for root");
        let list = std::fs::read_to_string(PATH).expect("a list");
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
