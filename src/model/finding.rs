//! Findings: what the stalls add up to, and what to do about it.

use serde::{Deserialize, Serialize};

use super::FrameId;
use crate::units::Bounds;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// A small cost.
    Low,
    /// Users notice.
    Medium,
    /// Fix this first.
    High,
}

/// A number with its name and unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// What was measured, `blocked_share`.
    pub name: String,
    /// How much.
    pub value: f64,
    /// In what unit: `ratio`, `s`, `1/s`, `count`.
    pub unit: String,
}

impl Measured {
    /// A number by its name.
    #[must_use]
    pub fn new(name: &str, value: f64, unit: &str) -> Measured {
        Measured { name: name.to_owned(), value, unit: unit.to_owned() }
    }
}

/// What kind of change a recommendation asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Change this line.
    Code {
        /// The culprit's frame.
        frame: FrameId,
    },
    /// Change how the program or its server is configured, where it is not one number.
    Config,
    /// Change something outside the program: the machine, the container.
    Platform,
    /// Change this setting.
    Setting {
        /// What kind of setting it is.
        kind: SettingKind,
        /// Its name, `anyio.total_tokens`.
        setting: String,
        /// Its value now, where known.
        current: Option<u32>,
        /// The value to set.
        recommended: u32,
        /// The values that will do.
        suggested: Bounds<u32>,
        /// What kept the number from being larger.
        limited_by: String,
    },
}

/// What a setting that is one number sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingKind {
    /// Worker processes.
    Workers,
    /// Threads of a worker.
    Threads,
    /// Tokens or threads of a pool.
    ThreadPool,
    /// Connections.
    Connections,
    /// Seconds until a worker is killed.
    Timeout,
}

impl SettingKind {
    /// The JSON value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SettingKind::Workers => "workers",
            SettingKind::Threads => "threads",
            SettingKind::ThreadPool => "thread_pool",
            SettingKind::Connections => "connections",
            SettingKind::Timeout => "timeout",
        }
    }
}

/// What a change is expected to do to one quantity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Of what, `throughput`.
    pub name: String,
    /// As it was measured.
    pub before: f64,
    /// As computed for after the change.
    pub after: f64,
    /// In what unit.
    pub unit: String,
    /// Less may come of it: what else limits it was hidden.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_best: bool,
}

/// One thing to do, with its arithmetic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// What to change.
    pub remedy: Remedy,
    /// What to type.
    pub command: String,
    /// Why.
    pub reason: String,
    /// The numbers it was computed from.
    pub inputs: Vec<Measured>,
    /// What it is expected to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub predicted: Vec<Effect>,
}

impl Recommendation {
    /// The largest part by which it makes anything better, 0 to 1; `None` where nothing is predicted.
    #[must_use]
    pub fn gain(&self) -> Option<f64> {
        self.predicted.iter().map(Effect::gain).reduce(f64::max)
    }

    /// The line that it changes, if it changes one.
    #[must_use]
    pub fn line(&self) -> Option<FrameId> {
        match self.remedy {
            Remedy::Code { frame } => Some(frame),
            _ => None,
        }
    }

    /// Whether it says to leave a setting as it is.
    #[must_use]
    pub fn keeps(&self) -> bool {
        matches!(self.remedy, Remedy::Setting { current: Some(now), recommended, .. } if now == recommended)
    }
}

impl Effect {
    /// The part by which it gets better, 0 to 1: of a time, what falls away; of what gets done, how much of
    /// what will be is new.
    #[must_use]
    pub fn gain(&self) -> f64 {
        let (less, more) = match self.unit.as_str() {
            "s" => (self.after, self.before),
            _ => (self.before, self.after),
        };
        if more > 0.0 { (1.0 - less / more).max(0.0) } else { 0.0 }
    }
}

/// One conclusion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule's id, `loop-blocked-by-call`.
    pub id: String,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence.
    pub summary: String,
    /// What it rests on.
    pub evidence: Vec<Measured>,
    /// Indices into the report's stalls.
    pub stalls: Vec<usize>,
    /// What to do.
    pub recommendations: Vec<Recommendation>,
}

impl Finding {
    /// A figure of its evidence.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.evidence.iter().find(|one| one.name == name).map(|one| one.value)
    }
}

/// What a rule answers. "Not enough evidence" is an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Looked, and it is not so.
    Clear,
    /// It is so.
    Found(Finding),
    /// Cannot tell without this.
    NotEnoughData {
        /// What would be needed.
        need: &'static str,
    },
}
