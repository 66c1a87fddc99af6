//! The maps that walks look into, as the agent writes them: slabs, blocks, processes.
//!
//! Slabs are memory shared with the kernel. What is written to a place counts from the moment a map
//! names that place, and a place is written again only after [`WalkMaps::wait_for_ticks`].

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};
use memmap2::{MmapMut, MmapOptions};

use super::abi::{SLAB_BYTES, SLAB_UNITS_SHIFT, SLABS_MAX};
use super::skeleton::EverytickMaps;

/// Bytes of a place's unit.
const UNIT: usize = 8;

/// A piece of a slab that is mapped here and in the kernel.
struct Slab {
    map: MapHandle,
    memory: MmapMut,
}

/// The maps of one sampler.
pub struct WalkMaps {
    outer: MapHandle,
    blocks: MapHandle,
    processes: MapHandle,
    stamps: MapHandle,
    slabs: Vec<Slab>,
}

impl WalkMaps {
    pub(super) fn new(maps: &EverytickMaps<'_>) -> libbpf_rs::Result<Self> {
        Ok(Self {
            outer: MapHandle::try_from(&maps.slabs)?,
            blocks: MapHandle::try_from(&maps.blocks)?,
            processes: MapHandle::try_from(&maps.processes)?,
            stamps: MapHandle::try_from(&maps.stamps)?,
            slabs: Vec::new(),
        })
    }

    /// Slabs there are.
    pub fn slabs(&self) -> u32 {
        self.slabs.len() as u32
    }

    /// Adds a slab of [`SLAB_BYTES`].
    ///
    /// # Errors
    /// When the kernel has no memory for it, or there are [`SLABS_MAX`].
    pub fn add_slab(&mut self) -> io::Result<()> {
        if self.slabs() >= SLABS_MAX {
            return Err(io::Error::other("there is no room for more unwind tables"));
        }
        let options = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
            map_flags: libbpf_sys::BPF_F_MMAPABLE,
            ..Default::default()
        };
        let bytes = SLAB_BYTES as u32;
        let map = MapHandle::create(MapType::Array, Some("slab"), 4, bytes, 1, &options)
            .map_err(io::Error::other)?;
        let fd = map.as_fd().as_raw_fd();
        // SAFETY: the memory is the map's, which lives as long as it is mapped and never shrinks. Only
        // this agent writes it; the programs read it while we write only where no map points to.
        let memory = unsafe { MmapOptions::new().len(SLAB_BYTES).map_mut(fd) }?;
        let number = self.slabs();
        self.outer
            .update(&number.to_ne_bytes(), &(fd as u32).to_ne_bytes(), MapFlags::ANY)
            .map_err(io::Error::other)?;
        self.slabs.push(Slab { map, memory });
        Ok(())
    }

    /// Writes bytes at a place that nothing points to. They must lie in one slab.
    pub fn write(&mut self, place: u32, bytes: &[u8]) {
        let (slab, at) = split(place);
        self.slabs[slab].memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Gives what was written at a place, to the end of its slab.
    pub fn read(&self, place: u32) -> &[u8] {
        let (slab, at) = split(place);
        self.slabs.get(slab).map_or(&[], |slab| &slab.memory[at..])
    }

    /// Says where a block is.
    ///
    /// # Errors
    /// When there is no such block.
    pub fn set_block(&self, number: u32, place: u32) -> io::Result<()> {
        let (key, value) = (number.to_ne_bytes(), place.to_ne_bytes());
        self.blocks.update(&key, &value, MapFlags::ANY).map_err(io::Error::other)
    }

    /// Says where a process's mappings are.
    ///
    /// # Errors
    /// When there are too many processes.
    pub fn set_process(&self, pid: u32, place: u32) -> io::Result<()> {
        let (key, value) = (pid.to_ne_bytes(), place.to_ne_bytes());
        self.processes.update(&key, &value, MapFlags::ANY).map_err(io::Error::other)
    }

    /// Takes a process's mappings away.
    pub fn remove_process(&self, pid: u32) {
        let _ = self.processes.delete(&pid.to_ne_bytes()); // the programs may have done so
    }

    /// When a process got its memory, as the programs saw it; 0 when that was before them.
    pub fn stamp(&self, pid: u32) -> u64 {
        let found = self.stamps.lookup(&pid.to_ne_bytes(), MapFlags::ANY).ok().flatten();
        let bytes = found.and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_ne_bytes)
    }

    /// Waits until every tick that began before has ended: what no map points to is not looked at any more.
    pub fn wait_for_ticks(&self) {
        // Updating a map of maps waits for a grace period, which no running program outlasts.
        if let Some(slab) = self.slabs.first() {
            let fd = slab.map.as_fd().as_raw_fd() as u32;
            let _ = self.outer.update(&0u32.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY);
        }
    }
}

fn split(place: u32) -> (usize, usize) {
    let unit = place as usize & ((1 << SLAB_UNITS_SHIFT) - 1);
    (place as usize >> SLAB_UNITS_SHIFT, unit * UNIT)
}
