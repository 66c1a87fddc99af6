//! The maps by which walks unwind, as the agent writes them: slabs, blocks, processes.
//!
//! Slabs are memory shared with the kernel. A slot becomes visible when a map refers to it, and is
//! written again only after [`WalkMaps::wait_for_ticks`]. Where no program walks, slabs are memory
//! of the agent alone, and there are no maps.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};
use memmap2::{MmapMut, MmapOptions};

use super::abi::{SLAB_BYTES, SLAB_UNIT_BYTES, SLAB_UNITS_SHIFT, SLABS_MAX};
use super::skeleton::EverytickMaps;

/// The maps of one sampler, or the memory of slabs alone.
pub struct WalkMaps {
    /// By number; `None` where a slab was removed.
    slabs: Vec<Option<Slab>>,
    /// `None` where all walks are in user space.
    kernel: Option<KernelMaps>,
}

/// A slab, and its map where programs read it.
struct Slab {
    memory: MmapMut,
    map: Option<MapHandle>,
}

/// What the programs read.
struct KernelMaps {
    outer: MapHandle,
    blocks: MapHandle,
    processes: MapHandle,
    generations: MapHandle,
}

impl WalkMaps {
    pub(super) fn new(maps: &EverytickMaps<'_>) -> libbpf_rs::Result<Self> {
        let kernel = KernelMaps {
            outer: MapHandle::try_from(&maps.slabs)?,
            blocks: MapHandle::try_from(&maps.blocks)?,
            processes: MapHandle::try_from(&maps.processes)?,
            generations: MapHandle::try_from(&maps.generations)?,
        };
        Ok(Self { slabs: Vec::new(), kernel: Some(kernel) })
    }

    /// Returns slabs for walks in user space: what is published has no reader.
    pub fn in_user_space() -> Self {
        Self { slabs: Vec::new(), kernel: None }
    }

    /// Returns the number of slabs.
    pub fn slabs(&self) -> u32 {
        self.slabs.iter().flatten().count() as u32
    }

    /// Adds a slab of [`SLAB_BYTES`]. Returns its number, the first that is not in use.
    ///
    /// # Errors
    /// If there is no memory for it, or there are [`SLABS_MAX`] slabs.
    pub fn add_slab(&mut self) -> io::Result<u32> {
        let free = self.slabs.iter().position(Option::is_none);
        let number = free.unwrap_or(self.slabs.len());
        if number >= SLABS_MAX as usize {
            return Err(io::Error::other("cannot add unwind tables: all slabs are in use"));
        }
        let slab = match &self.kernel {
            Some(kernel) => kernel.add_slab(number as u32)?,
            None => Slab { memory: MmapMut::map_anon(SLAB_BYTES)?, map: None },
        };
        match free {
            Some(number) => self.slabs[number] = Some(slab),
            None => self.slabs.push(Some(slab)),
        }
        Ok(number as u32)
    }

    /// Removes a slab that nothing refers to, and returns its memory to the kernel. The first one
    /// stays: [`Self::wait_for_ticks`] uses it.
    pub fn remove_slab(&mut self, number: u32) {
        let Some(slab) = self.slabs.get_mut(number as usize).filter(|_| number > 0) else { return };
        if let Some(kernel) = &self.kernel {
            let _ = kernel.outer.delete(&number.to_ne_bytes()); // it is empty at worst
        }
        *slab = None;
    }

    /// Writes bytes to an unreferenced slot. They must fit its slab.
    pub fn write(&mut self, slot: u32, bytes: &[u8]) {
        let (slab, offset) = split(slot);
        if let Some(Some(Slab { memory, .. })) = self.slabs.get_mut(slab) {
            memory[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// Returns the bytes from a slot to the end of its slab.
    pub fn read(&self, slot: u32) -> &[u8] {
        let (slab, offset) = split(slot);
        let slab = self.slabs.get(slab).and_then(Option::as_ref);
        slab.map_or(&[], |slab| &slab.memory[offset..])
    }

    /// Publishes the slot of a block.
    ///
    /// # Errors
    /// If there is no such block.
    pub fn set_block(&self, number: u32, slot: u32) -> io::Result<()> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        let (key, value) = (number.to_ne_bytes(), slot.to_ne_bytes());
        kernel.blocks.update(&key, &value, MapFlags::ANY).map_err(io::Error::other)
    }

    /// Publishes the slot of a process's mappings.
    ///
    /// # Errors
    /// If there are too many processes.
    pub fn set_process(&self, pid: u32, slot: u32) -> io::Result<()> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        let (key, value) = (pid.to_ne_bytes(), slot.to_ne_bytes());
        kernel.processes.update(&key, &value, MapFlags::ANY).map_err(io::Error::other)
    }

    /// Withdraws a process's mappings.
    pub fn remove_process(&self, pid: u32) {
        if let Some(kernel) = &self.kernel {
            let _ = kernel.processes.delete(&pid.to_ne_bytes()); // the programs may have done so
        }
    }

    /// Returns when the address space of a process was created, as the programs saw it; 0 if that
    /// was before them.
    pub fn generation(&self, pid: u32) -> u64 {
        let kernel = self.kernel.as_ref();
        let lookup = |kernel: &KernelMaps| {
            kernel.generations.lookup(&pid.to_ne_bytes(), MapFlags::ANY).ok().flatten()
        };
        let bytes = kernel.and_then(lookup).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_ne_bytes)
    }

    /// Returns whether programs read the maps.
    pub fn has_programs(&self) -> bool {
        self.kernel.is_some()
    }

    /// Waits until every running tick has ended: then no tick reads unreferenced slots.
    pub fn wait_for_ticks(&self) {
        // Updating a map of maps waits for a grace period, and no running program outlasts that.
        if let Some(kernel) = &self.kernel
            && let Some(Some(Slab { map: Some(map), .. })) = self.slabs.first()
        {
            let fd = map.as_fd().as_raw_fd() as u32;
            let _ = kernel.outer.update(&0u32.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY);
        }
    }
}

impl KernelMaps {
    /// Creates a slab with this number, which both the programs and the agent see.
    fn add_slab(&self, number: u32) -> io::Result<Slab> {
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            map_flags: libbpf_sys::BPF_F_MMAPABLE,
            ..Default::default()
        };
        let bytes = SLAB_BYTES as u32;
        let map = MapHandle::create(MapType::Array, Some("slab"), 4, bytes, 1, &options)
            .map_err(io::Error::other)?;
        let fd = map.as_fd().as_raw_fd();
        // SAFETY: the memory is the map's, which lives as long as it is mapped and never shrinks.
        // Only this agent writes it, and only where no map refers to while the programs read it.
        let memory = unsafe { MmapOptions::new().len(SLAB_BYTES).map_mut(fd) }?;
        self.outer
            .update(&number.to_ne_bytes(), &(fd as u32).to_ne_bytes(), MapFlags::ANY)
            .map_err(io::Error::other)?;
        Ok(Slab { memory, map: Some(map) })
    }
}

/// Splits a slot into the number of its slab and the offset there, in bytes.
fn split(slot: u32) -> (usize, usize) {
    let unit = slot as usize & ((1 << SLAB_UNITS_SHIFT) - 1);
    (slot as usize >> SLAB_UNITS_SHIFT, unit * SLAB_UNIT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_without_a_kernel_are_memory() {
        let mut maps = WalkMaps::in_user_space();
        assert_eq!([maps.add_slab(), maps.add_slab()].map(|added| added.expect("memory")), [0, 1]);
        let slot = (1 << SLAB_UNITS_SHIFT) + 5; // in the second slab
        maps.write(slot, b"rows");
        assert_eq!(&maps.read(slot)[..5], b"rows\0");
        assert_eq!(maps.read(slot).len(), SLAB_BYTES - 5 * SLAB_UNIT_BYTES);
        maps.set_block(1, slot).expect("nothing is published");
        assert_eq!((maps.slabs(), maps.generation(1)), (2, 0));
        assert_eq!(maps.add_slab().expect("memory"), 2);
        [1, 0, 7].iter().for_each(|number| maps.remove_slab(*number));
        assert_eq!((maps.slabs(), maps.read(slot)), (2, &[][..]));
        assert_eq!(maps.add_slab().expect("memory"), 1);
        assert_eq!(maps.read(slot)[0], 0);
    }
}
