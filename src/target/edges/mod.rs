//! Exact edges: the kernel's own record of when a thread left its poll and entered it again.
//!
//! Takes a thread and the call it polls with, gives [`Outing`]s with their time on and off a CPU.
//! Uses perf events bound to that one thread (perf_event_open(2)): nothing is paused, nothing is
//! loaded into the kernel, and where the kernel does not let us, it says so and all goes on without.
//! Knows nothing of loops or stalls.
//!
//! While any tracepoint of a system call is open anywhere, every system call of every process takes
//! the kernel's slow path: some 0.1 µs more (measured). So they are open only while we watch.

mod attr;
mod cache;
mod calibrate;
mod event;
pub mod ids;
pub mod pairing;
mod record;
mod ring;
pub mod stacks;

use std::ffi::CString;

use nix::errno::Errno;

use self::event::Event;
use self::ids::POLL_CALLS;
pub use self::ids::{CallIds, IdSource, Tracepoints};
pub use self::pairing::{Edge, Outing, Pairing, Whereabouts};
use self::record::{Record, decode};
use self::ring::{RawRecord, Ring, scratch};
pub use self::stacks::{RawStackSample, StackSampler};
use super::syscalls;
use crate::units::{Tid, Timestamp};

/// Room for 10 ms of a loop of 500,000 iterations a second, within what a user may lock in memory
/// by default (`kernel.perf_event_mlock_kb`, 516 KiB a CPU).
const RING: usize = 256 << 10;

/// Why there are no edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EdgesError {
    /// The environment variable `STALLSPY_NO_PERF` says to do without.
    #[error("STALLSPY_NO_PERF is set")]
    Unwanted,
    /// No right to: `kernel.perf_event_paranoid`, another user's process, a seccomp filter.
    #[error("the kernel does not allow perf events")]
    Denied,
    /// This kernel or machine has no such events.
    #[error("the kernel has no such perf events")]
    Missing,
    /// The tracepoints' numbers could not be learnt.
    #[error("{0}")]
    NoIds(&'static str),
    /// The thread has ended.
    #[error("the thread has ended")]
    Gone,
    /// Anything else the kernel says: too many open files, too little memory to lock.
    #[error("perf events failed: {0}")]
    Failed(Errno),
}

impl From<Errno> for EdgesError {
    fn from(errno: Errno) -> EdgesError {
        match errno {
            Errno::EACCES | Errno::EPERM => EdgesError::Denied,
            // A seccomp filter may answer ENOSYS as well.
            Errno::ENOSYS | Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP | Errno::E2BIG => {
                EdgesError::Missing
            }
            Errno::ESRCH => EdgesError::Gone,
            other => EdgesError::Failed(other),
        }
    }
}

/// The call a loop's thread sleeps in when it has nothing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollCall {
    /// Its names: one once the thread was seen in it, more while it can only be guessed.
    pub names: Vec<&'static str>,
    /// The epoll descriptor, for calls that take one: others are polled by callbacks.
    pub epfd: Option<i32>,
}

impl PollCall {
    /// The poll that a thread seen in this call is in; `None` if it is none an event loop uses.
    #[must_use]
    pub fn seen(nr: u64, args: [u64; 6]) -> Option<PollCall> {
        let name = syscalls::name(nr)?;
        let name = POLL_CALLS.into_iter().find(|call| *call == name)?;
        let [first, ..] = args;
        // A register holds the descriptor's low half, as in `is_epoll`'s calls.
        let epfd = is_epoll(name).then(|| i32::try_from(first & 0xffff_ffff).ok()).flatten();
        (epfd.is_some() || !is_epoll(name)).then(|| PollCall { names: vec![name], epfd })
    }

    /// The poll of a thread whose process has this one epoll descriptor, though it was never seen
    /// in it: it is too busy.
    #[must_use]
    pub fn guessed(epfd: i32) -> PollCall {
        let names = POLL_CALLS.into_iter().filter(|call| is_epoll(call)).collect();
        PollCall { names, epfd: Some(epfd) }
    }

    /// Whether a thread seen in this call is in this poll.
    #[must_use]
    pub fn is(&self, nr: u64, args: [u64; 6]) -> bool {
        PollCall::seen(nr, args).is_some_and(|seen| {
            seen.epfd == self.epfd && seen.names.iter().all(|name| self.names.contains(name))
        })
    }
}

fn is_epoll(call: &str) -> bool {
    call.starts_with("epoll")
}

/// What an event's records mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Enter,
    Exit,
}

/// The edges of one thread, as they come.
#[derive(Debug)]
pub struct Edges {
    tid: Tid,
    ring: Option<Ring>,
    /// The ring's owner and the tracepoints.
    events: Vec<Event>,
    roles: Vec<(u64, Role)>,
    pairing: Pairing,
    lost: u64,
    seen: u64,
}

impl Edges {
    /// Begins to record the edges of thread `tid`.
    ///
    /// # Errors
    /// See [`EdgesError`]; nothing is left open then.
    pub fn open(tid: Tid, poll: &PollCall, points: &Tracepoints) -> Result<Edges, EdgesError> {
        let owner = Event::open(attr::owner(), tid)?;
        let ring = Ring::map(&owner, RING, scratch())?;
        let mut edges = Edges {
            tid,
            ring: Some(ring),
            events: vec![owner],
            roles: Vec::new(),
            pairing: Pairing::default(),
            lost: 0,
            seen: 0,
        };
        for name in &poll.names {
            let Some(ids) = points.of(name) else { continue };
            edges.add(ids.enter, Role::Enter, poll.epfd)?;
            edges.add(ids.exit, Role::Exit, None)?;
        }
        if edges.roles.is_empty() {
            return Err(EdgesError::Missing);
        }
        Ok(edges)
    }

    fn add(&mut self, id: u64, role: Role, epfd: Option<i32>) -> Result<(), EdgesError> {
        let event = Event::open(attr::tracepoint(id), self.tid)?;
        if let Some(epfd) = epfd
            && let Ok(filter) = CString::new(format!("epfd == {epfd}"))
        {
            // An event without this field is not the one we take it for.
            event.set_filter(&filter).map_err(|_| EdgesError::NoIds("a number was wrong"))?;
        }
        if let Some(owner) = self.events.first() {
            event.send_to(owner)?;
        }
        self.roles.push((event.id, role));
        self.events.push(event);
        Ok(())
    }

    /// Takes what was recorded since the last time; each outing that ended goes to `take`.
    pub fn drain(&mut self, mut take: impl FnMut(Outing)) {
        let Some(ring) = &mut self.ring else { return };
        let (tid, roles, pairing) = (self.tid, &self.roles, &mut self.pairing);
        let (lost, seen) = (&mut self.lost, &mut self.seen);
        let sound = ring.drain(|raw| {
            let Some(edge) = edge(raw, tid, roles, lost) else { return };
            if matches!(edge, Edge::Entered(_) | Edge::Left(_)) {
                *seen = seen.saturating_add(1);
            }
            if let Some(outing) = pairing.feed(edge) {
                take(outing);
            }
        });
        if !sound {
            self.lost = self.lost.saturating_add(1);
            self.pairing.forget();
        }
    }

    /// Whether nothing was recorded since the last [`Edges::drain`]. Then the thread has not been put
    /// on a CPU since: the kernel records that before it lets the thread go on
    /// (`perf_event_task_sched_in`, kernel/events/core.c), and no BPF program can hold back a record
    /// that is of no tracepoint. Costs no system call.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.ring.as_ref().is_some_and(|ring| !ring.has_news())
    }

    /// Where the thread was at the last [`Edges::drain`].
    #[must_use]
    pub fn whereabouts(&self) -> Whereabouts {
        self.pairing.whereabouts()
    }

    /// Whether at the last [`Edges::drain`] the thread slept in its poll: see
    /// [`Pairing::is_asleep_inside`].
    #[must_use]
    pub fn is_asleep_inside(&self) -> bool {
        self.pairing.is_asleep_inside()
    }

    /// Whether the thread, out of its poll, had no CPU at the last [`Edges::drain`].
    #[must_use]
    pub fn is_off_cpu(&self) -> bool {
        self.pairing.is_off_cpu()
    }

    /// Something else has shown that the thread is in its poll: see [`Pairing::assume_inside`].
    pub fn assume_inside(&mut self, at: Timestamp) {
        self.pairing.assume_inside(at);
    }

    /// Records that the kernel had no room for.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Entries and exits recorded.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }
}

impl Drop for Edges {
    fn drop(&mut self) {
        let ring = self.ring.take();
        let events = std::mem::take(&mut self.events);
        // Each close waits some 30 ms for the kernel; nobody should wait for that.
        let close = move || drop((ring, events));
        // Without a thread they were closed here, by dropping the closure.
        let _ = std::thread::Builder::new().name("edges".to_owned()).spawn(close);
    }
}

/// What a record means for the thread.
fn edge(raw: RawRecord<'_>, tid: Tid, roles: &[(u64, Role)], lost: &mut u64) -> Option<Edge> {
    match decode(raw)? {
        Record::Sample { id, time, .. } => {
            let (_, role) = roles.iter().find(|(event, _)| *event == id)?;
            Some(match role {
                Role::Enter => Edge::Entered(time),
                Role::Exit => Edge::Left(time),
            })
        }
        Record::SwitchedOut { time, preempted } => Some(Edge::SwitchedOut { at: time, preempted }),
        Record::SwitchedIn { time } => Some(Edge::SwitchedIn(time)),
        Record::Lost { records, time } => {
            *lost = lost.saturating_add(records);
            Some(Edge::Lost(time))
        }
        Record::Ended { tid: ended, time } => (ended == tid).then_some(Edge::Ended(time)),
        Record::Exec { time } => Some(Edge::Ended(time)),
        Record::Started { .. } | Record::Other => None,
    }
}

#[cfg(test)]
mod tests;
