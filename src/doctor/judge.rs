//! From facts to tiers: what works, what does not and why, and what would help. Pure.

use serde::Serialize;

use super::advice::Advice;
use super::facts::{Attach, Facts, Target};
use super::obstacle::{self, Obstacle};
use super::remedy::{self, Remedy};
use crate::error::exit;
use crate::target::{Capabilities, Trial};

/// The name and major version of the JSON.
const SCHEMA: &str = "stallspy-doctor/1";
/// For the files in `/proc/PID`, and for programs in places only their owner may enter.
const READING: Capabilities =
    Capabilities(Capabilities::SYS_PTRACE.0 | Capabilities::DAC_READ_SEARCH.0);

/// Everything found out, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The JSON's name and major version.
    pub schema: &'static str,
    /// The version of stallspy that looked.
    pub version: &'static str,
    /// 0 if a recording is possible, else what it would end with.
    pub exit_code: u8,
    /// What it rests on.
    #[serde(flatten)]
    pub facts: Facts,
    /// What works, most needed first.
    pub tiers: Vec<Tier>,
}

/// One thing stallspy can do where it is let.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tier {
    /// Its name for programs, which does not change.
    pub id: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Whether it works.
    pub state: State,
    /// Why, in a sentence.
    pub reason: String,
    /// What to type to be allowed more, the best first.
    #[serde(rename = "try")]
    pub advice: Vec<Advice>,
}

/// Whether something works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It does.
    Yes,
    /// Some of it, or for some processes.
    Partly,
    /// It does not.
    No,
}

/// A tier before its remedies are put into words.
struct Draft {
    state: State,
    reason: String,
    remedies: Vec<Remedy>,
    /// The capabilities that would open it.
    wanted: Capabilities,
}

impl Draft {
    fn works(reason: impl Into<String>) -> Draft {
        let reason = reason.into();
        Draft { state: State::Yes, reason, remedies: Vec::new(), wanted: Capabilities::NONE }
    }

    fn hindered(facts: &Facts, obstacle: &Obstacle, wanted: Capabilities) -> Draft {
        let remedies = remedy::remedies(facts, obstacle, wanted);
        let mut reason = obstacle.sentence(facts);
        if remedies.is_empty()
            && let Some(why) = remedy::why_none(facts, obstacle)
        {
            reason = format!("{reason}; {why}");
        }
        Draft { state: State::No, reason, remedies, wanted }
    }

    /// What needs this, and nothing else.
    fn shared(&self) -> Draft {
        let reason = match self.state {
            State::No => "takes the memory of the process, which cannot be read",
            State::Yes | State::Partly => "wherever memory can be read",
        };
        let (remedies, wanted) = (self.remedies.clone(), self.wanted);
        Draft { state: self.state, reason: reason.to_owned(), remedies, wanted }
    }

    /// Only some of it does not work: `rest` does.
    fn but(mut self, rest: &str) -> Draft {
        self.state = State::Partly;
        self.reason = format!("{rest}; {}", self.reason);
        self
    }

    /// More could be had.
    fn or_more(mut self, facts: &Facts, wanted: Capabilities) -> Draft {
        self.remedies = remedy::by_capabilities(facts, wanted);
        self.wanted = wanted;
        self
    }
}

/// Judges.
#[must_use]
pub fn judge(facts: Facts) -> Diagnosis {
    let memory = memory(&facts);
    let readable = memory.state != State::No;
    let (system_calls, asleep) = (system_calls(&facts, &memory), asleep(&facts, &memory));
    let drafts = [
        ("memory", "memory and Python stacks", memory),
        ("system_calls", "system calls, files and peers", system_calls),
        ("edges", "exact edges of stalls", edges(&facts)),
        ("c_stacks_asleep", "C stacks of threads that sleep", asleep),
        ("c_stacks_running", "C stacks of threads that run", running(&facts)),
        ("priority", "looks that come on time", priority(&facts)),
    ];
    // What cannot be watched is not watched better by anybody else.
    let is_watchable =
        !matches!(facts.target.as_ref().map(|target| &target.attach), Some(Attach::Failed { .. }));
    let wanted = drafts.iter().fold(Capabilities::NONE, |all, (.., draft)| all | draft.wanted);
    let exit_code = exit_code(&facts, readable);
    let tiers = drafts.into_iter().map(|(id, title, draft)| Tier {
        id,
        title,
        state: draft.state,
        reason: draft.reason,
        advice: draft
            .remedies
            .iter()
            .filter(|_| is_watchable)
            .map(|remedy| remedy.advice(&facts, wanted))
            .collect(),
    });
    let tiers = tiers.collect();
    let version = env!("CARGO_PKG_VERSION");
    Diagnosis { schema: SCHEMA, version, exit_code, facts, tiers }
}

/// What `record` would end with.
fn exit_code(facts: &Facts, readable: bool) -> u8 {
    match facts.target.as_ref().map(|target| &target.attach) {
        Some(Attach::Denied { exit_code, .. } | Attach::Failed { exit_code, .. }) => *exit_code,
        Some(Attach::Read { .. }) => exit::DONE,
        None if readable => exit::DONE,
        None => exit::NOT_PERMITTED,
    }
}

fn memory(facts: &Facts) -> Draft {
    let Some(target) = &facts.target else { return memory_of_any(facts) };
    match &target.attach {
        Attach::Read { python, loops, .. } if loops.is_empty() => Draft {
            state: State::Partly,
            ..Draft::works(format!(
                "CPython {python} is read, but no event loop that stallspy can watch was seen in its \
                 threads: stacks can be sampled, stalls cannot be told"
            ))
        },
        Attach::Read { python, loops, .. } => {
            Draft::works(format!("CPython {python} is read, with its {} loop", loops.join(", ")))
        }
        Attach::Denied { .. } => {
            Draft::hindered(facts, &obstacle::of_memory(facts, Some(target)), READING)
        }
        Attach::Failed { .. } if !target.has_memory => Draft {
            state: State::No,
            ..Draft::works(
                "it has none: it is a thread of the kernel, or has ended and not been collected",
            )
        },
        Attach::Failed { error, .. } => Draft { state: State::No, ..Draft::works(error.clone()) },
    }
}

/// Without a target: of whom could memory be read?
fn memory_of_any(facts: &Facts) -> Draft {
    let us = &facts.us;
    match obstacle::of_memory(facts, None) {
        obstacle @ (Obstacle::Filtered(_) | Obstacle::NotThere(_)) => {
            Draft::hindered(facts, &obstacle, READING)
        }
        obstacle @ Obstacle::Yama(scope) if scope > 2 => Draft::hindered(facts, &obstacle, READING),
        _ if us.may_read_others() && us.first_user_namespace => {
            Draft::works("of every process, by CAP_SYS_PTRACE")
        }
        _ if us.may_read_others() => Draft::works("of every process of our user namespace"),
        obstacle @ Obstacle::Yama(1) => Draft::hindered(facts, &obstacle, READING)
            .but("only of servers that stallspy has started"),
        obstacle @ Obstacle::Yama(_) => Draft::hindered(facts, &obstacle, READING),
        _ => Draft::works(format!("of processes of user {}; of others it takes rights", us.user))
            .or_more(facts, READING | facts.machine.perf_capability().among(Capabilities::PERFMON)),
    }
}

fn system_calls(facts: &Facts, memory: &Draft) -> Draft {
    let Some(target) = &facts.target else { return memory.shared() };
    let failed = [(&target.system_call, "the system call"), (&target.files, "the open files")]
        .into_iter()
        .filter(|(trial, _)| **trial != Trial::Works)
        .collect::<Vec<_>>();
    match failed.as_slice() {
        [] => Draft::works("the main thread's system call and the open files can be read"),
        [(trial, what)] => {
            Draft::hindered(facts, &obstacle::of_file(facts, target, trial), READING)
                .but(&format!("all but {what} can be read"))
        }
        [(trial, _), ..] => {
            Draft::hindered(facts, &obstacle::of_file(facts, target, trial), READING)
        }
    }
}

fn edges(facts: &Facts) -> Draft {
    perf(
        facts,
        |target| &target.edges,
        &facts.us.edges,
        "the kernel records when the main \
        thread leaves its poll",
    )
}

fn running(facts: &Facts) -> Draft {
    perf(
        facts,
        |target| &target.running_stacks,
        &facts.us.running_stacks,
        "the kernel copies the main thread's registers and stack",
    )
}

fn perf(
    facts: &Facts,
    of: impl FnOnce(&Target) -> &Trial,
    ours: &Trial,
    what_works: &str,
) -> Draft {
    let wanted = facts.machine.perf_capability();
    let target = facts.target.as_ref();
    match (target, target.map_or(ours, of)) {
        (Some(_), Trial::Works) => Draft::works(format!("{what_works} (tried)")),
        (None, Trial::Works) if facts.us.may_perf() => {
            Draft::works("perf events of every process are allowed")
        }
        (None, Trial::Works) => Draft::works(format!(
            "perf events of processes of user {} are allowed; of others it takes rights",
            facts.us.user
        )),
        (_, trial) => Draft::hindered(facts, &obstacle::of_perf(facts, target, trial), wanted),
    }
}

fn asleep(facts: &Facts, memory: &Draft) -> Draft {
    let Some(target) = &facts.target else { return memory.shared() };
    match &target.attach {
        Attach::Read { .. } if target.system_call != Trial::Works => {
            let obstacle = obstacle::of_file(facts, target, &target.system_call);
            Draft::hindered(facts, &obstacle, READING)
        }
        Attach::Read { with_c_stack: 0, .. } => Draft::works(
            "what they are read from is readable; no thread slept long enough to try it",
        ),
        Attach::Read { asleep, with_c_stack, .. } => {
            Draft::works(format!("read: of {with_c_stack} of {asleep} threads that slept"))
        }
        Attach::Denied { .. } | Attach::Failed { .. } => memory.shared(),
    }
}

fn priority(facts: &Facts) -> Draft {
    if facts.us.priority {
        return Draft::works("on a busy machine stallspy goes before others (niceness -15)");
    }
    let wanted = Capabilities::SYS_NICE;
    Draft {
        state: State::Partly,
        ..Draft::works(
            "on a busy machine looks come late, and a short stall may be missed: going before \
             others takes CAP_SYS_NICE",
        )
    }
    .or_more(facts, wanted)
}
