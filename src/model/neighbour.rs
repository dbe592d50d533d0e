//! Processes on the same machine that a watched one talks to: clients, proxies, databases. What they compute for
//! each request they take from the CPUs that the server runs on.

use serde::{Deserialize, Serialize};

use crate::units::{Nanos, Pid};

/// A process at the other end of connections of watched ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The process.
    pub pid: Pid,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// The watched processes it was met connected to, in ascending order.
    pub of: Vec<Pid>,
    /// CPU time it used while it was known; 10 ms steps.
    #[serde(rename = "cpu_ns")]
    pub cpu: Nanos,
    /// How long it was known.
    #[serde(rename = "known_ns")]
    pub known: Nanos,
}

/// Known for less than this, 10 ms steps of CPU time show no mean.
const LEAST_KNOWN: Nanos = Nanos::from_secs(2);

impl Neighbour {
    /// CPUs' worth that it used; `None` where it was known too short.
    #[must_use]
    pub fn cpus(&self) -> Option<f64> {
        (self.known >= LEAST_KNOWN).then(|| self.cpu.share_of(self.known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_takes_a_while() {
        let known_for = |known| {
            let (name, cpu) = ("nginx".to_owned(), Nanos::from_secs(1));
            Neighbour { pid: Pid(7), name, of: vec![Pid(1)], cpu, known: Nanos::from_secs(known) }
        };
        assert_eq!((known_for(1).cpus(), known_for(4).cpus()), (None, Some(0.25)));
    }
}
