//! The culprit: the application line that took the largest share of a stall.
//!
//! Takes weighed looks and a way to blame one stack, gives the winning line with everything its
//! own looks say: stack, wait, task, request. Never weighs or blames by itself.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;

use super::application::Site;
use super::native;
use super::weight::Weighed;
use crate::model::{CpuState, FrameId, LockHolder, NameId, Peer, StackId, Tables, Wait, WaitId};
use crate::units::Nanos;

/// How a thread spent the time that some looks stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// On a CPU or ready to be.
    pub running: Nanos,
    /// Of `running`: on a CPU, in one call of C code.
    pub in_call: Nanos,
    /// Of `in_call`: holding the interpreter lock.
    pub with_gil: Nanos,
    /// Of `in_call`: without it.
    pub without_gil: Nanos,
    /// Of `running`: on a CPU, going on in Python.
    pub in_python: Nanos,
    /// Asleep in the kernel, also for the interpreter lock.
    pub blocked: Nanos,
    /// Of all: waiting for the interpreter lock, also while ready to ask for it.
    pub gil: Nanos,
    /// Of `blocked`: outside of any system call, which is in a page fault, or stopped.
    pub outside: Nanos,
    /// Not readable.
    pub unknown: Nanos,
    /// Of all: while the garbage collector ran.
    pub collecting: Nanos,
}

impl CpuTimes {
    /// Whether the calls of C code did without the interpreter lock, for most of the time that is
    /// known of.
    #[must_use]
    pub fn releases_gil(&self) -> Option<bool> {
        let is_known = self.with_gil + self.without_gil > Nanos::ZERO;
        is_known.then_some(self.without_gil > self.with_gil)
    }

    /// The times of these looks together.
    #[must_use]
    pub fn of(tables: &Tables, looks: &[Weighed<'_>]) -> CpuTimes {
        let mut times = CpuTimes::default();
        for seen in looks {
            times.count(tables, seen);
        }
        times
    }

    /// All of it.
    #[must_use]
    pub fn total(self) -> Nanos {
        self.running + self.blocked + self.unknown
    }

    fn count(&mut self, tables: &Tables, seen: &Weighed<'_>) {
        if seen.look.collecting {
            self.collecting += seen.weight;
        }
        let wait = match seen.look.cpu {
            CpuState::Blocked { wait } => wait.and_then(|wait| tables.get_wait(wait)),
            CpuState::Running | CpuState::Unknown => None,
        };
        if seen.look.holder.is_some() || wait.is_some_and(|wait| wait.peer == Some(Peer::Gil)) {
            self.gil += seen.weight;
        }
        match seen.look.cpu {
            CpuState::Running => {
                self.running += seen.weight;
                match seen.look.in_call_with_gil {
                    Some(true) => self.with_gil += seen.weight,
                    Some(false) => self.without_gil += seen.weight,
                    None => {}
                }
                match seen.look.in_call {
                    Some(true) => self.in_call += seen.weight,
                    Some(false) => self.in_python += seen.weight,
                    None => {}
                }
            }
            CpuState::Unknown => self.unknown += seen.weight,
            CpuState::Blocked { wait } => {
                self.blocked += seen.weight;
                if wait.is_none() {
                    self.outside += seen.weight;
                }
            }
        }
    }
}

/// The application line with the largest share of a stall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Winner {
    /// Its frame, and the library below it, both of its heaviest stack.
    pub site: Site,
    /// The time its looks stand for.
    pub weight: Nanos,
    /// The time all looks stand for.
    pub total: Nanos,
    /// Its heaviest stack.
    pub stack: StackId,
    /// The C stack that stack mostly was in.
    pub native: Option<StackId>,
    /// The C frames that it was in for half of the time or more, leaf first.
    pub native_shared: Vec<FrameId>,
    /// How it spent its time.
    pub times: CpuTimes,
    /// The wait it spent most of its blocked time in, if it was blocked for half its time.
    pub wait: Option<WaitId>,
    /// Who mostly held the lock it waited for.
    pub lock_holder: Option<LockHolder>,
    /// The asyncio task it mostly ran in.
    pub task: Option<NameId>,
    /// That task's coroutine.
    pub coroutine: Option<NameId>,
    /// The request it mostly served.
    pub endpoint: Option<NameId>,
}

impl Winner {
    /// The line with the most weight, the earlier one of equals; `None` without a usable look. A
    /// line of the application goes before all others if the application's code had half of the
    /// time, or enough for a stall of its own (`threshold`).
    pub fn among(
        tables: &Tables,
        looks: &[Weighed<'_>],
        threshold: Nanos,
        mut blame: impl FnMut(StackId) -> Option<Site>,
    ) -> Option<Winner> {
        let blamed: Vec<(Site, &Weighed<'_>)> =
            looks.iter().filter_map(|seen| Some((blame(seen.look.stack)?, seen))).collect();
        let total: Nanos = blamed.iter().map(|(_, seen)| seen.weight).sum();
        let by_application = blamed.iter().filter(|(site, _)| site.is_application);
        let applications: Nanos = by_application.map(|(_, seen)| seen.weight).sum();
        let is_to_blame = applications >= total.scaled(1, 2).min(threshold);
        let candidates = blamed.iter().filter(|(site, _)| site.is_application == is_to_blame);
        let frame: FrameId = heaviest(candidates.map(|(site, seen)| (site.culprit, seen.weight)))?;
        let own: Vec<Weighed<'_>> = blamed
            .iter()
            .filter(|(site, _)| site.culprit == frame)
            .map(|(_, seen)| **seen)
            .collect();
        let stack = heaviest(own.iter().map(|seen| (seen.look.stack, seen.weight)))?;
        let natives: Vec<(StackId, Nanos)> = own
            .iter()
            .filter(|seen| seen.look.stack == stack)
            .filter_map(|seen| Some((seen.look.native?, seen.weight)))
            .collect();
        let times = CpuTimes::of(tables, &own);
        let mostly_blocked = times.blocked >= times.total().scaled(1, 2);
        Some(Winner {
            site: blame(stack)?,
            weight: own.iter().map(|seen| seen.weight).sum(),
            total,
            stack,
            native: heaviest(natives.iter().copied()),
            native_shared: native::shared(tables, &natives),
            times,
            wait: mostly_blocked.then(|| heaviest_wait(tables, &own)).flatten(),
            lock_holder: heaviest(
                own.iter().filter_map(|seen| Some((seen.look.lock_holder?, seen.weight))),
            ),
            task: heaviest_name(&own, |seen| seen.look.task),
            coroutine: heaviest_name(&own, |seen| seen.look.coroutine),
            endpoint: heaviest_name(&own, |seen| seen.look.endpoint),
        })
    }
}

/// The generation that most of the collecting time of these looks was spent at.
#[must_use]
pub fn generation(looks: &[Weighed<'_>]) -> Option<u8> {
    let collecting = looks.iter().filter(|seen| seen.look.collecting);
    heaviest(collecting.map(|seen| (seen.look.generation, seen.weight))).flatten()
}

/// What most of the looks of a stall have in common, where no line is to blame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Common {
    /// The coroutine that at least half of the time went to.
    pub coroutine: Option<NameId>,
    /// The request that at least half of the time went to.
    pub endpoint: Option<NameId>,
}

impl Common {
    /// What these looks have in common.
    #[must_use]
    pub fn of(looks: &[Weighed<'_>]) -> Common {
        let half = looks.iter().map(|seen| seen.weight).sum::<Nanos>().scaled(1, 2);
        let shared = |name: fn(&Weighed<'_>) -> Option<NameId>| {
            heaviest_name(looks, name).filter(|found| {
                let with = looks.iter().filter(|seen| name(seen) == Some(*found));
                with.map(|seen| seen.weight).sum::<Nanos>() >= half
            })
        };
        Common {
            coroutine: shared(|seen| seen.look.coroutine),
            endpoint: shared(|seen| seen.look.endpoint),
        }
    }
}

/// Of the waits in the call that took most, one whose other end was found: a socket may have been too new for that at first.
fn heaviest_wait(tables: &Tables, looks: &[Weighed<'_>]) -> Option<WaitId> {
    let waits = || {
        looks.iter().filter_map(|seen| match seen.look.cpu {
            CpuState::Blocked { wait: Some(id) } => Some((id, tables.get_wait(id)?, seen.weight)),
            _ => None,
        })
    };
    let kind = |wait: &Wait| (wait.syscall, wait.peer == Some(Peer::Gil));
    let most = heaviest(waits().map(|(_, wait, weight)| (kind(wait), weight)))?;
    let of_it = || waits().filter(|(_, wait, _)| kind(wait) == most);
    let found = of_it().filter(|(_, wait, _)| wait.peer.is_some());
    let weights = |(id, _, weight)| (id, weight);
    heaviest(found.map(weights)).or_else(|| heaviest(of_it().map(weights)))
}

fn heaviest_name(
    looks: &[Weighed<'_>],
    name: impl Fn(&Weighed<'_>) -> Option<NameId>,
) -> Option<NameId> {
    heaviest(looks.iter().filter_map(|seen| Some((name(seen)?, seen.weight))))
}

/// The key with the largest sum; of equals the one met first, so that a report does not change
/// from run to run.
pub(super) fn heaviest<K: Copy + Eq + Hash>(
    weights: impl Iterator<Item = (K, Nanos)>,
) -> Option<K> {
    let mut sums: HashMap<K, (Nanos, Reverse<usize>)> = HashMap::new();
    for (order, (key, weight)) in weights.enumerate() {
        sums.entry(key).or_insert((Nanos::ZERO, Reverse(order))).0 += weight;
    }
    sums.into_iter().max_by_key(|(_, rank)| *rank).map(|(key, _)| key)
}
