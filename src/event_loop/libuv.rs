//! libuv's loop: `uv_loop_t`, its clock, and what one look after another says of its iterations.
//!
//! libuv takes the time when its poll returns, before it runs timers, and whenever somebody asks for
//! it, in whole milliseconds; from 1.45 on it counts its polls, just before each. So from one poll to
//! the next the count stands still, and the earliest time seen with it is when the poll was left. Knows
//! nothing of Python. <https://github.com/libuv/libuv/blob/v1.48.0/src/unix/core.c#L427>

use super::Running;
use crate::layout::{LIBUV, LIBUV_SPAN};
use crate::target::{Fields, ProcFs, ReadError, RemoteMemory, RemoteMemoryExt};
use crate::units::{Addr, Bounds, Nanos, Pid, Timestamp};

/// A step of libuv's clock, which it rounds down to.
const STEP: Nanos = Nanos::from_millis(1);
/// libuv reads the kernel's coarse clock where that one's steps are no longer than this, and may then
/// be as much behind (`uv__hrtime`, src/unix/linux.c).
const MAX_COARSE: Nanos = Nanos::from_millis(1);
/// How far a stamp may lie ahead of the look: a look takes microseconds, and clocks do not differ.
const MAX_AHEAD: Nanos = Nanos::from_millis(1);
/// A loop that was found asleep may have been so for this long.
const MAX_AGE: Nanos = Nanos::from_secs(365 * 86_400);
/// The first stamp seen of a running iteration may be this old: longer ones are not told from garbage.
const MAX_FIRST_AGE: Nanos = Nanos::from_secs(3600);

/// One `uv_loop_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UvLoop {
    /// Where it lies.
    pub addr: Addr,
    /// Where it keeps its private fields.
    pub internal: Addr,
    /// The epoll set that it polls.
    pub epoll: i32,
}

/// What a `uv_loop_t` showed at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UvTime {
    /// Its clock, on the host's `CLOCK_MONOTONIC`.
    pub time: Timestamp,
    /// How often it has polled, where it counts that.
    pub count: Option<u64>,
}

impl UvLoop {
    /// The loop at `addr`, whose `data` must be `owner`; `None` if there is none, or one that cannot be
    /// what it seems: its descriptor must be an epoll set, its clock a time that was.
    ///
    /// # Errors
    /// Only [`ReadError::Gone`] and [`ReadError::Denied`].
    pub fn at(
        memory: &dyn RemoteMemory,
        (procfs, pid): (&ProcFs, Pid),
        addr: Addr,
        owner: Addr,
        (now, clock_offset): (Timestamp, i64),
    ) -> Result<Option<UvLoop>, ReadError> {
        let bytes = match memory.read_vec(addr, LIBUV_SPAN) {
            Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
            Err(_) => return Ok(None),
            Ok(bytes) => bytes,
        };
        let fields = Fields(&bytes);
        let internal = fields.pointer(LIBUV.internal_fields)?;
        let epoll = fields.u32(LIBUV.backend_fd)?.cast_signed();
        if fields.pointer(LIBUV.data)? != owner || !internal.is_plausible() {
            return Ok(None);
        }
        let Some(time) = to_timestamp(fields.u64(LIBUV.time)?, clock_offset) else {
            return Ok(None);
        };
        let sane = time <= now + MAX_AHEAD && now.since(time) < MAX_AGE;
        let polls = || procfs.epolls(pid).is_ok_and(|sets| sets.contains(&epoll));
        Ok((sane && polls()).then_some(UvLoop { addr, internal, epoll }))
    }

    /// What to read at a look: the loop's first bytes, and its count.
    #[must_use]
    pub fn count_at(&self) -> Addr {
        self.internal.at(LIBUV.loop_count)
    }

    /// What the bytes read at [`UvLoop::addr`] and the word at [`UvLoop::count_at`] say; `None` if they
    /// are not this loop's.
    #[must_use]
    pub fn decode(
        &self,
        bytes: &[u8],
        count: u64,
        owner: Addr,
        clock_offset: i64,
    ) -> Option<UvTime> {
        let fields = Fields(bytes);
        let is_mine = fields.pointer(LIBUV.data).ok()? == owner
            && fields.pointer(LIBUV.internal_fields).ok()? == self.internal;
        let time = to_timestamp(fields.u64(LIBUV.time).ok()?, clock_offset)?;
        is_mine.then_some(UvTime { time, count: (count > 0).then_some(count) })
    }
}

/// libuv's time in ms as a time on the host's clock.
fn to_timestamp(ms: u64, clock_offset: i64) -> Option<Timestamp> {
    let nanos = ms.checked_mul(1_000_000)?;
    nanos.checked_add_signed(clock_offset.checked_neg()?).map(Timestamp)
}

/// How a look found the loop's thread, beside what the loop's memory says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thread {
    /// Asleep in the loop's poll.
    InPoll,
    /// It runs Python, or sleeps in a call that is no poll: callbacks run.
    Out,
    /// It is awake, and not in Python: in C code of a callback, or of the loop itself just before its
    /// poll or after.
    Between,
}

/// What the looks so far say of the running iteration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Iterations {
    /// When it was last seen in its poll, and what it showed.
    polled: Option<(Timestamp, UvTime)>,
    now: Option<Iteration>,
    /// The latest time seen. It never goes back.
    latest: Option<Timestamp>,
    /// How much its clock may be behind.
    behind: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct Iteration {
    seen: UvTime,
    began: Bounds<Timestamp>,
    /// Whether it certainly left its poll: else it may have been about to enter it.
    left: bool,
}

/// What a look at an iteration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// In its poll, or on the way out.
    Polling,
    /// Callbacks run since then; with the iteration's number where there is one.
    Running(Bounds<Timestamp>, Option<u64>),
    /// Callbacks run since then, or it is about to poll or just back.
    Between(Bounds<Timestamp>),
    /// What was read cannot be.
    Torn,
}

impl Iterations {
    /// Of a loop on a kernel whose coarse clock has these steps.
    #[must_use]
    pub fn new(coarse_step: Nanos) -> Iterations {
        let behind = if coarse_step <= MAX_COARSE { coarse_step } else { Nanos::ZERO };
        Iterations { behind, ..Iterations::default() }
    }

    /// Takes a look that was begun at `at`.
    pub fn see(&mut self, seen: UvTime, thread: Thread, at: Timestamp) -> Step {
        let earliest = self.latest.unwrap_or_else(|| match thread {
            Thread::InPoll => at.before(MAX_AGE),
            _ => at.before(MAX_FIRST_AGE),
        });
        if seen.time < earliest || seen.time > at + MAX_AHEAD {
            return Step::Torn;
        }
        self.latest = Some(seen.time);
        let left = match thread {
            Thread::InPoll => {
                self.polled = Some((at, seen));
                self.now = None;
                return Step::Polling;
            }
            Thread::Between if self.polled.is_some_and(|(_, polled)| polled == seen) => {
                return Step::Polling;
            }
            Thread::Between => self.has_left(seen),
            Thread::Out => true,
        };
        let known = self.now.filter(|now| now.is_same(seen));
        let began = known.map_or_else(|| self.began(seen, at), |now| now.began);
        let left = left || known.is_some_and(|now| now.left);
        self.now = Some(Iteration { seen: known.map_or(seen, |now| now.seen), began, left });
        if left { Step::Running(began, seen.count) } else { Step::Between(began) }
    }

    /// The thread sleeps in its poll at `at`, whatever it did since the last look. Returns whether that
    /// is enough: not before a look has met it there.
    pub fn sleeps_in_poll(&mut self, at: Timestamp) -> bool {
        let Some((last, _)) = &mut self.polled else { return false };
        *last = at.max(*last);
        self.now = None;
        true
    }

    /// Whether the poll that `seen` counted last is over: the time was taken since it was counted.
    fn has_left(&self, seen: UvTime) -> bool {
        let before = |earlier: UvTime| {
            earlier.count.is_some() && earlier.count == seen.count && earlier.time < seen.time
        };
        self.polled.is_some_and(|(_, polled)| before(polled))
            || self.now.is_some_and(|now| before(now.seen))
    }

    /// When an iteration first seen now left its poll.
    fn began(&self, seen: UvTime, at: Timestamp) -> Bounds<Timestamp> {
        let polled = self.polled.map_or(seen.time, |(at, _)| at);
        let lo = seen.time.max(polled);
        let hi = seen.time + STEP + self.behind;
        // A stamp from before its poll says nothing: it has not been set since.
        let hi = if hi < lo { at } else { hi.min(at) };
        Bounds { lo: lo.min(hi), hi }
    }
}

impl Iteration {
    /// Whether a later look shows this iteration still.
    fn is_same(&self, seen: UvTime) -> bool {
        match (self.seen.count, seen.count) {
            // Its time may have been set since, by whoever asked for it.
            (Some(before), Some(now)) => {
                before == now && (self.left || self.seen.time == seen.time)
            }
            _ => self.seen.time == seen.time,
        }
    }
}

/// The reading that a step is, with what tells this callback from others.
impl Step {
    /// `identity` tells this callback from others.
    #[must_use]
    pub fn reading(self, identity: [Addr; 3]) -> super::Reading {
        match self {
            Step::Polling => super::Reading::Polling,
            Step::Running(began, iteration) => {
                super::Reading::Running(Running { began, iteration, identity })
            }
            Step::Between(began) => {
                super::Reading::Between(Running { began, iteration: None, identity })
            }
            Step::Torn => super::Reading::Torn,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(us: u64) -> Timestamp {
        Timestamp(10_000_000_000 + us * 1_000)
    }

    /// A look: at this µs, this whole ms on the loop's clock, this count, this state.
    fn see(all: &mut Iterations, at: u64, ms: u64, count: u64, thread: Thread) -> Step {
        let count = (count > 0).then_some(count);
        all.see(UvTime { time: us(ms * 1_000), count }, thread, us(at))
    }

    fn running(lo: u64, hi: u64, count: Option<u64>) -> Step {
        Step::Running(Bounds { lo: us(lo), hi: us(hi) }, count)
    }

    #[test]
    fn the_earliest_time_with_a_count_is_the_start() {
        let mut all = Iterations::default();
        assert_eq!(see(&mut all, 50_000, 40, 7, Thread::InPoll), Step::Polling);
        let step = running(60_000, 61_000, Some(7));
        assert_eq!(see(&mut all, 65_000, 60, 7, Thread::Out), step);
        // A callback asked for the time.
        assert_eq!(see(&mut all, 72_000, 71, 7, Thread::Out), step);
        assert_eq!(see(&mut all, 80_000, 71, 7, Thread::Between), step);
        // The next poll, the next iteration.
        assert_eq!(see(&mut all, 90_000, 85, 8, Thread::Out), running(85_000, 86_000, Some(8)));
    }

    #[test]
    fn a_loop_about_to_poll_has_not_begun() {
        let mut all = Iterations::default();
        see(&mut all, 50_000, 40, 7, Thread::Out);
        // It has counted, and is not in its call yet.
        let between = Step::Between(Bounds { lo: us(40_000), hi: us(41_000) });
        assert_eq!(see(&mut all, 51_000, 40, 8, Thread::Between), between);
        // Nor has it when it is woken, and has not taken the time yet.
        assert_eq!(see(&mut all, 451_000, 40, 8, Thread::Between), between);
        // It slept for 400 ms: what runs now began after that, though the count is the same.
        let step = running(451_000, 452_000, Some(8));
        assert_eq!(see(&mut all, 452_000, 451, 8, Thread::Out), step);
    }

    #[test]
    fn a_stamp_from_before_the_poll_is_no_start() {
        let mut all = Iterations::default();
        see(&mut all, 500_000, 40, 7, Thread::InPoll);
        assert_eq!(see(&mut all, 501_000, 40, 7, Thread::Between), Step::Polling);
        // It waits for the interpreter lock before it has taken the time.
        assert_eq!(see(&mut all, 502_000, 40, 7, Thread::Out), running(500_000, 502_000, Some(7)));
        assert_eq!(see(&mut all, 520_000, 40, 7, Thread::Out), running(500_000, 502_000, Some(7)));
    }

    #[test]
    fn c_code_runs_once_the_time_was_taken() {
        let mut all = Iterations::default();
        see(&mut all, 50_000, 40, 7, Thread::InPoll);
        let step = running(60_000, 61_000, Some(7));
        assert_eq!(see(&mut all, 65_000, 60, 7, Thread::Between), step);
        assert_eq!(see(&mut all, 75_000, 60, 7, Thread::Between), step);
    }

    #[test]
    fn without_a_count_the_time_names_it() {
        let mut all = Iterations::default();
        assert_eq!(see(&mut all, 65_000, 60, 0, Thread::Out), running(60_000, 61_000, None));
        assert_eq!(see(&mut all, 80_000, 60, 0, Thread::Out), running(60_000, 61_000, None));
        assert_eq!(see(&mut all, 99_000, 98, 0, Thread::Out), running(98_000, 99_000, None));
    }

    #[test]
    fn times_never_go_back_nor_ahead() {
        let mut all = Iterations::default();
        see(&mut all, 65_000, 60, 7, Thread::Out);
        assert_eq!(see(&mut all, 66_000, 59, 7, Thread::Out), Step::Torn);
        assert_eq!(see(&mut all, 66_000, 68, 7, Thread::Out), Step::Torn);
        assert_eq!(to_timestamp(u64::MAX, 0), None);
        assert_eq!(to_timestamp(5, i64::MIN), None);
    }
}
