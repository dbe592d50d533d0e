//! The memory the kernel writes records to and we read them from.
//!
//! Takes an event, gives its records' bytes in order, each in one piece. What lies in the ring is
//! taken to be hostile: a length that cannot be ends the reading of what is there and is told as a
//! loss. Never waits, never reads more than the ring holds.

#![allow(unsafe_code)] // memory shared with the kernel; each use says why it is sound

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::libc;
use perf_event_open_sys::bindings::perf_event_mmap_page;

use super::event::Event;

/// Length of `struct perf_event_header`.
const HEADER: u64 = 8;
/// Longest record: its length is a `u16`.
const LONGEST: usize = 1 << 16;

/// A record's bytes, without its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawRecord<'a> {
    /// `PERF_RECORD_*`.
    pub(super) kind: u32,
    /// `PERF_RECORD_MISC_*`.
    pub(super) misc: u16,
    /// What follows the header.
    pub(super) body: &'a [u8],
}

/// A ring of records.
#[derive(Debug)]
pub(super) struct Ring {
    base: NonNull<u8>,
    /// Length of the mapping: one page of control data and the ring.
    mapped: usize,
    /// Where in the mapping the ring begins, and its length, a power of two.
    data: usize,
    size: u64,
    scratch: Vec<u8>,
}

// SAFETY: the mapping belongs to this value alone, and is as good in any thread.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps a ring of about `bytes`, or as little as a sixteenth of it where no more may be locked
    /// in memory (`kernel.perf_event_mlock_kb`). `scratch` is used for records, and grows no
    /// further if it has room for the longest.
    ///
    /// # Errors
    /// What the kernel says of the smallest.
    pub(super) fn map(event: &Event, bytes: usize, scratch: Vec<u8>) -> Result<Ring, Errno> {
        let page = page_size();
        let mut pages = bytes.checked_div(page).unwrap_or(0).max(1).next_power_of_two();
        let least = (pages >> 4).max(1);
        loop {
            match Ring::map_pages(event, page, pages) {
                Ok((base, mapped)) => {
                    let size = mapped.saturating_sub(page) as u64;
                    return Ok(Ring { base, mapped, data: page, size, scratch });
                }
                Err(error) if pages <= least => return Err(error),
                Err(_) => pages >>= 1,
            }
        }
    }

    fn map_pages(event: &Event, page: usize, pages: usize) -> Result<(NonNull<u8>, usize), Errno> {
        let length =
            pages.checked_add(1).and_then(|all| all.checked_mul(page)).ok_or(Errno::EINVAL)?;
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.raw(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        NonNull::new(base.cast::<u8>()).map(|base| (base, length)).ok_or(Errno::EINVAL)
    }

    /// Gives every record that is there to `take`. Returns `false` if one could not be: then what
    /// followed it is lost.
    pub(super) fn drain(&mut self, mut take: impl FnMut(RawRecord<'_>)) -> bool {
        // Pairs with the kernel's release of the bytes before the head (kernel/events/ring_buffer.c,
        // `perf_output_put_handle`).
        let head = self.head().load(Ordering::Acquire);
        let mut tail = self.tail().load(Ordering::Relaxed);
        let mut sound = head.wrapping_sub(tail) <= self.size;
        while sound && tail != head {
            let left = head.wrapping_sub(tail);
            self.copy(tail, HEADER.min(left));
            let Some((kind, misc, size)) = header(&self.scratch) else {
                sound = false;
                break;
            };
            if size < HEADER || size > left {
                sound = false;
                break;
            }
            self.copy(tail.wrapping_add(HEADER), size.saturating_sub(HEADER));
            take(RawRecord { kind, misc, body: &self.scratch });
            tail = tail.wrapping_add(size);
        }
        // The bytes are copied; the kernel may use their place again.
        self.tail().store(head, Ordering::Release);
        sound
    }

    /// Whether records came since the last [`Ring::drain`]: two reads of shared memory, no call.
    pub(super) fn has_news(&self) -> bool {
        self.head().load(Ordering::Acquire) != self.tail().load(Ordering::Relaxed)
    }

    /// Copies `length` bytes from position `from`, round the end, into `scratch`.
    fn copy(&mut self, from: u64, length: u64) {
        let length = usize::try_from(length.min(self.size)).unwrap_or(0).min(LONGEST);
        let size = usize::try_from(self.size).unwrap_or(1).max(1);
        let start = usize::try_from(from & self.size.saturating_sub(1)).unwrap_or(0);
        let first = length.min(size.saturating_sub(start));
        let rest = length.saturating_sub(first);
        self.scratch.clear();
        self.scratch.resize(length, 0);
        // SAFETY: `start + first <= size` and `rest <= size`, so both stretches lie in the ring;
        // `first + rest == length`, which `scratch` has just been given. The kernel does not write
        // between tail and head. The two never overlap: `scratch` is our own.
        unsafe {
            let data = self.base.as_ptr().add(self.data);
            let into = self.scratch.as_mut_ptr();
            std::ptr::copy_nonoverlapping(data.add(start), into, first);
            std::ptr::copy_nonoverlapping(data, into.add(first), rest);
        }
    }

    fn head(&self) -> &AtomicU64 {
        // SAFETY: the mapping begins with a `perf_event_mmap_page`, page-aligned, and lives as long
        // as `self`; head and tail are 64-bit words that both sides use as atomics.
        unsafe {
            let page = self.base.cast::<perf_event_mmap_page>().as_ptr();
            AtomicU64::from_ptr(&raw mut (*page).data_head)
        }
    }

    fn tail(&self) -> &AtomicU64 {
        // SAFETY: as for `head`.
        unsafe {
            let page = self.base.cast::<perf_event_mmap_page>().as_ptr();
            AtomicU64::from_ptr(&raw mut (*page).data_tail)
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: mapped by `map_pages` with this length, and nobody can use it after this.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}

/// Room for the longest record, so that draining allocates nothing.
pub(super) fn scratch() -> Vec<u8> {
    Vec::with_capacity(LONGEST)
}

/// `struct perf_event_header { u32 type; u16 misc; u16 size; }`.
fn header(bytes: &[u8]) -> Option<(u32, u16, u64)> {
    let (kind, rest) = bytes.split_first_chunk::<4>()?;
    let (misc, rest) = rest.split_first_chunk::<2>()?;
    let size = rest.first_chunk::<2>()?;
    Some((u32::from_ne_bytes(*kind), u16::from_ne_bytes(*misc), u16::from_ne_bytes(*size).into()))
}

fn page_size() -> usize {
    // SAFETY: takes a number, touches no memory.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).ok().filter(|size| size.is_power_of_two()).unwrap_or(4096)
}
