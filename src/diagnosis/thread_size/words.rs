//! A size of workers and threads in words: what to type for it, why, and by which figures.

use std::net::SocketAddr;

use super::super::blocked::ratio;
use super::super::pool_size::measured;
use super::super::size::{effect, keeping, threads_option, workers_of, workers_option};
use super::super::{client_pool, contrast, residents, wording};
use super::{MOST_OF_WAITING, ThreadSize, Work};
use crate::model::{
    Measured, PoolKind, Recommendation, Remedy, SettingKind, SharedKind, SharedPool,
};
use crate::sizing::shape::{Found, Limit};
use crate::units::{Bounds, to_f64, whole};

impl<'a> ThreadSize<'a> {
    /// That the size is right; `None` where another does noticeably more.
    #[must_use]
    pub fn to_keep(&self) -> Option<Recommendation> {
        let limit = self.limit()?;
        let workers = wording::several(self.workers_now as usize, "worker");
        let size = match self.work.threads.unwrap_or(1) {
            1 => workers,
            threads => format!("{workers} of {}", wording::several(threads as usize, "thread")),
        };
        let reason = format!(
            "no other size gets noticeably more done; what limits it is {}",
            self.limit_words(limit)
        );
        Some(keeping(self.load, self.workers_now, &size, reason, limit, Vec::new()))
    }

    /// What to type for it.
    #[must_use]
    pub fn recommendation(&self) -> Recommendation {
        let (workers, threads) = (self.found.shape.workers, self.found.shape.threads);
        let now = self.work.threads;
        let pool = self.growing().filter(|_| (self.workers_now, now) == (workers, Some(threads)));
        let (kind, setting, current, recommended, suggested) =
            if let Some((kind, shared, size)) = pool {
                let current = shared.limit.unwrap_or(size);
                let suggested =
                    Bounds { lo: current.saturating_add(1).min(size), hi: threads.max(size) };
                let setting = client_pool::setting(kind);
                (SettingKind::Connections, setting, Some(current), size, suggested)
            } else if threads > 1 || now != Some(1) {
                (SettingKind::Threads, "threads", now, threads, self.found.threads)
            } else {
                let now = Some(self.workers_now);
                (SettingKind::Workers, "workers", now, workers, self.found.workers)
            };
        let remedy = Remedy::Setting {
            kind,
            setting: setting.to_owned(),
            current,
            recommended,
            suggested: Bounds {
                lo: suggested.lo.min(recommended),
                hi: suggested.hi.max(recommended),
            },
            limited_by: self.found.limit.words().to_owned(),
        };
        Recommendation {
            remedy,
            command: self.command(),
            reason: self.reason(),
            inputs: self.inputs(),
            predicted: self.effects(self.found.capacity),
        }
    }

    /// The same for fewer workers: what is gained is their memory.
    pub(super) fn recommendation_of_fewer(&self) -> Recommendation {
        let Found { shape, workers, limit, capacity, .. } = self.found;
        let predicted = effect("throughput", self.work.rate, capacity, "1/s");
        let memory = self.load.memory.per_worker.map(|bytes| {
            let of = |count: u32| to_f64(bytes) * f64::from(count);
            effect("memory", of(self.workers_now), of(shape.workers), "bytes")
        });
        Recommendation {
            remedy: Remedy::Setting {
                kind: SettingKind::Workers,
                setting: "workers".to_owned(),
                current: Some(self.workers_now),
                recommended: shape.workers,
                suggested: workers,
                limited_by: limit.words().to_owned(),
            },
            command: self.command(),
            reason: format!("they get at least as much done; what limits it is {}", limit.words()),
            inputs: self.inputs(),
            predicted: std::iter::once(predicted).chain(memory).collect(),
        }
    }

    /// What to type; a number that stays is not repeated, but for workers of another class, which is all new.
    fn command(&self) -> String {
        let (workers, threads) = (self.found.shape.workers, self.found.shape.threads);
        let Some(threads_now) = self.work.threads else {
            return match workers_option(self.load, workers).strip_prefix("`--") {
                Some(flag) => {
                    format!("`-k gthread --{} --threads {threads}`", flag.trim_end_matches('`'))
                }
                None => format!(
                    "{} and `-k gthread --threads {threads}`",
                    workers_option(self.load, workers)
                ),
            };
        };
        let mut parts = Vec::new();
        if workers != self.workers_now {
            parts.push(workers_option(self.load, workers));
        }
        if threads != threads_now {
            parts.push(threads_option(self.load, threads));
        }
        if let Some((kind, shared, size)) = self.growing() {
            parts.push(client_pool::command(kind, &shared.name, size));
        }
        parts.join(" and ")
    }

    fn reason(&self) -> String {
        let slots = self.found.shape.slots();
        let there = whole(self.work.demand.round());
        let kept = if residents::is_single(self.load) {
            let workers = workers_of(self.load);
            let stay = if workers == 1 { "stays" } else { "stay" };
            let workers = wording::several(workers as usize, "worker");
            format!("; {workers} {stay}: {}", residents::in_each(self.load))
        } else {
            String::new()
        };
        if self.work.threads.is_none() {
            let bound = if self.work.is_bound {
                "; what is predicted is the most, as a hub that is busy all the time hides what requests \
                 wait for beside it: record again with threads, which show it"
            } else {
                ""
            };
            return format!(
                "of threads only the one that made such a call waits for it, and not all greenlets: {there} \
                 requests are there at once, for {slots} threads in all; the application has to be safe for \
                 threads, and who polls for long or has a WebSocket keeps a thread, where greenlets cost next \
                 to nothing{kept}{bound}"
            );
        }
        let waits = self.work.needs.blocked;
        let kind = if waits > self.work.costs.cpu {
            "requests mostly wait, and each keeps a thread meanwhile"
        } else {
            "requests mostly compute"
        };
        let safe = if self.work.threads == Some(1) && self.found.shape.threads > 1 {
            "; the application has to be safe for threads"
        } else {
            ""
        };
        let pool = self.shared.map_or(String::new(), |shared| self.about(shared));
        let peer = self.condition().unwrap_or_default();
        let when = self.work.bursts.map_or(String::new(), |bursts| {
            format!(
                " while anybody is, {} of the time, which is what is predicted for",
                wording::percent(bursts.share)
            )
        });
        format!(
            "{kind}: {there} are there at once{when}, for {slots} threads in all{pool}{peer}{safe}{kept}"
        )
    }

    /// What the prediction rests on, in words.
    fn condition(&self) -> Option<String> {
        let peer = self.rests_on()?;
        Some(contrast::condition(peer, "thread"))
    }

    /// The peer that the prediction rests on where requests mostly wait for one: how fast that is when more ask it at
    /// once cannot be told from a server that never did.
    #[must_use]
    pub fn rests_on(&self) -> Option<&'a str> {
        if self.load.peer_limit().is_some() {
            return None;
        }
        let one = self.load.blocked_on.first()?;
        one.peer.parse::<SocketAddr>().ok()?;
        let all = self.work.needs.blocked * to_f64(self.work.costs.requests);
        let threads = self.work.threads?;
        let (now, then) = (self.workers_now.saturating_mul(threads), self.found.shape.slots());
        let is_most = one.time.as_secs_f64() >= all * MOST_OF_WAITING;
        (is_most && then > now).then_some(&one.peer)
    }

    /// The pool that is to have another size, and that.
    fn growing(&self) -> Option<(PoolKind, &SharedPool, u32)> {
        let shared = self.shared?;
        Some((shared.kind.pool()?, shared, self.pool?))
    }

    /// What limits it, in words.
    #[must_use]
    pub fn limit_words(&self, limit: Limit) -> String {
        match (limit, self.shared) {
            (Limit::Turns, Some(shared)) => client_pool::shared_name(shared),
            _ => limit.words().to_owned(),
        }
    }

    /// What the pool or lock that requests wait for has to do with it.
    fn about(&self, shared: &SharedPool) -> String {
        if let Some(limit) = self.load.peer_limit()
            && shared.kind == SharedKind::Peer
        {
            return format!("; {}: more threads only wait there", contrast::sentence(limit));
        }
        let name = client_pool::shared_name(shared);
        let workers = self.found.shape.workers;
        match (self.pool, shared.limit) {
            (Some(size), _) => format!(
                "; they waited for {name} {} of the time, which is to have {size} in each worker: {}",
                wording::percent(shared.share),
                client_pool::in_all(Some(self.load), workers, size)
            ),
            (None, _) if !shared.kind.is_in_each_worker() => format!(
                "; they wait for {name}, which lets one connection write at a time, of whatever worker or \
                 thread"
            ),
            (None, limit) => format!(
                "; they wait for {name}{}: more threads only wait there, and each worker has one of its own, \
                 so that more workers let more through to what it guards",
                limit.map_or(String::new(), |limit| format!(", {limit} at once in each worker"))
            ),
        }
    }

    /// Whether that pool is to have another size.
    #[must_use]
    pub fn is_of_pool(&self) -> bool {
        self.pool.is_some()
    }

    fn inputs(&self) -> Vec<Measured> {
        let pool = self.shared.map(|shared| match shared.kind {
            SharedKind::Peer => vec![
                Measured::new("waited_for_turn", shared.waited, "s"),
                Measured::new("kept_of_turn", shared.kept, "s"),
                Measured::new("turns_at_once", shared.servers, "count"),
            ],
            SharedKind::Pool(_) | SharedKind::Lock(_) => vec![
                Measured::new("waited_for_pool", shared.waited, "s"),
                Measured::new("kept_of_pool", shared.kept, "s"),
            ],
        });
        let Work { needs, demand, rate, .. } = self.work;
        let all = [
            Measured::new("arrival_rate", rate, "1/s"),
            Measured::new("requests_at_once", demand, "count"),
        ];
        let bursts = self.work.bursts.map(|bursts| ratio("present_share", bursts.share));
        let usable = Measured::new("usable_cpus", self.load.cores.together(), "count");
        let all = all.into_iter().chain(measured(needs)).chain([usable]).chain(bursts);
        all.chain(pool.into_iter().flatten()).collect()
    }
}
