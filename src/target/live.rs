//! The memory of a running process, read through `process_vm_readv(2)`.
//!
//! Takes a pid, gives bytes. Never stops the process, never writes to it. One system call reads a
//! whole batch: pages and calls cost, bytes do not.

use std::cell::Cell;
use std::io::IoSliceMut;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd;

use super::memory::{ReadError, RemoteMemory, Span};
use crate::units::{Addr, Pid};

/// Most spans one `process_vm_readv` takes (`UIO_MAXIOV`, include/uapi/linux/uio.h).
const MAX_SPANS: usize = 1024;

/// Honest counts of what reading cost and how it failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadCounts {
    /// Spans asked for.
    pub reads: u64,
    /// Spans the kernel did not fill.
    pub failed: u64,
}

/// A running process's memory.
#[derive(Debug)]
pub struct LiveMemory {
    pid: unistd::Pid,
    reads: Cell<u64>,
    failed: Cell<u64>,
}

impl LiveMemory {
    /// The memory of `pid`. Nothing is opened or checked until the first read.
    #[must_use]
    pub fn new(pid: Pid) -> LiveMemory {
        LiveMemory { pid: unistd::Pid::from_raw(pid.0), reads: Cell::new(0), failed: Cell::new(0) }
    }

    /// What was read so far.
    #[must_use]
    pub fn counts(&self) -> ReadCounts {
        ReadCounts { reads: self.reads.get(), failed: self.failed.get() }
    }

    /// Fills a prefix of `spans`; returns how many bytes the kernel copied.
    fn transfer(&self, spans: &mut [Span<'_>]) -> Result<usize, ReadError> {
        let first = spans.first().map_or(Addr(0), |span| span.0);
        let mut remote: Vec<RemoteIoVec> = Vec::with_capacity(spans.len());
        let mut local = Vec::with_capacity(spans.len());
        for (addr, buf) in spans.iter_mut() {
            let Ok(base) = usize::try_from(addr.0) else { break };
            // What goes on where the last one ended is read with it: each stretch has its pages looked up.
            match remote.last_mut().filter(|last| last.base.checked_add(last.len) == Some(base)) {
                Some(last) => last.len = last.len.saturating_add(buf.len()),
                None => remote.push(RemoteIoVec { base, len: buf.len() }),
            }
            local.push(IoSliceMut::new(buf));
        }
        match process_vm_readv(self.pid, &mut local, &remote) {
            Ok(copied) => Ok(copied),
            Err(Errno::ESRCH) => Err(ReadError::Gone),
            Err(Errno::EPERM | Errno::EACCES | Errno::ENOSYS) => Err(ReadError::Denied),
            Err(_) => Err(ReadError::Unmapped(first)),
        }
    }

    fn count(&self, asked: usize, filled: usize) {
        self.reads.set(self.reads.get().saturating_add(asked as u64));
        self.failed.set(self.failed.get().saturating_add(asked.saturating_sub(filled) as u64));
    }
}

impl RemoteMemory for LiveMemory {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        if !addr.is_plausible() {
            // Not worth a system call; and the kernel would say the same.
            self.count(1, 0);
            return Err(ReadError::Unmapped(addr));
        }
        let wanted = buf.len();
        let copied = self.transfer(&mut [(addr, buf)]);
        self.count(1, usize::from(matches!(copied, Ok(n) if n == wanted)));
        if copied? == wanted { Ok(()) } else { Err(ReadError::Unmapped(addr)) }
    }

    fn read_batch(&self, spans: &mut [Span<'_>]) -> Result<usize, ReadError> {
        let mut done = 0_usize;
        for chunk in spans.chunks_mut(MAX_SPANS) {
            let lengths: Vec<usize> = chunk.iter().map(|span| span.1.len()).collect();
            let asked = chunk.len();
            let mut copied = match self.transfer(chunk) {
                Ok(copied) => copied,
                Err(error @ (ReadError::Gone | ReadError::Denied)) => {
                    self.count(asked, 0);
                    return Err(error);
                }
                Err(_) => 0,
            };
            // A partial transfer ends at a span's border or inside one; only whole spans count.
            let mut filled = 0_usize;
            for length in lengths {
                match copied.checked_sub(length) {
                    Some(rest) => copied = rest,
                    None => break,
                }
                filled = filled.saturating_add(1);
            }
            self.count(asked, filled);
            done = done.saturating_add(filled);
            if filled < asked {
                break;
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::RemoteMemoryExt;

    fn ourselves() -> LiveMemory {
        LiveMemory::new(Pid(std::process::id().cast_signed()))
    }

    #[test]
    fn reads_our_own_memory() {
        let word = Box::new(0x1122_3344_5566_7788_u64);
        let addr = Addr(std::ptr::from_ref(&*word) as u64);
        let memory = ourselves();
        assert_eq!(memory.read_u64(addr), Ok(0x1122_3344_5566_7788));
        assert_eq!(memory.counts(), ReadCounts { reads: 1, failed: 0 });
    }

    #[test]
    fn a_bad_pointer_is_an_error_and_not_a_crash() {
        let memory = ourselves();
        assert_eq!(memory.read_u64(Addr(16)), Err(ReadError::Unmapped(Addr(16))));
        assert_eq!(
            memory.read_u64(Addr(0x7fff_ffff_0000 << 2)),
            Err(ReadError::Unmapped(Addr(0x7fff_ffff_0000 << 2)))
        );
    }

    #[test]
    fn a_batch_gives_the_spans_before_the_bad_one() {
        let word = Box::new(7_u64);
        let good = Addr(std::ptr::from_ref(&*word) as u64);
        let (mut a, mut b, mut c) = ([0; 8], [0; 8], [0; 8]);
        let mut spans: [Span<'_>; 3] = [(good, &mut a), (Addr(16), &mut b), (good, &mut c)];
        let memory = ourselves();
        assert_eq!(memory.read_batch(&mut spans), Ok(1));
        assert_eq!(u64::from_le_bytes(a), 7);
        assert_eq!(memory.counts(), ReadCounts { reads: 3, failed: 2 });
    }

    #[test]
    fn spans_in_a_row_are_filled_each() {
        let words = Box::new([1_u64, 2, 3, 4]);
        let base = Addr(std::ptr::from_ref(&*words) as u64);
        let mut bufs = [[0; 8]; 4];
        let [first, second, fourth, again] = &mut bufs;
        let mut spans: [Span<'_>; 5] = [
            (base, first),
            (base.at(8), second),
            (base.at(24), fourth),
            (base, again),
            (Addr(16), &mut [0; 8]),
        ];
        let memory = ourselves();
        assert_eq!(memory.read_batch(&mut spans), Ok(4));
        assert_eq!(bufs.map(u64::from_le_bytes), [1, 2, 4, 1]);
        assert_eq!(memory.counts(), ReadCounts { reads: 5, failed: 1 });
    }

    #[test]
    fn what_cannot_be_read_is_left_out_of_many() {
        let words = Box::new([1_u64, 2, 3]);
        let base = Addr(std::ptr::from_ref(&*words) as u64);
        let memory = ourselves();
        let places = [Addr(16), base, Addr(16), Addr(24), base.at(16), base.at(8), Addr(32)];
        let each = memory.read_each(&places);
        assert_eq!(each, Ok(vec![None, Some(1), None, None, Some(3), Some(2), None]));
        assert_eq!(memory.read_each(&[]), Ok(Vec::new()));
    }

    #[test]
    fn a_dead_process_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = Pid(child.id().cast_signed());
        child.wait().unwrap();
        let memory = LiveMemory::new(pid);
        assert_eq!(memory.read_u64(Addr(0x10000)), Err(ReadError::Gone));
    }
}
