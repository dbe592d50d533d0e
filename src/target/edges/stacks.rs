//! Native stacks of a thread while it computes: its registers and the top of its stack, as the
//! kernel copies them from time to time, without a pause.
//!
//! Switched on only while a stall lasts, so that a healthy loop pays nothing. What is copied is
//! raw; unwinding it is another part's work.

use super::EdgesError;
use super::attr::{self, REGISTER_COUNT};
use super::event::Event;
use super::ids;
use super::record::{Record, decode, word};
use super::ring::{Ring, scratch};
use crate::units::{Addr, Nanos, Tid, Timestamp};

/// Bytes of stack in one sample: unwinding took fewer than 8 KiB for 50 frames (measured).
const STACK: u32 = 16 << 10;
/// Room for seven samples.
const RING: usize = 128 << 10;
/// Sampled no more often than this, or the thread would do little else.
const SHORTEST: Nanos = Nanos::from_micros(100);
/// Most samples given at a time.
const MOST: usize = 32;

/// One moment of a thread that was on a CPU in user mode or in a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawStackSample {
    /// When.
    pub at: Timestamp,
    /// The program counter.
    pub pc: Addr,
    /// The stack pointer, where `bytes` begin.
    pub sp: Addr,
    /// The frame pointer register, whatever it is used for.
    pub fp: Addr,
    /// The link register, on machines that have one.
    pub lr: Option<Addr>,
    /// The stack from `sp` upwards, 16 KiB at most.
    pub bytes: Vec<u8>,
}

/// Takes stack samples of one thread.
#[derive(Debug)]
pub struct StackSampler {
    ring: Ring,
    event: Event,
}

impl StackSampler {
    /// So many samples fit in before they are taken; later ones are lost.
    pub const ROOM: u64 = (RING / (STACK as usize + 256)) as u64;

    /// Prepares to sample thread `tid` every `period` of its time on a CPU. Off until
    /// [`StackSampler::switch`].
    ///
    /// # Errors
    /// See [`EdgesError`].
    pub fn open(tid: Tid, period: Nanos) -> Result<StackSampler, EdgesError> {
        if REGISTER_COUNT == 0 {
            return Err(EdgesError::Missing);
        }
        if ids::is_unwanted() {
            return Err(EdgesError::Unwanted);
        }
        let event = Event::open(attr::stacks(period.max(SHORTEST).0, STACK), tid)?;
        let ring = Ring::map(&event, RING, scratch())?;
        Ok(StackSampler { ring, event })
    }

    /// Switches sampling on or off.
    ///
    /// # Errors
    /// See [`EdgesError`].
    pub fn switch(&self, on: bool) -> Result<(), EdgesError> {
        Ok(self.event.switch(on)?)
    }

    /// From now on takes a sample every `period` of the thread's time on a CPU.
    ///
    /// # Errors
    /// See [`EdgesError`].
    pub fn set_period(&self, period: Nanos) -> Result<(), EdgesError> {
        Ok(self.event.set_period(period.max(SHORTEST).0)?)
    }

    /// What was sampled since the last time, oldest first, at most 32 samples; more are dropped.
    pub fn drain(&mut self) -> Vec<RawStackSample> {
        let mut samples = Vec::new();
        self.ring.drain(|raw| {
            if samples.len() < MOST
                && let Some(Record::Sample { time, rest, .. }) = decode(raw)
            {
                samples.extend(parse(time, rest));
            }
        });
        samples
    }
}

/// `u64 abi; u64 regs[]; u64 size; u8 data[size]; u64 dyn_size;`, the two parts of
/// `PERF_SAMPLE_REGS_USER` and `PERF_SAMPLE_STACK_USER`. `None` without registers (a kernel thread,
/// a thread that has given up its memory) and for what is cut short.
fn parse(at: Timestamp, rest: &[u8]) -> Option<RawStackSample> {
    let (abi, mut rest) = word(rest)?;
    if abi == 0 {
        return None;
    }
    let mut registers = [0u64; REGISTER_COUNT];
    for register in &mut registers {
        (*register, rest) = word(rest)?;
    }
    let (size, rest) = word(rest)?;
    let size = usize::try_from(size).ok()?;
    let data = rest.get(..size)?;
    let filled = match word(rest.get(size..)?) {
        Some((filled, _)) => usize::try_from(filled).ok()?.min(size),
        None => 0,
    };
    let (fp, lr, sp, pc) = by_name(&registers)?;
    Some(RawStackSample { at, pc, sp, fp, lr, bytes: data.get(..filled)?.to_vec() })
}

/// The frame pointer, link register, stack pointer and program counter, from the ascending order
/// the kernel writes them in.
fn by_name(registers: &[u64]) -> Option<(Addr, Option<Addr>, Addr, Addr)> {
    match *registers {
        [fp, sp, pc] => Some((Addr(fp), None, Addr(sp), Addr(pc))),
        [fp, lr, sp, pc] => Some((Addr(fp), Some(Addr(lr)), Addr(sp), Addr(pc))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn our_own_thread_is_sampled_while_it_computes() {
        // Not in every sandbox may perf be used.
        let Ok(mut sampler) = StackSampler::open(Tid(0), Nanos::from_micros(500)) else { return };
        sampler.switch(true).unwrap();
        let mut sum = 0u64;
        let mut samples = Vec::new();
        for round in 0..200u64 {
            for number in 0..100_000u64 {
                sum = std::hint::black_box(sum ^ number.wrapping_mul(round));
            }
            samples.extend(sampler.drain());
        }
        sampler.switch(false).unwrap();
        let _ = sampler.drain();
        assert!(samples.len() >= 3, "{}", samples.len());
        for sample in &samples {
            assert!(sample.pc.is_plausible() && sample.sp.is_plausible(), "{:?}", sample.pc);
            assert!(!sample.bytes.is_empty() && sample.bytes.len() <= STACK as usize);
        }
        assert!(sampler.drain().is_empty());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(Timestamp(1), &bytes);
        }

        #[test]
        fn sizes_that_lie_never_panic(size in any::<u64>(), filled in any::<u64>()) {
            let mut bytes: Vec<u8> = Vec::new();
            bytes.extend(1u64.to_ne_bytes());
            bytes.extend([7; 8 * REGISTER_COUNT]);
            bytes.extend(size.to_ne_bytes());
            bytes.extend([9; 16]);
            bytes.extend(filled.to_ne_bytes());
            if let Some(sample) = parse(Timestamp(1), &bytes) {
                prop_assert!(sample.bytes.len() <= 24);
            }
        }
    }
}
