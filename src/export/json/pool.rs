//! Pools as JSON.

use serde::Serialize;

use crate::model::PoolInfo;

/// One pool of a process.
#[derive(Serialize)]
pub(super) struct PoolOut<'a> {
    kind: &'static str,
    name: &'a str,
    limit: Option<u32>,
    looks: u64,
    busy_mean: Option<f64>,
    busy_max: Option<u32>,
    waiting_mean: Option<f64>,
    waiting_max: Option<u32>,
    full_fraction: Option<f64>,
    full_and_waiting_fraction: Option<f64>,
}

pub(super) fn new(pool: &PoolInfo) -> PoolOut<'_> {
    PoolOut {
        kind: pool.kind.name(),
        name: &pool.name,
        limit: pool.limit,
        looks: pool.busy.looks.max(pool.waiting.looks),
        busy_mean: pool.busy.mean(),
        busy_max: pool.busy.most(),
        waiting_mean: pool.waiting.mean(),
        waiting_max: pool.waiting.most(),
        full_fraction: pool.share(pool.full),
        full_and_waiting_fraction: pool.share(pool.full_and_waiting),
    }
}
