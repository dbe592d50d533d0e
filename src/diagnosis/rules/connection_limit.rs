//! The rule `connection-limit`: a database's limit on connections can be reached.
//!
//! Takes looks at connections, and what bounds them in each worker. The limit itself is not seen: it is
//! the default of what usually listens at that port, and said as such.

use crate::diagnosis::blocked::ratio;
use crate::diagnosis::peers::{Peer, known, peers};
use crate::diagnosis::services::{Known, Limit};
use crate::diagnosis::{Case, Rule};
use crate::model::{
    Finding, Measured, PoolKind, ProcessInfo, Recommendation, Remedy, SettingKind, Severity,
    Verdict, WorkerClass,
};
use crate::units::{Bounds, whole};

/// Above this share of the limit the next burst reaches it, and a fifth is left for everybody else:
/// migrations, a shell, the workers that are there twice while new ones take over.
const NEAR: f64 = 0.8;
/// At least so many connections show that they grow with the load: fewer are a pool's, or a test's.
const GROWS: u32 = 10;
/// Where each greenlet has a connection of its own, there are about as many as requests in flight; the
/// looks at the two are not at the same moments. With fewer, requests share a pool.
const ONE_EACH: f64 = 0.9;

/// See `docs/findings/connection-limit.md`.
#[derive(Debug)]
pub struct ConnectionLimit;

impl Rule for ConnectionLimit {
    fn id(&self) -> &'static str {
        "connection-limit"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/connection-limit.md")
    }

    fn explains(&self, finding: &Finding) -> Option<f64> {
        // Nobody notices before it is reached; from then on requests are refused.
        finding.figure("of_the_limit").filter(|share| *share >= 1.0).map(|_| 1.0)
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let all = peers(case.recording);
        let limited = all.iter().filter_map(|(address, peer)| {
            let known = known(&all, case.connecting, address);
            let limit = known.service.limit?;
            Some(Use::of(address, peer, known, limit))
        });
        let reached = limited.filter(Use::can_exceed);
        let worst = reached.max_by(|a, b| a.share().total_cmp(&b.share()));
        worst.map_or(Verdict::Clear, |one| Verdict::Found(one.finding(self.id())))
    }
}

struct Use<'a> {
    address: &'a str,
    known: Known,
    limit: Limit,
    /// Workers that were connected to it.
    workers: u32,
    /// The most connections seen.
    most: u32,
    bound: Option<Bound>,
}

/// What bounds the connections of one worker.
#[derive(Clone, Copy)]
struct Bound {
    setting: &'static str,
    flag: &'static str,
    value: u32,
    kind: SettingKind,
}

impl<'a> Use<'a> {
    fn of(address: &'a str, peer: &Peer<'a>, known: Known, limit: Limit) -> Use<'a> {
        let alive = peer.by_process.iter().filter(|(process, _)| process.ended.is_none()).count();
        let workers = if alive > 0 { alive } else { peer.by_process.len() };
        let bounds =
            peer.by_process.iter().filter_map(|(process, one)| bound(process, one.open.max));
        Use {
            address,
            known,
            limit,
            workers: u32::try_from(workers.max(1)).unwrap_or(u32::MAX),
            most: peer.most(),
            bound: bounds.max_by_key(|bound| bound.value),
        }
    }

    fn share(&self) -> f64 {
        f64::from(self.most) / f64::from(self.limit.usable().max(1))
    }

    /// Connections that there can be.
    fn can(&self) -> Option<u32> {
        let can = self.bound?.value.saturating_mul(self.workers);
        // With more than that it is no bound: a request opens several.
        (can >= self.most).then_some(can)
    }

    fn can_exceed(&self) -> bool {
        let is_near = self.share() > NEAR;
        match self.can() {
            Some(can) => can > self.limit.usable() && (is_near || self.most >= GROWS),
            None => is_near,
        }
    }

    /// Connections of one worker that fit, and how many do with a fifth left.
    fn fits(&self) -> (u32, u32) {
        let of_each = |share: f64| {
            whole(f64::from(self.limit.usable()) * share / f64::from(self.workers.max(1))).max(1)
        };
        (of_each(1.0), of_each(NEAR))
    }

    fn finding(&self, id: &str) -> Finding {
        let Limit { setting, default, reserved, .. } = self.limit;
        let (name, how) = (self.known.service.name, self.known.how());
        let can = self.bound.zip(self.can()).filter(|(_, can)| *can > self.limit.usable());
        let can = can.map_or(String::new(), |(bound, can)| {
            format!(", and {} × {} {} allow {can}", self.workers, bound.value, bound.setting)
        });
        let reserved =
            if reserved > 0 { format!(", {reserved} of them reserved") } else { String::new() };
        let severity = if self.share() > NEAR { Severity::High } else { Severity::Medium };
        Finding {
            id: id.to_owned(),
            severity,
            summary: format!(
                "up to {} connections to {}{can}; {how} that is {name}, whose default \
                 {setting} is {default}{reserved} (inferred, not read)",
                self.most, self.address
            ),
            evidence: self.evidence(),
            stalls: Vec::new(),
            recommendations: self.advice(),
        }
    }

    fn evidence(&self) -> Vec<Measured> {
        let mut all = vec![
            ratio("of_the_limit", self.share()),
            Measured::new("connections_max", f64::from(self.most), "count"),
            Measured::new("limit_by_default", f64::from(self.limit.usable()), "count"),
            Measured::new("workers", f64::from(self.workers), "count"),
        ];
        let can =
            self.can().map(|can| Measured::new("connections_allowed", f64::from(can), "count"));
        all.extend(can);
        all
    }

    fn advice(&self) -> Vec<Recommendation> {
        let ((most, fits), workers) = (self.fits(), self.workers);
        let usable = self.limit.usable();
        let arithmetic = format!(
            "{usable} / {workers} = {most} fit for each worker, {fits} with a fifth left for whoever else \
             connects; {} tells the limit in force",
            self.limit.ask
        );
        let mut all = vec![Recommendation {
            remedy: Remedy::Config,
            command: format!(
                "share a pool of at most {fits} connections in each worker: SQLAlchemy's \
                 `create_engine(…, pool_size={fits}, max_overflow=0)`, `psycopg_pool.ConnectionPool(…, \
                 max_size={fits})`, Django's `\"OPTIONS\": {{\"pool\": {{\"max_size\": {fits}}}}}` with `CONN_MAX_AGE` 0"
            ),
            reason: format!("whoever finds none free waits instead of being refused: {arithmetic}"),
            inputs: self.evidence(),
            predicted: Vec::new(),
        }];
        if let Some(bound) = self.bound.filter(|bound| bound.value > most) {
            all.push(Recommendation {
                remedy: Remedy::Setting {
                    kind: bound.kind,
                    setting: bound.setting.to_owned(),
                    current: Some(bound.value),
                    recommended: fits,
                    suggested: Bounds { lo: 1, hi: most },
                    limited_by: format!("{}'s {} by default", self.known.service.name, self.limit.setting),
                },
                command: format!("or, without a pool, `{} {fits}`", bound.flag),
                reason: format!(
                    "each request in flight may hold a connection, so there must be no more of these: \
                     {arithmetic}"
                ),
                inputs: self.evidence(),
                predicted: Vec::new(),
            });
        }
        all
    }
}

/// What bounds the connections that a process opens, where each request has one of its own.
fn bound(process: &ProcessInfo, open: u32) -> Option<Bound> {
    match process.topology.class {
        WorkerClass::Gthread => {
            let value = process.occupancy.limit?;
            let (setting, flag) = ("threads", "--threads");
            Some(Bound { setting, flag, value, kind: SettingKind::Threads })
        }
        WorkerClass::Gevent | WorkerClass::Eventlet => {
            let is_server =
                |kind: PoolKind| matches!(kind, PoolKind::GeventPool | PoolKind::EventletPool);
            let pool = process.pools.iter().find(|pool| is_server(pool.kind))?;
            let in_flight = f64::from(pool.busy.most()?);
            let (setting, flag) = ("worker_connections", "--worker-connections");
            let bound = Bound { setting, flag, value: pool.limit?, kind: SettingKind::Connections };
            // Fewer connections than requests: they share some.
            (f64::from(open) >= in_flight * ONE_EACH).then_some(bound)
        }
        _ => None,
    }
}
