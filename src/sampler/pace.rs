//! The clock, the sleep, and when to look next: the only place that knows what time it is.
//!
//! With a base tick no longer than the threshold, and one look aimed at the moment an iteration
//! reaches the capture age, every iteration that lasts as long as the threshold is seen. That is
//! arithmetic, not luck; only a look that itself comes late can miss one.

#![allow(clippy::disallowed_methods)] // and so the only one that may ask

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};

use crate::units::{Nanos, Timestamp};

/// Longest time between evenly spaced looks: below it the share of time a loop is busy is known to
/// about 1 % after 30 s (binomial error of 3000 looks).
const LONGEST_BASE: Nanos = Nanos::from_millis(10);
/// Evenly spaced looks keep to this part of the threshold, so that one that comes a little late
/// still meets a stall that is no longer than the threshold.
const BASE_PERCENT: u64 = 80;
/// A stack is first read when an iteration reaches this part of the threshold, so that a stall that
/// ends right after the threshold has been looked into.
const CAPTURE_AGE_PERCENT: u64 = 80;
/// Distance of looks at an iteration past the capture age: its end is known to half of this either
/// way. A look costs 5 µs, being woken for it 20 µs or more (decision 7).
const FAST: Nanos = Nanos::from_millis(1);
/// Shortest distance of evenly spaced looks. With thresholds below it, stalls shorter than it are
/// seen by chance.
const SHORTEST_BASE: Nanos = Nanos::from_micros(500);
/// Shortest distance of evenly spaced looks at a loop whose edges the kernel records: no look is
/// needed to see a stall, only to look into it. With a threshold of 1 ms this saves two fifths of what we
/// cost, and stalls of 2.4 ms and more are certain to be looked into still.
const SHORTEST_TRACED: Nanos = Nanos::from_micros(1_600);
/// Looks are aimed at the capture age only where evenly spaced ones are farther apart than this:
/// waking costs more than looking, and a loop of short iterations would be aimed at once for each.
/// So with a threshold below this a stall is certain to be seen from twice the threshold on.
const AIM_FROM: Nanos = Nanos::from_millis(2);
/// Looks at requests that hold a thread are so many times farther apart.
const REQUEST_FACTOR: u64 = 3;
/// Looks at an older iteration keep to this part of its age: its length is then known to 1 % either
/// way, and mostly better, as the stamp of the next iteration bounds it too.
const FAST_PART_OF_AGE: u64 = 64;
/// Distance of looks at a hanging iteration never exceeds this.
const SLOWEST: Nanos = Nanos::from_millis(50);
/// The thread is looked into again after half the threshold, within these limits, or after this
/// part of the stall's age: a few dozen stacks tell where the time of any long stall went.
const RECAPTURE_SHORTEST: Nanos = Nanos::from_millis(2);
const RECAPTURE_LONGEST: Nanos = Nanos::from_millis(4);
const RECAPTURE_PART_OF_AGE: u64 = 6;
/// By then the kernel has sampled a running thread's C stack once (`sampler/runner.rs`).
const FIRST_SAMPLE: Nanos = Nanos::from_micros(1_500);
/// Largest share of a core that background samples may take at a rate nobody asked for: looking at the
/// loops' clocks takes about as much, and 2 % of a core together is what one does not notice.
const SAMPLING_CEILING: f64 = 0.0075;
/// Most samples that one look stands for to keep to it: 12 looks a second still make 360 in half a
/// minute, which tell a share of a tenth to 2 % (binomial error).
const MAX_STRIDE: u32 = 8;
/// Looks come closer again once they would take no more than this part of the ceiling.
const CLOSER_PERCENT: f64 = 0.9;
/// What falls due within this part of its period is done at a wake-up that happens anyway: waking
/// costs more than looking.
const EARLY_PART: u64 = 6;
/// Distance of looks at a process's pools: 5 a second show a mean of hundreds after a minute, and cost
/// some 10 µs each. No round number: what a program does every 0.1 s is not to be met always at the
/// same point.
pub(super) const POOL_LOOK: Nanos = Nanos::from_millis(211);
/// Our niceness, where it may be chosen. With four busy loops on two cores, one wake-up in a hundred
/// comes 10 ms late at 0, 5 ms at -5, 1 ms at -15 (measured; docs/decisions/0007).
const NICE: i32 = -15;

/// How often to look, worked out from what the user asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// The shortest stall to report.
    pub threshold: Nanos,
    /// Distance of evenly spaced looks at each loop, where nothing but looks can see a stall.
    base: Nanos,
    /// Age at which an iteration is looked into.
    pub capture_age: Nanos,
    /// Time that a background sample stands for; `None` when none are wanted.
    pub sample: Option<Nanos>,
    /// How many samples one look stands for.
    pub stride: u32,
    /// When evenly spaced looks are due next: at all loops at the same time, for to be woken for each
    /// would cost more than the looks.
    pub tick: Timestamp,
    jitter: Jitter,
    recapture: Nanos,
    began: Timestamp,
}

impl Pace {
    /// The pace for a threshold and a rate of background samples (a second; 0 for none).
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // rates are checked positive
    pub fn new(threshold: Nanos, rate_hz: f64) -> Pace {
        let began = now();
        let recapture = (threshold.0 / 2).clamp(RECAPTURE_SHORTEST.0, RECAPTURE_LONGEST.0);
        let base =
            if threshold < AIM_FROM { threshold } else { threshold.scaled(BASE_PERCENT, 100) };
        Pace {
            threshold,
            base: Nanos(base.0.clamp(SHORTEST_BASE.0, LONGEST_BASE.0)),
            capture_age: threshold.scaled(CAPTURE_AGE_PERCENT, 100),
            sample: (rate_hz > 0.0).then(|| Nanos((1e9 / rate_hz) as u64)),
            stride: 1,
            tick: Timestamp::default(),
            jitter: Jitter::new(began),
            recapture: Nanos(recapture),
            began,
        }
    }

    /// We are awake at `at`: if the evenly spaced looks are due, they are taken now, and their next
    /// time is set.
    pub fn keep_ticking(&mut self, at: Timestamp) {
        if Pace::is_due(at, self.tick, self.base) {
            self.tick = at + self.jitter.apply(self.base);
        }
    }

    /// Keeps background samples below their ceiling, having `spent` so much CPU time on them in `during`.
    pub fn keep_to_ceiling(&mut self, spent: Nanos, during: Nanos) {
        #[allow(clippy::cast_precision_loss)] // far below 2^53 ns
        let share = spent.0 as f64 / during.0.max(1) as f64;
        let with = |stride: u32| share * f64::from(self.stride) / f64::from(stride);
        if share > SAMPLING_CEILING && self.stride < MAX_STRIDE {
            let enough =
                (self.stride..=MAX_STRIDE).find(|stride| with(*stride) <= SAMPLING_CEILING);
            self.stride = enough.unwrap_or(MAX_STRIDE);
        } else if self.stride > 1 && with(self.stride - 1) <= SAMPLING_CEILING * CLOSER_PERCENT {
            self.stride -= 1;
        }
    }

    /// Whether something due at `due` and every `period` should be done at `at`, being awake anyway.
    #[must_use]
    pub fn is_due(at: Timestamp, due: Timestamp, period: Nanos) -> bool {
        at + Nanos(period.0 / EARLY_PART) >= due
    }

    /// The same for background samples: those that fall due before the next evenly spaced look are taken
    /// at this one, so that the two cost one wake-up.
    #[must_use]
    pub fn is_sample_due(
        &self,
        at: Timestamp,
        due: Timestamp,
        period: Nanos,
        at_base_look: bool,
    ) -> bool {
        let early = if at_base_look { self.base.0.min(period.0) } else { period.0 / EARLY_PART };
        at + Nanos(early) >= due
    }

    /// When a background sample that is due about `due` is taken: those of all processes together, for to
    /// be woken for each would cost more than most of them.
    #[must_use]
    pub fn sample_time(&self, due: Timestamp) -> Timestamp {
        let period = self.sample.map_or(1, |period| period.0.max(1));
        due.before(Nanos(due.since(self.began).0 % period))
    }

    /// Distance of evenly spaced looks at a loop, by whether the kernel records its edges.
    #[must_use]
    pub fn base(&self, is_traced: bool) -> Nanos {
        if is_traced { self.base.max(SHORTEST_TRACED) } else { self.base }
    }

    /// When the threads of a process that makes one for each connection are listed again: at fixed
    /// times, so that all such processes are at the same wake-up.
    #[must_use]
    pub fn next_tick(&self, at: Timestamp) -> Timestamp {
        let base = self.base.0.max(1);
        Timestamp((at.0 / base).saturating_add(1).saturating_mul(base))
    }

    /// Distance to a look at an iteration of this age that is to meet it at the capture age; `None`
    /// where evenly spaced looks do.
    #[must_use]
    pub fn aim(&self, age: Nanos) -> Option<Nanos> {
        (self.threshold >= AIM_FROM).then(|| self.capture_age.saturating_sub(age))
    }

    /// Distance to the next look at an iteration of this age, past the capture age.
    #[must_use]
    pub fn fast(&self, age: Nanos) -> Nanos {
        Nanos((age.0 / FAST_PART_OF_AGE).clamp(FAST.0.min(self.base.0), SLOWEST.0))
    }

    /// The same for a request that holds a thread. A busy server has many of them at a time, and what
    /// is asked of each is which call it is in, not its end to half a millisecond.
    #[must_use]
    pub fn fast_of_requests(&self, age: Nanos) -> Nanos {
        Nanos(self.fast(age).0.saturating_mul(REQUEST_FACTOR))
    }

    /// Distance to the look that takes the first sample of a running thread's C stack.
    #[must_use]
    pub fn first_sample(&self) -> Nanos {
        FIRST_SAMPLE.min(self.base)
    }

    /// Distance to the next stack of an iteration of this age.
    #[must_use]
    pub fn recapture(&self, age: Nanos) -> Nanos {
        Nanos((age.0 / RECAPTURE_PART_OF_AGE).max(self.recapture.0))
    }
}

/// The time now, on `CLOCK_MONOTONIC`.
#[must_use]
pub fn now() -> Timestamp {
    // The call cannot fail on Linux for this clock; a zero would only make every look "late".
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(Timestamp(0), |time| Timestamp(u64::try_from(time.num_nanoseconds()).unwrap_or(0)))
}

/// The time since boot, suspensions included: the clock of `starttime` in `/proc/PID/stat`.
#[must_use]
pub fn boot_clock() -> Option<Nanos> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    u64::try_from(time.num_nanoseconds()).ok().map(Nanos)
}

/// How far the wall clock is ahead of `CLOCK_MONOTONIC`.
#[must_use]
pub fn wall_ahead() -> Nanos {
    let wall = clock_gettime(ClockId::CLOCK_REALTIME);
    let wall = wall.map_or(0, |time| u64::try_from(time.num_nanoseconds()).unwrap_or(0));
    Nanos(wall.saturating_sub(now().0))
}

/// Sleeps until `until`, or until a signal comes.
pub fn sleep_until(until: Timestamp) {
    let Ok(nanos) = i64::try_from(until.0) else { return };
    let request = nix::sys::time::TimeSpec::nanoseconds(nanos);
    let flags = ClockNanosleepFlags::TIMER_ABSTIME;
    // An interruption by a signal is a wake-up like any other: the caller looks at the time.
    let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, flags, &request);
}

/// Asks the kernel to wake us on time: by default it may delay a sleeper by 50 µs to save power
/// (`PR_SET_TIMERSLACK`, prctl(2)), and on a busy machine by the time slices of others. Only our own
/// thread is affected, which computes a few percent of the time at most.
///
/// Going before others needs `CAP_SYS_NICE`; without it a look may come late, is counted as late,
/// and may miss a stall. Returns whether we go before others.
pub fn wake_precisely() -> bool {
    // Failing costs 50 µs of precision, nothing else.
    let _ = nix::sys::prctl::set_timerslack(1);
    // SAFETY: takes numbers, touches no memory of ours. It fails without the capability, and then
    // all stays as it was.
    #[allow(unsafe_code)]
    let done = unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, 0, NICE) };
    done == 0
}

/// CPU time this thread has used.
#[must_use]
pub fn thread_cpu() -> Nanos {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map_or(Nanos::ZERO, |time| Nanos(u64::try_from(time.num_nanoseconds()).unwrap_or(0)))
}

/// CPU time this process has used.
#[must_use]
pub fn own_cpu() -> Nanos {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Nanos::ZERO };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Nanos::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// Small random shifts, so that evenly spaced looks do not keep step with a timer in the target.
#[derive(Debug, Clone, PartialEq)]
pub struct Jitter(u64);

impl Jitter {
    /// A sequence of its own for each start time.
    #[must_use]
    pub fn new(seed: Timestamp) -> Jitter {
        Jitter(seed.0 | 1)
    }

    /// A length between 7/8 and all of `period`: never longer, so that the guarantee of the base
    /// tick holds.
    pub fn apply(&mut self, period: Nanos) -> Nanos {
        // xorshift64 (Marsaglia 2003): no more is needed than not to be periodic.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let eighth = period.0 / 8;
        Nanos(period.0 - if eighth == 0 { 0 } else { self.0 % eighth })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_tick_never_exceeds_the_threshold() {
        for millis in [1, 2, 5, 10, 50, 1000] {
            let pace = Pace::new(Nanos::from_millis(millis), 100.0);
            assert!(pace.base <= pace.threshold, "{millis} ms");
            assert!(pace.capture_age < pace.threshold, "{millis} ms");
        }
    }

    #[test]
    fn where_the_kernel_records_looks_are_no_closer_than_pays() {
        let base = |millis, is_traced| Pace::new(Nanos::from_millis(millis), 0.0).base(is_traced);
        assert_eq!(base(1, false), Nanos::from_millis(1));
        assert_eq!(base(1, true), SHORTEST_TRACED);
        assert_eq!(base(10, true), base(10, false));
    }

    #[test]
    fn samples_keep_to_their_ceiling_and_come_back() {
        let mut pace = Pace::new(Nanos::from_millis(10), 100.0);
        let second = Nanos::from_secs(1);
        pace.keep_to_ceiling(Nanos::from_millis(5), second);
        assert_eq!(pace.stride, 1);
        pace.keep_to_ceiling(Nanos::from_millis(20), second);
        assert_eq!(pace.stride, 3);
        pace.keep_to_ceiling(Nanos::from_millis(7), second);
        assert_eq!(pace.stride, 3, "two in three would be too many");
        pace.keep_to_ceiling(Nanos::from_millis(900), second);
        assert_eq!(pace.stride, MAX_STRIDE);
        for _ in 0..MAX_STRIDE {
            pace.keep_to_ceiling(Nanos::from_micros(100), second);
        }
        assert_eq!(pace.stride, 1);
    }

    #[test]
    fn samples_of_all_processes_fall_together_and_at_evenly_spaced_looks() {
        let pace = Pace::new(Nanos::from_millis(10), 100.0);
        let (period, ms) = (Nanos::from_millis(10), Nanos::from_millis);
        let due = pace.began + ms(70);
        assert_eq!(pace.sample_time(due), due);
        assert_eq!(pace.sample_time(due + ms(9)), due);
        assert_eq!(pace.sample_time(due + ms(10)), due + ms(10));
        // The next of these looks is 8 ms later at most; other wake-ups leave samples to it.
        assert!(pace.is_sample_due(due.before(ms(8)), due, period, true));
        assert!(!pace.is_sample_due(due.before(ms(9)), due, period, true));
        assert!(!pace.is_sample_due(due.before(ms(8)), due, period, false));
        assert!(pace.is_sample_due(due.before(ms(1)), due, period, false));
    }

    #[test]
    fn jitter_only_shortens() {
        let mut jitter = Jitter::new(Timestamp(12_345));
        for _ in 0..1000 {
            let tick = jitter.apply(Nanos::from_millis(10));
            assert!(tick <= Nanos::from_millis(10) && tick > Nanos::from_micros(8_700));
        }
        assert_eq!(jitter.apply(Nanos(3)), Nanos(3));
    }

    #[test]
    fn a_hang_is_looked_at_less_and_less_often_but_never_rarely() {
        let pace = Pace::new(Nanos::from_millis(10), 100.0);
        assert_eq!(pace.fast(Nanos::from_millis(20)), FAST);
        assert_eq!(pace.fast(Nanos::from_secs(1)), Nanos(1_000_000_000 / FAST_PART_OF_AGE));
        assert_eq!(pace.fast(Nanos::from_secs(3600)), SLOWEST);
    }

    #[test]
    fn sleeping_until_the_past_returns_at_once() {
        sleep_until(Timestamp(1));
        assert!(now() > Timestamp(1));
    }
}
