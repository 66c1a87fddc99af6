//! How much is looked up for the frames of a profile.

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
