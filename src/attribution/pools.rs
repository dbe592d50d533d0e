//! Where the application waits for the pools that it made for itself.
//!
//! Takes the stacks in which somebody was met waiting, puts the application's line of each to its pool.

use super::application;
use crate::model::Recording;

/// Finds the line of each pool that was met by who waits for it.
pub fn place(recording: &mut Recording) {
    let tables = &recording.tables;
    for process in &mut recording.processes {
        let stdlib = process.stdlib.as_deref();
        for pool in &mut process.pools {
            let site = pool.waits_at.and_then(|stack| application::site(tables, stdlib, stack));
            pool.waited_in = site.map(|site| site.culprit);
        }
    }
}
