//! How much is looked up for the frames of a profile.

use symbolizer::proto::{FileRole, Symbol};

use super::client::SymbolizeError;
use crate::processes::{Executable, ExecutableOrigin};

upload::config! {
    /// What frames have besides their addresses.
    pub enum SymbolizeMode {
        /// Functions, those inlined in them, files and lines.
        Full = "full",
        /// Functions by symbol tables and Go's function tables. No debug info is read.
        Names = "names",
        /// Frames in files keep addresses and build IDs, for a server that symbolizes. The kernel,
        /// the vDSO and JIT code, which only this machine can name, have names.
        AddressesOnly = "none",
    }
}

impl SymbolizeMode {
    /// Returns whether the symbols of an executable are read. Memory without a file has none.
    ///
    /// # Errors
    /// Why an executable with a file has no symbols.
    pub(super) fn reads(self, executable: &Executable) -> Result<bool, SymbolizeError> {
        match executable.origin {
            ExecutableOrigin::Kernel | ExecutableOrigin::Vdso(_) => Ok(true),
            ExecutableOrigin::Memory => Ok(false),
            _ if self == Self::AddressesOnly => Err(SymbolizeError::NotWanted),
            ExecutableOrigin::File(_) => Ok(true),
            ExecutableOrigin::Unopened => Err(SymbolizeError::NotOpen),
        }
    }

    /// Returns whether a debug file would give more names to an executable that has these symbols
    /// and no such file.
    pub(super) fn lacks_names(self, executable: &Executable, symbols: &[Symbol]) -> bool {
        let mut debug_files = executable.debug_files.iter();
        self == Self::Names
            && !debug_files.any(|(role, _)| role == FileRole::Debug)
            && symbols.iter().any(|symbol| symbol.functions.is_empty())
    }
}
