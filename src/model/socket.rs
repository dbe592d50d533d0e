//! Sockets of a process: the lines before those that listen, and who it is connected to.

use serde::{Deserialize, Serialize};

use super::Level;

/// A listening socket over the recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerInfo {
    /// Its inode: workers that share it have the same.
    pub inode: u64,
    /// Its address, or a Unix socket's path.
    pub address: String,
    /// How many connections may wait to be accepted; `None` if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How many waited.
    pub queue: Level,
    /// Looks, of those of `queue`, at which any did.
    pub waiting: u64,
}

impl ListenerInfo {
    /// Counts a look.
    pub fn add(&mut self, queue: Option<u32>, limit: Option<u32>) {
        self.limit = limit.or(self.limit);
        self.queue.add(queue);
        self.waiting = self.waiting.saturating_add(u64::from(queue > Some(0)));
    }

    /// The share of time in which a connection waited; `None` without a look.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts of looks stay far below 2^53
    pub fn waiting_share(&self) -> Option<f64> {
        let looks = self.queue.looks;
        (looks > 0).then(|| self.waiting.min(looks) as f64 / looks as f64)
    }
}

/// A process's connections to one peer, over the recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// The peer's address, `10.0.0.7:5432`; `None` for all connections that clients made to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// How many there were at a time.
    pub open: Level,
    /// Connections met at a look that had one before it.
    pub met: u64,
    /// Of these: not there at the look before.
    pub fresh: u64,
    /// Packages and C libraries that were seen waiting for it, `psycopg2`, `libpq.so.5`; concluded, never recorded.
    #[serde(skip)]
    pub libraries: Vec<String>,
}

impl ConnectionInfo {
    /// Of the connections met, the share that was new since the look before: 0 where connections are
    /// kept, towards 1 where each is used for one request. `None` where none was met.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts of looks stay far below 2^53
    pub fn fresh_share(&self) -> Option<f64> {
        (self.met > 0).then(|| self.fresh.min(self.met) as f64 / self.met as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_line_is_no_empty_one() {
        let mut one = ListenerInfo {
            inode: 1,
            address: String::new(),
            limit: None,
            queue: Level::default(),
            waiting: 0,
        };
        one.add(None, None);
        assert_eq!((one.waiting_share(), one.queue.mean()), (None, None));
        one.add(Some(0), Some(128));
        one.add(Some(3), None);
        assert_eq!((one.waiting_share(), one.limit), (Some(0.5), Some(128)));
    }
}
