//! The rule `busy-idle`: a thread uses a CPU all the time while no request comes in.
//!
//! Takes what threads spent their time on, and closer looks at loops that went round for nobody. A loop
//! that is busy with something of its own (a job, a stream of messages) runs mostly the application's code;
//! one that spins mostly runs its own.

use crate::diagnosis::blocked::ratio;
use crate::diagnosis::{Case, Rule, often, wording};
use crate::model::{
    Finding, FrameId, LoopInfo, LoopKind, Measured, ProcessInfo, Readiness, ReadyFd,
    Recommendation, Recording, Remedy, Severity, Spin, ThreadUse, Verdict,
};
use crate::units::{Nanos, to_f64};

/// It hardly ever waits: a loop with something to wait for sleeps in its poll, and be it between two
/// timers of a millisecond. What is missing is the interpreter lock's and a shared CPU's.
const HARDLY_WAITS: f64 = 0.9;
/// From this share of its running on that a loop's own code takes, it goes round for little: a loop
/// that serves a stream of messages runs its callbacks for most of the time.
const MOSTLY_LOOP: f64 = 0.5;
/// The same of gevent's hub, which is quicker: a callback that asks for itself again runs as much code of its own as of
/// the hub's (measured of `run_callback` and of a greenlet that has itself switched to: 0.40 to 0.45), and what computes
/// for 200 µs between two turns leaves the hub some hundredths.
const MUCH_HUB: f64 = 0.25;
/// From this share on it goes round for nothing, whoever is connected: what comes in has to be looked at
/// by someone's code.
const ALL_LOOP: f64 = 0.9;
/// A request takes a loop some two to ten rounds: one read, a few tasks' steps, one write. With ten
/// times as many it goes round for something else.
const ROUNDS_PER_REQUEST: f64 = 100.0;
/// Fewer requests in a second than that use no CPU to speak of where rounds are not known.
const FEW_REQUESTS: f64 = 1.0;
/// A thread without a loop stays in one line and those around it; a job goes on to another.
const ONE_PLACE: f64 = 0.8;
/// A shorter time shows no habit: a job of a second is none.
const LEAST_SPAN: Nanos = Nanos::from_secs(2);

/// See `docs/findings/busy-idle.md`.
#[derive(Debug)]
pub struct BusyIdle;

impl Rule for BusyIdle {
    fn id(&self) -> &'static str {
        "busy-idle"
    }

    fn page(&self) -> &'static str {
        include_str!("../../../docs/findings/busy-idle.md")
    }

    fn explains(&self, finding: &Finding) -> Option<f64> {
        finding.figure("on_cpu")
    }

    fn check(&self, case: &Case<'_>) -> Verdict {
        let all = case.uses.iter().filter(|one| runs_all_the_time(one));
        let all = all.filter_map(|one| Some((one, case.recording.get_process(one.pid)?)));
        let mut need = None;
        for (one, process) in all {
            match Spinner::of(case.recording, process, one) {
                Some(spinner) if spinner.is_quiet == Some(true) => {
                    return Verdict::Found(spinner.finding(self.id(), case.recording));
                }
                Some(Spinner { is_quiet: None, .. }) => {
                    need = Some("the server's own count of its requests, or no client connected");
                }
                _ => {}
            }
        }
        need.map_or(Verdict::Clear, |need| Verdict::NotEnoughData { need })
    }
}

/// Whether one of a server's loops spins: it is busy, and needs no more workers for that.
pub(crate) fn is_found(case: &Case<'_>) -> bool {
    matches!(BusyIdle.check(case), Verdict::Found(_))
}

fn runs_all_the_time(one: &ThreadUse) -> bool {
    one.looks >= often::LEAST_LOOKS
        && one.span >= LEAST_SPAN
        && one.running_share().is_some_and(|share| share >= HARDLY_WAITS)
}

struct Spinner<'a> {
    used: &'a ThreadUse,
    process: &'a ProcessInfo,
    event_loop: Option<&'a LoopInfo>,
    /// Whether no request comes in; `None` if that is not known.
    is_quiet: Option<bool>,
}

impl<'a> Spinner<'a> {
    /// The thread, if it looks like one that spins.
    fn of(
        recording: &'a Recording,
        process: &'a ProcessInfo,
        used: &'a ThreadUse,
    ) -> Option<Spinner<'a>> {
        let event_loop = used.loop_id.and_then(|id| recording.get_loop(id));
        let spin = event_loop.and_then(|info| info.spin.as_ref());
        let looks_so = match event_loop {
            Some(info) if info.kind == LoopKind::Gevent => used.loop_share() >= MUCH_HUB,
            Some(_) => used.loop_share() >= MOSTLY_LOOP,
            None => !used.serves && one_place(used).is_some(),
        };
        let rounds = spin.and_then(Spin::rounds_per_second);
        let is_quiet = is_quiet(process, recording.length(), rounds)
            .or_else(|| (used.loop_share() >= ALL_LOOP).then_some(true));
        looks_so.then_some(Spinner { used, process, event_loop, is_quiet })
    }

    fn spin(&self) -> Option<&'a Spin> {
        self.event_loop.and_then(|info| info.spin.as_ref())
    }

    fn ready(&self) -> Option<&'a ReadyFd> {
        self.spin().and_then(|spin| spin.always_ready().next())
    }

    /// The line that runs again and again.
    fn line(&self) -> Option<FrameId> {
        let most = self.used.places.first().map(|(frame, _)| *frame);
        match self.event_loop {
            Some(_) => self.used.each_round.or(most),
            None => one_place(self.used),
        }
    }

    fn finding(&self, id: &str, recording: &Recording) -> Finding {
        Finding {
            id: id.to_owned(),
            severity: Severity::High,
            summary: self.summary(recording),
            evidence: self.evidence(recording),
            stalls: Vec::new(),
            recommendations: self.advice(recording),
        }
    }

    fn summary(&self, recording: &Recording) -> String {
        let share = wording::percent(self.used.running_share().unwrap_or(0.0));
        let line = self.line().map(|frame| wording::place(recording, frame));
        let idle = "while hardly a request comes in";
        let Some(_) = self.event_loop else {
            let name = self.process.threads.iter().find(|thread| thread.tid == self.used.tid);
            let name = name.map_or(String::new(), |thread| format!(" ({})", thread.name));
            let line = line.map_or(String::new(), |line| format!(", in {line}"));
            return format!("thread {}{name} runs {share} of the time {idle}{line}", self.used.tid);
        };
        let rounds = self.spin().and_then(Spin::rounds_per_second);
        let rounds = rounds
            .map_or(String::new(), |rounds| format!(", at least {rounds:.0} rounds a second"));
        let mut why: Vec<String> = self.ready().map(ready_as).into_iter().collect();
        why.extend(line.map(|line| format!("each round runs {line}")));
        let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
        format!("the event loop spins {share} of the time {idle}{rounds}{why}")
    }

    fn evidence(&self, recording: &Recording) -> Vec<Measured> {
        let used = self.used;
        let mut all = vec![ratio("on_cpu", used.running_share().unwrap_or(0.0))];
        let cpus = self.process.cpu.share_of(recording.length());
        all.push(Measured::new("cpus_used", cpus, "count"));
        if self.event_loop.is_some() {
            all.push(ratio("of_it_in_the_loop", used.loop_share()));
        }
        let rounds = self.spin().and_then(Spin::rounds_per_second);
        all.extend(rounds.map(|rounds| Measured::new("rounds", rounds, "1/s")));
        let served = self.process.requests.served();
        all.extend(served.map(|served| Measured::new("requests", to_f64(served), "count")));
        all
    }

    fn advice(&self, recording: &Recording) -> Vec<Recommendation> {
        let kind = self.event_loop.map(|info| info.kind);
        let inputs = || vec![ratio("on_cpu", self.used.running_share().unwrap_or(0.0))];
        let mut all = Vec::new();
        if let Some(ready) = self.ready() {
            all.push(Recommendation {
                remedy: self.line().map_or(Remedy::Config, |frame| Remedy::Code { frame }),
                command: deal_with(ready, kind),
                reason:
                    "a poll returns at once as long as one of its descriptors is ready, whether \
                         or not anybody takes what is there"
                        .to_owned(),
                inputs: inputs(),
                predicted: Vec::new(),
            });
        } else if let Some(frame) = self.line() {
            let (command, reason) = wait_instead(kind);
            all.push(Recommendation {
                remedy: Remedy::Code { frame },
                command: command.to_owned(),
                reason: reason.to_owned(),
                inputs: inputs(),
                predicted: Vec::new(),
            });
        } else {
            all.push(Recommendation {
                remedy: Remedy::Config,
                command: format!(
                    "`strace -c -p {}` for a second: only polls, and it is a descriptor that nobody \
                     reads (a library's in C, or one of a fork) or a timer of no length",
                    recording.get_process(self.process.pid).map_or(0, |process| process.pid.0)
                ),
                reason: "the loop goes round without calling any Python code of the application"
                    .to_owned(),
                inputs: inputs(),
                predicted: Vec::new(),
            });
        }
        all
    }
}

/// Whether hardly a request came in; `None` if nothing tells.
fn is_quiet(process: &ProcessInfo, length: Nanos, rounds: Option<f64>) -> Option<bool> {
    let seconds = length.as_secs_f64().max(f64::MIN_POSITIVE);
    match (process.requests.served(), rounds) {
        (Some(0), _) => Some(true),
        (Some(served), Some(rounds)) => {
            Some(rounds * seconds >= to_f64(served) * ROUNDS_PER_REQUEST)
        }
        (Some(served), None) => Some(to_f64(served) / seconds < FEW_REQUESTS),
        (None, _) => {
            let clients = process.connections.iter().find(|one| one.peer.is_none());
            clients.is_none_or(|one| one.open.max == 0).then_some(true)
        }
    }
}

/// The one line of the application that a thread is at, and those of the same function.
fn one_place(used: &ThreadUse) -> Option<FrameId> {
    let all: u64 = used.places.iter().map(|(_, times)| times).sum();
    let (frame, _) = used.places.first()?;
    (to_f64(all) >= to_f64(used.running) * ONE_PLACE).then_some(*frame)
}

fn ready_as(ready: &ReadyFd) -> String {
    let ReadyFd { fd, what, why, .. } = ready;
    let who = if what.is_empty() { String::new() } else { format!(" ({what})") };
    match why {
        Readiness::Unread => {
            format!("descriptor {fd}{who} has something to read that nobody takes")
        }
        Readiness::Closed => {
            format!("descriptor {fd}{who} was closed by its other end, and not here")
        }
        Readiness::Writable => {
            format!("descriptor {fd}{who} is polled for room to write, and has it")
        }
    }
}

fn deal_with(ready: &ReadyFd, kind: Option<LoopKind>) -> String {
    let fd = ready.fd;
    let (reader, writer) = match kind {
        Some(LoopKind::Gevent) => ("stop its watcher".to_owned(), "stop its watcher".to_owned()),
        Some(LoopKind::Asyncio | LoopKind::Uvloop) => {
            (format!("`loop.remove_reader({fd})`"), format!("`loop.remove_writer({fd})`"))
        }
        _ => ("no longer poll it".to_owned(), "no longer poll it".to_owned()),
    };
    match ready.why {
        Readiness::Unread => {
            format!("read from descriptor {fd} until it is empty (`BlockingIOError`), or {reader}")
        }
        Readiness::Closed => {
            format!("close descriptor {fd} once a read gives `b''`: {reader}, then close it")
        }
        Readiness::Writable => format!("{writer} as soon as nothing is left to send"),
    }
}

fn wait_instead(kind: Option<LoopKind>) -> (&'static str, &'static str) {
    match kind {
        Some(LoopKind::Gevent | LoopKind::Eventlet) => (
            "let it wait for what it looks for (an `Event`, `Queue.get()`), or sleep between two \
             looks: `gevent.sleep(0.1)` instead of `sleep(0)`",
            "`sleep(0)` and callbacks that call for themselves again are ready at once: the hub never \
             waits",
        ),
        Some(_) => (
            "let it wait for what it looks for (`asyncio.Event`, `await queue.get()`), or sleep \
             between two looks: `await asyncio.sleep(0.1)` instead of `sleep(0)`, `call_later(0.1, …)` \
             instead of `call_soon`",
            "`sleep(0)` and `call_soon` are ready at once: the loop never waits",
        ),
        None => (
            "if it waits for something there, let it block: `Queue.get()`, `Event.wait(timeout)`, a \
             timeout above 0 in `select`; if it computes, run it in a process of its own",
            "it takes turns with the loop at the interpreter lock and uses a CPU, requests or not",
        ),
    }
}
