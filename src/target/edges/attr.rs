//! What is asked of the kernel, as `perf_event_attr` (perf_event_open(2)): pure data.
//!
//! Every event is bound to one thread, leaves the kernel's own code out (so that it needs no
//! privilege at `perf_event_paranoid` 2), stamps with the clock of everything else here, and never
//! wakes us: rings are drained when we are awake anyway.

use nix::libc::CLOCK_MONOTONIC;
use perf_event_open_sys::bindings as sys;

/// The settings of one event.
pub(super) type Attr = sys::perf_event_attr;

/// A wake-up after so many bytes never comes: no ring of ours is as large.
const NEVER: u32 = 1 << 30;
/// Room for every register number any architecture has.
const REGISTER_BITS: u32 = 64;

/// The frame pointer, stack pointer and program counter, by their numbers in
/// `arch/x86/include/uapi/asm/perf_regs.h`: BP, SP, IP.
#[cfg(target_arch = "x86_64")]
const REGISTERS: [u32; 3] = [6, 7, 8];
/// The same in `arch/arm64/include/uapi/asm/perf_regs.h`: X29, SP, PC, and the link register
/// X30, in ascending order.
#[cfg(target_arch = "aarch64")]
const REGISTERS: [u32; 4] = [29, 30, 31, 32];
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const REGISTERS: [u32; 0] = [];

/// How many registers a stack sample carries.
pub(super) const REGISTER_COUNT: usize = REGISTERS.len();

fn base() -> Attr {
    let mut attr = Attr {
        size: u32::try_from(size_of::<Attr>()).unwrap_or(0),
        sample_type: u64::from(sys::PERF_SAMPLE_IDENTIFIER | sys::PERF_SAMPLE_TIME),
        clockid: CLOCK_MONOTONIC,
        ..Attr::default()
    };
    attr.set_exclude_kernel(1);
    attr.set_use_clockid(1);
    attr.set_watermark(1);
    attr.__bindgen_anon_2.wakeup_watermark = NEVER;
    attr
}

/// Counts nothing itself; owns the ring, and tells of every time the thread is put on or off a CPU,
/// of its end, of threads and children it starts, and of `exec`.
pub(super) fn owner() -> Attr {
    let mut attr = base();
    attr.type_ = sys::PERF_TYPE_SOFTWARE;
    attr.config = u64::from(sys::PERF_COUNT_SW_DUMMY);
    attr.set_context_switch(1);
    attr.set_task(1);
    attr.set_comm(1);
    attr.set_comm_exec(1);
    attr.set_sample_id_all(1);
    attr
}

/// One record each time the thread passes this tracepoint.
pub(super) fn tracepoint(id: u64) -> Attr {
    let mut attr = base();
    attr.type_ = sys::PERF_TYPE_TRACEPOINT;
    attr.config = id;
    attr.__bindgen_anon_1.sample_period = 1;
    attr
}

/// The same with the record's own fields, not yet switched on: for finding out what `id` is.
pub(super) fn unknown_tracepoint(id: u64) -> Attr {
    let mut attr = tracepoint(id);
    attr.sample_type |= u64::from(sys::PERF_SAMPLE_RAW);
    attr.set_disabled(1);
    attr
}

/// Registers and the top `stack` bytes of the stack, every `period` nanoseconds the thread spends
/// on a CPU; not yet switched on.
pub(super) fn stacks(period: u64, stack: u32) -> Attr {
    let mut attr = base();
    attr.type_ = sys::PERF_TYPE_SOFTWARE;
    attr.config = u64::from(sys::PERF_COUNT_SW_CPU_CLOCK);
    attr.__bindgen_anon_1.sample_period = period;
    attr.sample_type |= u64::from(sys::PERF_SAMPLE_REGS_USER | sys::PERF_SAMPLE_STACK_USER);
    attr.sample_regs_user = register_mask();
    attr.sample_stack_user = stack;
    attr.set_disabled(1);
    attr
}

fn register_mask() -> u64 {
    let bits = REGISTERS.iter().filter(|bit| **bit < REGISTER_BITS);
    bits.fold(0, |mask, bit| mask | 1u64.wrapping_shl(*bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_leaves_the_kernel_out_and_wakes_nobody() {
        for attr in [owner(), tracepoint(7), unknown_tracepoint(7), stacks(1_000_000, 16 << 10)] {
            assert_eq!(attr.exclude_kernel(), 1);
            assert_eq!((attr.use_clockid(), attr.clockid), (1, CLOCK_MONOTONIC));
            assert_eq!(attr.inherit(), 0);
            assert_eq!(attr.watermark(), 1);
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_three_registers_an_unwinder_needs() {
        assert_eq!(register_mask(), 0x1c0);
    }
}
