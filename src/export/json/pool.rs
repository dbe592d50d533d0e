//! Pools as JSON.

use serde::Serialize;

use super::place::{SpotOut, spot};
use crate::model::{PoolInfo, Recording};

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
    /// The application's line that was met waiting for it.
    waited_in: Option<SpotOut<'a>>,
    /// The application's line that its threads were met at most.
    works_in: Option<SpotOut<'a>>,
}

pub(super) fn new<'a>(recording: &'a Recording, pool: &'a PoolInfo) -> PoolOut<'a> {
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
        waited_in: pool.waited_in.map(|frame| spot(recording, frame)),
        works_in: pool.work.map(|work| spot(recording, work.frame)),
    }
}
