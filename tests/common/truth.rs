//! What a server says was true, what a report says, and which of the one is in which of the other.
//!
//! Matching is that of `scripts/score.py`, which scores; `judge.rs` turns it into assertions.
#![allow(dead_code)] // each test binary uses some of it

use serde::Deserialize;
use serde_json::Value;

/// A line of a server's truth log (`fixtures/servers/README.md`).
#[derive(Debug, Clone, Deserialize)]
pub struct Entry {
    pub kind: String,
    pub start_ns: u64,
    pub end_ns: u64,
    pub pid: i32,
    pub tid: Option<i32>,
    pub run_delay_ns: Option<u64>,
    /// Of an iteration: when the poll returned and when it was called again, the log's own code
    /// included.
    pub poll_edges_ns: Option<(u64, u64)>,
    #[serde(default)]
    pub file: String,
    #[serde(default)]
    pub lines: Vec<u64>,
    #[serde(default)]
    pub function: String,
    pub syscall: Option<String>,
    pub peer: Option<String>,
    pub endpoint: Option<String>,
    #[serde(default)]
    pub ongoing: bool,
    /// Of a task or greenlet that is parked: its name, and those that it waits for.
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub waits_for: Vec<String>,
    /// Major page faults in it.
    #[serde(default)]
    pub faults: u64,
}

impl Entry {
    pub fn length(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// The ends of an iteration, as the kernel sees them or as the loop does.
    pub fn edges(&self, by_kernel: bool) -> (u64, u64) {
        self.poll_edges_ns.filter(|_| by_kernel).unwrap_or((self.start_ns, self.end_ns))
    }

    /// Whether it is a call that blocked a loop.
    pub fn blocks(&self) -> bool {
        !["no_loop", "iteration"].contains(&self.kind.as_str())
    }

    /// Whether its thread waited for a CPU during a quarter of its time or more: then it is as right
    /// to blame the machine, and what it was seen doing need not be what it did.
    pub fn was_starved(&self) -> bool {
        self.run_delay_ns.is_some_and(|delay| 4 * delay >= self.length())
    }

    /// What a report may say of it. A C call on the CPU is both.
    pub fn kinds(&self) -> &[&str] {
        match self.kind.as_str() {
            "cpu" => &["cpu"],
            "json" | "pbkdf2" | "sqlite" | "zlib" => &["c_call", "cpu"],
            "fork" => &["c_call", "cpu", "blocking_call"],
            _ => &["blocking_call"],
        }
    }
}

/// One stall of a report: what tests look at, and the rest.
#[derive(Debug, Clone)]
pub struct Stall {
    pub start_ns: u64,
    pub end_ns: u64,
    pub pid: i64,
    pub tid: i64,
    pub kind: String,
    pub json: Value,
}

impl Stall {
    /// All stalls of a report.
    pub fn all(report: &Value) -> Vec<Stall> {
        let stalls = report["stalls"].as_array().expect("a report has stalls");
        stalls.iter().map(Stall::new).collect()
    }

    fn new(json: &Value) -> Stall {
        let number = |key: &str| json[key].as_u64().unwrap_or_else(|| panic!("no {key}: {json}"));
        Stall {
            start_ns: number("start_ns"),
            end_ns: number("start_ns") + number("duration_ns"),
            pid: json["pid"].as_i64().expect("a stall has a process"),
            tid: json["tid"].as_i64().expect("a stall has a thread"),
            kind: json["kind"].as_str().expect("a stall has a kind").to_owned(),
            json: json.clone(),
        }
    }

    pub fn number(&self, key: &str) -> u64 {
        self.json[key].as_u64().unwrap_or_else(|| panic!("no {key}: {}", self.json))
    }

    pub fn length(&self) -> u64 {
        self.end_ns - self.start_ns
    }

    /// Seen from its beginning to its end.
    pub fn is_whole(&self) -> bool {
        self.json["ongoing"] == false && self.json["before_attach"] == false
    }

    /// How much of an entry is in it, whichever thread's.
    pub fn covers(&self, entry: &Entry) -> u64 {
        self.overlap(entry.start_ns, entry.end_ns)
    }

    /// How much of this time is in it.
    pub fn overlap(&self, start_ns: u64, end_ns: u64) -> u64 {
        self.end_ns.min(end_ns).saturating_sub(self.start_ns.max(start_ns))
    }

    pub fn same_process(&self, entry: &Entry) -> bool {
        self.pid == i64::from(entry.pid)
    }

    pub fn same_thread(&self, entry: &Entry) -> bool {
        self.same_process(entry) && entry.tid.is_none_or(|tid| self.tid == i64::from(tid))
    }

    /// In few words, for a message.
    pub fn brief(&self) -> String {
        let culprit = &self.json["culprit"];
        format!(
            "{} of {:.1} ms ({:.1} to {:.1}) at {} {}:{} {}()",
            self.kind,
            self.length() as f64 / 1e6,
            self.number("duration_min_ns") as f64 / 1e6,
            self.number("duration_max_ns") as f64 / 1e6,
            self.json["endpoint"].as_str().unwrap_or(""),
            culprit["file"].as_str().unwrap_or("?").rsplit('/').next().unwrap_or("?"),
            culprit["line"],
            culprit["syscall"].as_str().unwrap_or(""),
        )
    }
}
