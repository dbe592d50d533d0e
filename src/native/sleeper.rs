//! The C stack of a thread that sleeps, without stopping it.
//!
//! The kernel tells where a sleeping thread is (`/proc/PID/task/TID/syscall`), and as long as it
//! sleeps its stack does not change. That it slept on while the stack was read is proved afterwards:
//! the same line, and no run since (`schedstat`). What cannot be proved is thrown away.

use super::binaries::Binaries;
use super::registers::Registers;
use super::space::AddressSpace;
use super::unwind::{End, StackBytes, Trace};
use crate::target::{ProcFs, RemoteMemory, Span, SyscallState, ThreadFiles};
use crate::units::{Addr, Timestamp};

/// Most bytes of a stack copied. A thread's C stack has some 10 KiB in use; up to 3.10 deep Python
/// recursion takes half a KiB a frame, and what is beyond this is far from the leaf.
pub const MOST: u64 = 128 << 10;
/// What is read at a time: the smallest page any supported kernel has.
const PAGE: u64 = 4096;

/// The stack of a thread; `None` if it does not sleep, ran meanwhile or cannot be read.
pub fn sleeper(
    files: &ThreadFiles,
    procfs: &ProcFs,
    memory: &dyn RemoteMemory,
    space: &mut AddressSpace,
    binaries: &mut Binaries,
    now: Timestamp,
) -> Option<Trace> {
    let runs = files.runs();
    let state = files.syscall();
    let (sp, pc) = match state {
        SyscallState::Blocked { sp, pc, .. } | SyscallState::BlockedOutside { sp, pc } => (sp, pc),
        _ => return None,
    };
    let end = space.stack_end(procfs, sp, now)?;
    let bytes = copy(memory, sp, end)?;
    if files.syscall() != state || files.runs() != runs {
        return None;
    }
    let length = u64::try_from(bytes.len()).ok()?;
    if length < end.0.saturating_sub(sp.0).min(MOST) {
        space.ends_at(sp, sp.at(length));
    }
    let stack = StackBytes { base: sp.0, bytes: &bytes };
    let trace = space.walk(Registers::at_rest(pc, sp), &stack, procfs, memory, binaries, now);
    if trace.end == End::Cut {
        // Another stack may lie there now, which is longer.
        space.forget_stacks(now);
    }
    Some(trace)
}

/// As much of a stack as can be read, up to `end`. A mapping may hold several stacks with pages
/// between them that cannot be read and show in no map (`MADV_GUARD_INSTALL`, which glibc 2.42 uses
/// on Linux 6.13 and later), so it is read page by page, in one call.
fn copy(memory: &dyn RemoteMemory, sp: Addr, end: Addr) -> Option<Vec<u8>> {
    let length = end.0.checked_sub(sp.0)?.min(MOST);
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    let to_page = PAGE.checked_sub(sp.0.checked_rem(PAGE)?)?.min(length);
    let (first, rest) = bytes.split_at_mut_checked(usize::try_from(to_page).ok()?)?;
    let mut spans: Vec<Span<'_>> = vec![(sp, first)];
    let pages = (0_u64..).map(|page| sp.at(to_page).at(page.saturating_mul(PAGE)));
    spans.extend(pages.zip(rest.chunks_mut(usize::try_from(PAGE).ok()?)));
    let filled = memory.read_batch(&mut spans).ok()?;
    let length: usize = spans.iter().take(filled).map(|(_, span)| span.len()).sum();
    bytes.truncate(length);
    (length > 0).then_some(bytes)
}
