//! The kernel's record of one loop's edges: turned on, kept honest, written down.
//!
//! Takes each look at the loop's clock, gives the gaps of half a threshold or longer. It finds out
//! how the loop polls by seeing its thread in the call. It never trusts the record alone: another
//! tool's BPF program on the same tracepoints can swallow every record without a trace, so each look
//! is held against it, and a record that missed something is given up. Where there is none, see
//! `wake_watch.rs`.

use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use super::edge_guard::{EdgeGuard, Verdict};
use super::notes::Notes;
use super::pace::{Pace, now};
use super::thread_watch::{Scene, ThreadWatch};
use super::wake_watch::{self, WakeWatch};
use crate::event_loop::{Reading, Running};
use crate::model::{EdgeStatus, Gap, LoopId, LoopState};
use crate::target::SyscallState;
use crate::target::edges::{Edges, EdgesError, Outing, PollCall, Tracepoints, Whereabouts};
use crate::units::{Bounds, Nanos, Tid, Timestamp};

/// After so many looks that never met the thread in its poll, it is guessed what it polls with: a
/// loop that is always busy never sleeps there.
const GUESS_AFTER: u32 = 50;
/// A record that missed something is begun anew so many times: the loop may have opened another
/// descriptor.
const TRIES: u32 = 3;
/// A loop that the record shows asleep in its poll is looked at so often all the same, in case that is
/// not so.
const DOUBT: Nanos = Nanos::from_millis(500);

/// What the kernel's record alone tells of a loop's thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It may do anything: it has to be looked at.
    None,
    /// It has slept in its poll ever since the last look.
    Still,
    /// It sleeps in its poll, and was round its loop since the last look.
    Again,
}

/// Watches the edges of one loop's thread.
#[derive(Debug)]
pub struct EdgeWatch {
    loop_id: LoopId,
    stage: Stage,
    tries: u32,
    wake: WakeWatch,
}

#[derive(Debug)]
enum Stage {
    /// How the loop polls is not known yet.
    Learning(Learning),
    /// They are being opened, by another thread.
    Opening(Receiver<Result<Edges, EdgesError>>, PollCall),
    /// Edges come.
    On(Box<Tracing>),
    /// There are none.
    Off,
}

/// What the looks so far tell of how a loop polls.
#[derive(Debug, Default)]
struct Learning {
    looks: u32,
    /// The call the thread was in at the last look that met it in one. It counts when it is met
    /// again: once, it may have been some callback's.
    met: Option<PollCall>,
}

/// Edges that come, and what they were held against.
#[derive(Debug)]
struct Tracing {
    edges: Edges,
    poll: PollCall,
    /// The shortest gap worth keeping.
    shortest: Nanos,
    /// When they began to come.
    opened: Timestamp,
    /// Since when nothing is missing, if that is so.
    whole_since: Option<Timestamp>,
    lost: u64,
    guard: EdgeGuard,
    /// The thread was in its poll by the last look and the record, or asleep there by the record alone.
    polls: bool,
    looked: Timestamp,
}

impl EdgeWatch {
    /// Watches nothing yet.
    #[must_use]
    pub fn new(loop_id: LoopId) -> EdgeWatch {
        let wake = WakeWatch::default();
        EdgeWatch { loop_id, stage: Stage::Learning(Learning::default()), tries: 0, wake }
    }

    /// Where there are none to be had.
    #[cfg(test)]
    pub(super) fn off(loop_id: LoopId) -> EdgeWatch {
        EdgeWatch { stage: Stage::Off, ..EdgeWatch::new(loop_id) }
    }

    /// Whether the end of a stall will be told, so that nobody need look for it.
    #[must_use]
    pub fn is_on(&self) -> bool {
        matches!(self.stage, Stage::On(_))
    }

    /// Whether there are no edges to be had: only then is it known that none will come.
    #[must_use]
    pub fn is_off(&self) -> bool {
        matches!(self.stage, Stage::Off)
    }

    /// Whether the loop's thread sleeps in its poll at `at`, by the kernel's record alone: then nothing of
    /// it need be read. The thread cannot have run without a record, see [`Edges::is_quiet`].
    pub fn rest(&mut self, notes: &mut Notes, at: Timestamp) -> Rest {
        let Stage::On(tracing) = &mut self.stage else { return Rest::None };
        if at.since(tracing.looked) >= DOUBT {
            return Rest::None;
        }
        if tracing.edges.is_quiet() {
            return if tracing.polls { Rest::Still } else { Rest::None };
        }
        tracing.drain(notes, self.loop_id);
        tracing.polls = tracing.edges.is_asleep_inside() && tracing.edges.is_quiet();
        if tracing.polls { Rest::Again } else { Rest::None }
    }

    /// The loop's thread has slept in its poll ever since the last look, which is why there is none.
    pub fn still(&mut self, at: Timestamp) {
        if self.is_off() {
            self.wake.still(at);
        }
    }

    /// Takes a look at the loop's clock that was begun at `before`. Returns when the thread should
    /// be looked at again, if it should.
    pub fn see(
        &mut self,
        scene: &mut Scene<'_>,
        thread: &mut ThreadWatch,
        pace: &Pace,
        reading: Reading,
        before: Timestamp,
    ) -> Option<Timestamp> {
        match &mut self.stage {
            Stage::Learning(learning) => match Tracepoints::known() {
                None => {}
                Some(Err(error)) => self.turn_off(scene, status(*error)),
                Some(Ok(points)) => {
                    let poll = learning.see(scene, thread, reading);
                    self.say(scene, EdgeStatus::Unlearnt);
                    if let Some(poll) = poll {
                        let opened = open(thread.tid, poll.clone(), points);
                        self.stage = Stage::Opening(opened, poll);
                    }
                }
            },
            Stage::Opening(opened, poll) => match opened.try_recv() {
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.turn_off(scene, EdgeStatus::Unlearnt),
                Ok(opened) => {
                    let poll = poll.clone();
                    self.turn_on(scene, thread, pace, opened, poll);
                }
            },
            Stage::On(tracing) => {
                let verdict = tracing.check(scene.notes, self.loop_id, thread, reading, before);
                tracing.looked = before;
                tracing.polls = reading == Reading::Polling
                    && verdict == Verdict::Sound
                    && matches!(tracing.edges.whereabouts(), Whereabouts::Inside(_));
                return match verdict {
                    Verdict::Sound | Verdict::Suspect(_) => None,
                    Verdict::Leaving(left) => {
                        let began = Bounds::exactly(left);
                        let (next, state) =
                            wake_watch::look(scene, thread, pace, self.loop_id, began);
                        self.keep_if_still_out(scene, left, state);
                        next
                    }
                    Verdict::Blind => {
                        self.give_up(scene);
                        None
                    }
                };
            }
            Stage::Off => {}
        }
        if self.is_on() {
            return None;
        }
        self.wake.see(scene, thread, pace, self.loop_id, reading, before)
    }

    /// A look, begun at `before` and just taken by [`EdgeWatch::see`]: where the loop's own clock is
    /// coarse, or set anew within an iteration, the kernel's record of when it left its poll is exact.
    #[must_use]
    pub fn refined(&self, reading: Reading, before: Timestamp) -> Reading {
        let left = match &self.stage {
            Stage::On(tracing) => match tracing.edges.whereabouts() {
                Whereabouts::Outside(left) if left < before => Some(left),
                _ => None,
            },
            _ => None,
        };
        match (reading, left) {
            (Reading::Running(running) | Reading::Between(running), Some(left))
                if !running.is_exact() && running.began.hi >= left =>
            {
                Reading::Running(Running { began: Bounds::exactly(left), ..running })
            }
            // What cannot be told is not held against it.
            (Reading::Between(_), _) => Reading::Polling,
            _ => reading,
        }
    }

    /// Whether the kernel has recorded that the thread has no CPU at this moment.
    pub fn is_off_cpu(&mut self, notes: &mut Notes) -> bool {
        let Stage::On(tracing) = &mut self.stage else { return false };
        tracing.drain(notes, self.loop_id);
        tracing.edges.is_off_cpu()
    }

    /// Takes the edges there are now: before the watch ends, or pauses.
    pub fn finish(&mut self, notes: &mut Notes) {
        if let Stage::On(tracing) = &mut self.stage {
            tracing.drain(notes, self.loop_id);
        }
    }

    /// The loop it watches.
    #[must_use]
    pub fn loop_id(&self) -> LoopId {
        self.loop_id
    }

    /// The edges are open, or are not to be had.
    fn turn_on(
        &mut self,
        scene: &mut Scene<'_>,
        thread: &ThreadWatch,
        pace: &Pace,
        opened: Result<Edges, EdgesError>,
        poll: PollCall,
    ) {
        let mut edges = match opened {
            Ok(edges) => edges,
            Err(error) => return self.turn_off(scene, status(error)),
        };
        let since = now();
        if is_in(thread, &poll) {
            edges.drain(|_| {});
            if edges.seen() == 0 {
                edges.assume_inside(since);
            }
        }
        self.stage = Stage::On(Box::new(Tracing {
            edges,
            poll,
            shortest: Nanos(pace.threshold.0 / 2),
            opened: since,
            whole_since: None,
            lost: 0,
            guard: EdgeGuard::default(),
            polls: false,
            looked: since,
        }));
        if self.tries == 0 {
            self.say(scene, EdgeStatus::Traced);
        }
    }

    /// Keeps what was seen of a thread that was out of its poll, if it was out all along.
    fn keep_if_still_out(
        &mut self,
        scene: &mut Scene<'_>,
        left: Timestamp,
        state: Option<LoopState>,
    ) {
        let Stage::On(tracing) = &mut self.stage else { return };
        tracing.drain(scene.notes, self.loop_id);
        if tracing.edges.whereabouts() == Whereabouts::Outside(left) {
            scene.notes.keep(&mut state.into_iter().collect());
        }
    }

    fn give_up(&mut self, scene: &mut Scene<'_>) {
        scene.notes.losses.blind_edges += 1;
        self.tries += 1;
        self.say(scene, EdgeStatus::Blind);
        self.stage =
            if self.tries < TRIES { Stage::Learning(Learning::default()) } else { Stage::Off };
    }

    fn turn_off(&mut self, scene: &mut Scene<'_>, status: EdgeStatus) {
        self.stage = Stage::Off;
        self.say(scene, status);
    }

    fn say(&self, scene: &mut Scene<'_>, status: EdgeStatus) {
        if let Some(info) = scene.notes.info(self.loop_id)
            // Once blind, nothing but records can show that it is no more.
            && (info.edges != EdgeStatus::Blind || status == EdgeStatus::Traced)
        {
            info.edges = status;
            if status != EdgeStatus::Traced {
                info.traced = None;
            }
        }
    }
}

impl Learning {
    /// Takes a look; gives the loop's poll once it is known.
    fn see(
        &mut self,
        scene: &Scene<'_>,
        thread: &ThreadWatch,
        reading: Reading,
    ) -> Option<PollCall> {
        self.looks = self.looks.saturating_add(1);
        if let (Reading::Polling, SyscallState::Blocked { nr, args, .. }) =
            (reading, thread.files.syscall())
            && let Some(poll) = PollCall::seen(nr, args)
        {
            let before = self.met.replace(poll);
            return self.met.clone().filter(|poll| before.as_ref() == Some(poll));
        }
        if !self.looks.is_multiple_of(GUESS_AFTER) {
            return None;
        }
        match scene.procfs.epolls(scene.pid).as_deref() {
            Ok([only]) => Some(PollCall::guessed(*only)),
            _ => None,
        }
    }
}

impl Tracing {
    /// Takes what was recorded and writes it down.
    fn drain(&mut self, notes: &mut Notes, loop_id: LoopId) {
        let until = now();
        for gap in self.take(loop_id) {
            notes.gap(gap);
        }
        let lost = self.edges.lost().saturating_sub(self.lost);
        if lost > 0 {
            notes.losses.lost_edges += lost;
            self.lost = self.edges.lost();
            self.whole_since = None;
        }
        match self.edges.whereabouts() {
            Whereabouts::Unknown => self.whole_since = None,
            _ => _ = self.whole_since.get_or_insert(until),
        }
        if self.edges.seen() > 0
            && let Some(info) = notes.info(loop_id)
        {
            info.edges = EdgeStatus::Traced;
            info.traced = self.whole_since.map(|since| Bounds { lo: since, hi: until });
        }
    }

    /// Takes what was recorded: the gaps worth keeping.
    fn take(&mut self, loop_id: LoopId) -> Vec<Gap> {
        let (shortest, guard) = (self.shortest, &self.guard);
        let mut gaps = Vec::new();
        self.edges.drain(|outing: Outing| {
            if outing.length() < shortest {
                return;
            }
            let vouchers = guard.vouchers(outing.left);
            let Outing { left, entered, on_cpu, off_cpu, preempted } = outing;
            gaps.push(Gap {
                loop_id,
                left,
                entered,
                on_cpu,
                off_cpu,
                preempted,
                looks: vouchers.sure,
                unclear_looks: vouchers.unclear,
            });
        });
        gaps
    }

    /// Holds a look, begun at `before`, against the record.
    fn check(
        &mut self,
        notes: &mut Notes,
        loop_id: LoopId,
        thread: &ThreadWatch,
        reading: Reading,
        before: Timestamp,
    ) -> Verdict {
        self.drain(notes, loop_id);
        let since = self.whole_since.unwrap_or(self.opened);
        let (whereabouts, poll) = (self.edges.whereabouts(), &self.poll);
        let asked = || is_in(thread, poll);
        let verdict = self.guard.check(reading, before, whereabouts, since, asked);
        let Verdict::Suspect(left) = verdict else { return verdict };
        self.drain(notes, loop_id);
        match self.edges.whereabouts() {
            Whereabouts::Outside(still) if still == left => Verdict::Blind,
            _ => Verdict::Sound,
        }
    }
}

/// Opens the edges in a thread of its own: the kernel opens and closes such events one after the
/// other, and each close, be it another program's, takes it some 30 ms.
fn open(
    tid: Tid,
    poll: PollCall,
    points: &'static Tracepoints,
) -> Receiver<Result<Edges, EdgesError>> {
    let (give, take) = sync_channel(1);
    // Without a thread the channel is closed, which says as much.
    let _ = std::thread::Builder::new()
        .name("edges".to_owned())
        .spawn(move || drop(give.send(Edges::open(tid, &poll, points))));
    take
}

/// Whether the thread is in its poll at this moment.
fn is_in(thread: &ThreadWatch, poll: &PollCall) -> bool {
    match thread.files.syscall() {
        SyscallState::Blocked { nr, args, .. } => poll.is(nr, args),
        _ => false,
    }
}

fn status(error: EdgesError) -> EdgeStatus {
    match error {
        EdgesError::Unwanted => EdgeStatus::Off,
        EdgesError::Denied => EdgeStatus::Denied,
        EdgesError::Missing => EdgeStatus::Missing,
        _ => EdgeStatus::Unlearnt,
    }
}
