//! The C stack of a thread that runs: what the kernel copied of it while it did.
//!
//! Sampling is on only while a stall is being looked into, or all the time where the user asked for
//! whole C stacks, so that a healthy loop pays nothing. Where the kernel does not allow it, there
//! are no C stacks of running threads, and everything else goes on.

use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use crate::target::edges::{EdgesError, RawStackSample, StackSampler};
use crate::units::{Nanos, Tid, Timestamp};

/// A sample for so much time on a CPU, no more: one is there by the second look at a stall. Copying
/// one takes the kernel some 5 µs, half a percent of the thread's time while its stall lasts.
const SHORTEST: Nanos = Nanos::from_millis(1);

/// Takes samples of one thread.
#[derive(Debug, Default)]
pub struct Runner {
    stage: Stage,
    is_on: bool,
    period: Nanos,
}

#[derive(Debug, Default)]
enum Stage {
    /// Nobody asked yet.
    #[default]
    Idle,
    /// Being opened, by another thread: the kernel opens events one at a time, and waits for those
    /// that are being closed.
    Opening(Receiver<Result<StackSampler, EdgesError>>),
    Open(Box<StackSampler>),
    Refused,
}

impl Runner {
    /// Samples `tid` from now on, every `period` of its time on a CPU. What is not taken within
    /// [`StackSampler::ROOM`] periods is lost.
    pub fn switch_on(&mut self, tid: Tid, period: Nanos) {
        self.prepare(tid);
        let Stage::Open(sampler) = &mut self.stage else { return };
        if !self.is_on {
            // What is left of an earlier stall.
            let _ = sampler.drain();
            self.is_on = sampler.switch(true).is_ok();
        }
        let period = period.max(SHORTEST);
        if self.period != period && sampler.set_period(period).is_ok() {
            self.period = period;
        }
    }

    /// Whether samples are taken.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// No more samples.
    pub fn switch_off(&mut self) {
        if std::mem::take(&mut self.is_on)
            && let Stage::Open(sampler) = &self.stage
        {
            // It fails for a thread that has ended, and then it is off.
            let _ = sampler.switch(false);
        }
    }

    /// The latest sample taken after `since`, if there is one.
    pub fn latest(&mut self, since: Timestamp) -> Option<RawStackSample> {
        let Stage::Open(sampler) = &mut self.stage else { return None };
        if !self.is_on {
            return None;
        }
        sampler.drain().pop().filter(|sample| sample.at > since)
    }

    /// Opens what will be needed, so that it is there in time.
    pub fn prepare(&mut self, tid: Tid) {
        match &self.stage {
            Stage::Idle => self.stage = Stage::Opening(open(tid)),
            Stage::Opening(opened) => match opened.try_recv() {
                Ok(Ok(sampler)) => self.stage = Stage::Open(Box::new(sampler)),
                Ok(Err(_)) | Err(TryRecvError::Disconnected) => self.stage = Stage::Refused,
                Err(TryRecvError::Empty) => {}
            },
            Stage::Open(_) | Stage::Refused => {}
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let Stage::Open(sampler) = std::mem::take(&mut self.stage) {
            // Closing an event may wait for others that are being closed; nobody should wait for
            // that. Without a thread it is closed here, by dropping the closure.
            let close = move || drop(sampler);
            let _ = std::thread::Builder::new().name("stacks".to_owned()).spawn(close);
        }
    }
}

fn open(tid: Tid) -> Receiver<Result<StackSampler, EdgesError>> {
    let (give, take) = sync_channel(1);
    // Without a thread the channel is closed, which says as much.
    let _ = std::thread::Builder::new()
        .name("stacks".to_owned())
        .spawn(move || drop(give.send(StackSampler::open(tid, SHORTEST))));
    take
}
