//! Compares a report with the truth, and fails where it is wrong.
//!
//! No assertion is about this machine's speed. Where a look may have come late because nobody let
//! stallspy run, that is excused only if a counter says so: the report's own late looks, the time
//! the kernel says stallspy waited for a CPU, or a clock that stood still with the whole machine
//! (`freezes.rs`). A quiet machine has none of them, and then nothing may be missed.
#![allow(dead_code)] // each test binary uses some of it

use serde_json::Value;

use super::freezes;
use super::profiler::Ended;
use super::truth::{Entry, Stall};

/// After attaching: the interpreter is located and its loop found in that time.
const SETTLE_NS: u64 = 50_000_000;
/// An iteration is looked into from this share of the threshold on (`sampler/pace.rs`).
const CAPTURE_AGE: f64 = 0.8;
/// A truth log's clock is read a few lines of Python away from where asyncio reads its own.
const LENGTH_SLACK_NS: u64 = 1_000_000;

/// A report beside the truth.
#[derive(Debug)]
pub struct Trial {
    threshold: u64,
    /// What was fully watched.
    first: u64,
    last: u64,
    late_looks: u64,
    starved_ns: u64,
    truth: Vec<Entry>,
    stalls: Vec<Stall>,
}

impl Trial {
    pub fn new(report: &Value, ended: &Ended, truth: Vec<Entry>) -> Trial {
        let number = |value: &Value| value.as_u64().expect("a whole number");
        let attached = number(&report["attached_ns"]);
        Trial {
            threshold: number(&report["threshold_ns"]),
            first: attached + SETTLE_NS,
            last: number(&report["detached_ns"]),
            late_looks: number(&report["losses"]["late_ticks"]),
            starved_ns: ended.starved_ns
                + freezes::within(attached, number(&report["detached_ns"])),
            truth,
            stalls: Stall::all(report),
        }
    }

    fn blocked(&self) -> impl Iterator<Item = &Entry> {
        self.truth.iter().filter(|entry| entry.blocks())
    }

    /// Whether it was watched from its beginning to its end.
    fn inside(&self, entry: &Entry) -> bool {
        entry.start_ns >= self.first && entry.end_ns <= self.last
    }

    /// True stalls that a report must name, and those of them that it does not name.
    fn missed(&self) -> (usize, Vec<&Entry>) {
        let due = |entry: &&Entry| self.inside(entry) && entry.length() >= self.threshold;
        let due: Vec<&Entry> = self.blocked().filter(due).collect();
        let found = |entry: &Entry| {
            let mut same = self.stalls.iter().filter(|stall| stall.same_thread(entry));
            same.any(|stall| 2 * stall.covers(entry) > entry.length())
        };
        (due.len(), due.into_iter().filter(|entry| !found(entry)).collect())
    }

    /// Every true stall is in the report. `least`: how many there must be for this to mean
    /// something.
    pub fn finds_all(&self, least: usize) {
        self.finds_all_but(least, &|_| false);
    }

    /// The same, some excused: those just after a loop began, say.
    pub fn finds_all_but(&self, least: usize, excused: &dyn Fn(&Entry) -> bool) {
        let (due, missed) = self.missed();
        assert!(due >= least, "only {due} true stalls were watched");
        let missed: Vec<&Entry> = missed.into_iter().filter(|entry| !excused(entry)).collect();
        let (long, short): (Vec<&Entry>, Vec<&Entry>) =
            missed.iter().partition(|entry| entry.length() >= 2 * self.threshold);
        // To miss one of twice the threshold, a whole base tick must have come late: it is counted.
        assert!(
            long.len() as u64 <= self.late_looks && few(long.len(), due),
            "missed {} of {due}, with {} late looks: {long:?}",
            long.len(),
            self.late_looks
        );
        // To miss a shorter one, the look aimed at it must have come later than this.
        let late = |entry: &&Entry| entry.length() as f64 - CAPTURE_AGE * self.threshold as f64;
        let needed: f64 = short.iter().map(late).sum();
        assert!(
            short.is_empty() || (few(short.len(), due) && needed <= self.starved_ns as f64),
            "missed {} of {due} short ones; stallspy waited for a CPU for {} ns: {short:?}",
            short.len(),
            self.starved_ns
        );
    }

    /// No stall is reported where none was.
    pub fn invents_none(&self) {
        let invented: Vec<String> =
            self.stalls.iter().filter(|stall| self.is_invented(stall)).map(Stall::brief).collect();
        assert!(invented.is_empty(), "reported, and not true: {invented:#?}");
    }

    /// The same of threads that serve requests. No line is blamed for nothing in more than one of a
    /// hundred. Where nothing stamps every beginning two requests in a row may be taken for one
    /// (docs/LIMITS.md), and then nobody is blamed: one in ten, or three where there are few.
    pub fn invents_hardly_any(&self) {
        let invented = self.stalls.iter().filter(|stall| self.is_invented(stall));
        let (blamed, others): (Vec<&Stall>, Vec<&Stall>) =
            invented.partition(|stall| !stall.json["culprit"].is_null());
        let brief = |all: &[&Stall]| all.iter().map(|stall| stall.brief()).collect::<Vec<_>>();
        let many = self.stalls.len();
        assert!(blamed.len() <= (many / 100).max(1), "blamed for nothing: {:#?}", brief(&blamed));
        assert!(others.len() <= (many / 10).max(3), "not true: {:#?}", brief(&others));
    }

    /// So many in a hundred true stalls are in the report, of threads that serve requests: only looks
    /// tell their beginning and end.
    pub fn finds_most(&self, least: usize, percent: usize) {
        self.finds_most_from(self.threshold, least, percent);
    }

    /// The same of those of `length` nanoseconds or more.
    pub fn finds_most_from(&self, length: u64, least: usize, percent: usize) {
        let (_, missed) = self.missed();
        let is_long = |entry: &&Entry| entry.length() >= length;
        let due = { self.blocked().filter(|entry| self.inside(entry)).filter(is_long) }.count();
        assert!(due >= least, "only {due} true stalls were watched");
        let missed: Vec<&Entry> = missed.into_iter().filter(is_long).collect();
        let found = due - missed.len();
        assert!(100 * found >= percent * due, "missed {} of {due}: {missed:?}", missed.len());
    }

    fn is_invented(&self, stall: &Stall) -> bool {
        let traced = stall.json["evidence"] == "traced";
        let much = |nanos: u64| 5 * nanos >= 4 * self.threshold;
        let own: Vec<&Entry> = self.blocked().filter(|entry| stall.same_thread(entry)).collect();
        let covered: u64 = own.iter().map(|entry| stall.covers(entry)).sum();
        let touches_one = own.iter().any(|entry| stall.covers(entry) > 0 && much(entry.length()));
        // Whatever the loop did, the machine may have let it wait: the loop itself knows. Where it
        // let stallspy wait as well, the length has wide bounds, and it is the least that counts.
        let iteration = self.iteration(stall).is_some_and(|own| {
            let least = stall.number("duration_min_ns").saturating_sub(LENGTH_SLACK_NS);
            let (start, end) = own.edges(traced);
            much(end - start) && 2 * stall.overlap(start, end) >= least
        });
        // Nobody is blamed, and the kernel's own figure says why.
        let delay = stall.json["run_delay_ns"].as_u64().unwrap_or(0);
        let starved = stall.json["kind"] == "cpu_starved" && 2 * delay >= stall.length();
        // A thread that holds the interpreter lock may have been starved, too; it has no truth log. Nor
        // does what kept a thread that nobody is blamed for: its memory being mapped, say.
        let machine = ["gil_wait", "unknown"].contains(&stall.kind.as_str())
            && self.starved_ns >= self.threshold;
        // Without the time in which its CPU stood still there would have been none.
        let frozen = freezes::within(stall.start_ns, stall.end_ns);
        let frozen = frozen > 0 && !much(stall.length().saturating_sub(frozen));
        let excused = starved || machine || frozen || self.is_other_loops(stall);
        !(much(covered) || touches_one || iteration || excused)
    }

    /// The iteration of its loop that a stall speaks of.
    fn iteration(&self, stall: &Stall) -> Option<&Entry> {
        let own = self.truth.iter().filter(|one| one.kind == "iteration" && stall.same_thread(one));
        own.filter(|one| stall.covers(one) > 0).max_by_key(|one| stall.covers(one))
    }

    /// A wait for the GIL while another loop of the process was blocked.
    fn is_other_loops(&self, stall: &Stall) -> bool {
        let other = |entry: &Entry| stall.same_process(entry) && !stall.same_thread(entry);
        stall.kind == "gil_wait"
            && self.blocked().any(|entry| other(entry) && stall.covers(entry) > 0)
    }

    /// True stalls of this one, if all of them were fully watched and they are the larger part of it. A request
    /// is told call by call: what was before a call, and reaches into it by what looks cannot tell, is no
    /// part of that.
    fn parts(&self, stall: &Stall) -> Option<Vec<&Entry>> {
        let touches = |entry: &&Entry| stall.same_thread(entry) && stall.covers(entry) > 0;
        let parts: Vec<&Entry> = self.blocked().filter(touches).collect();
        let covered: u64 = parts.iter().map(|entry| stall.covers(entry)).sum();
        let whole = stall.is_whole()
            && 2 * covered >= stall.length()
            && parts.iter().all(|entry| self.inside(entry));
        (whole && !parts.is_empty() && !self.is_invented(stall)).then_some(parts)
    }

    /// The parts that took the most of a stall: a culprit may be any of these. What they waited for a CPU is
    /// not their own, and what is not in the stall cannot be what it is told for.
    fn heads<'a>(stall: &Stall, parts: &[&'a Entry]) -> Vec<&'a Entry> {
        let own = |part: &Entry| stall.covers(part).saturating_sub(part.run_delay_ns.unwrap_or(0));
        let share = |one: &Entry| -> u64 {
            let same =
                parts.iter().filter(|part| (&part.file, &part.lines) == (&one.file, &one.lines));
            same.map(|part| own(part)).sum()
        };
        let most = parts.iter().map(|part| share(part)).max().unwrap_or(0);
        parts.iter().copied().filter(|part| 10 * share(part) >= 9 * most).collect()
    }

    /// Line, function, kind, system call, peer and endpoint are the true ones.
    pub fn blames_rightly(&self) {
        self.blames_rightly_but(10);
    }

    /// The same, but for one part in `part`: where calls follow each other closely and only looks
    /// tell them apart, some are taken for their neighbours.
    pub fn blames_rightly_but(&self, part: usize) {
        self.blames(part, &|_| true);
    }

    /// Where a line is named at all, it is another one in no more than one part in `part`. On a busy machine
    /// looks come late, and then it may be said that nobody knows.
    pub fn names_rightly_but(&self, part: usize) {
        self.blames(part, &|stall| !stall.json["culprit"].is_null());
    }

    fn blames(&self, part: usize, counts: &dyn Fn(&Stall) -> bool) {
        let (mut judged, mut wrong) = (0, Vec::new());
        for stall in self.stalls.iter().filter(|stall| counts(stall)) {
            let Some(parts) = self.parts(stall) else { continue };
            let heads = Trial::heads(stall, &parts);
            let starved = heads.iter().any(|part| part.was_starved())
                || self.iteration(stall).is_some_and(Entry::was_starved);
            let right = heads.iter().any(|part| is_said(stall, part));
            if !right && (starved || self.is_other_loops(stall)) {
                continue;
            }
            judged += 1;
            if !right {
                wrong.push(format!("{} instead of {:?}", stall.brief(), heads));
            }
        }
        assert!(judged > 0, "no stall could be judged");
        assert!(
            wrong.len() <= (judged / part).max(1),
            "{} of {judged} wrong: {wrong:#?}",
            wrong.len()
        );
    }

    /// The reported bounds contain the true length of the iteration, and are not wide.
    pub fn bounds_lengths(&self) {
        let (mut judged, mut wrong, mut widths) = (0, Vec::new(), Vec::new());
        for stall in &self.stalls {
            let Some(parts) = self.parts(stall) else { continue };
            let (min, max) = (stall.number("duration_min_ns"), stall.number("duration_max_ns"));
            assert!(min <= max && (min..=max).contains(&stall.length()), "{}", stall.json);
            // Whatever else an iteration did, it lasted as long as the calls in it.
            let least: u64 = parts.iter().map(|part| part.length()).sum();
            let own = self.iteration(stall).expect("iterations are logged");
            judged += 1;
            widths.push(max - min);
            let (start, end) = own.edges(stall.json["evidence"] == "traced");
            let length = end - start;
            let contains = min <= length + LENGTH_SLACK_NS && length <= max + LENGTH_SLACK_NS;
            if max < least || !contains || start.abs_diff(stall.start_ns) > LENGTH_SLACK_NS {
                let away = start.abs_diff(stall.start_ns);
                wrong.push(format!("{min}..{max} instead of {length} from {away} away"));
            }
        }
        assert!(few(wrong.len(), judged), "{} of {judged} wrong: {wrong:#?}", wrong.len());
        widths.sort_unstable();
        let median = widths.get(widths.len() / 2).copied().expect("a stall could be judged");
        assert!(median < self.threshold, "lengths are known to {median} ns only");
    }

    /// The stalls that a report has.
    pub fn stalls(&self) -> &[Stall] {
        &self.stalls
    }
}

/// No more than the noise of a shared machine can explain: one, or a tenth. A rule that is broken is
/// wrong in nearly all.
fn few(wrong: usize, of: usize) -> bool {
    wrong <= (of / 10).max(1)
}

fn is_said(stall: &Stall, part: &Entry) -> bool {
    let culprit = &stall.json["culprit"];
    let function = culprit["function"].as_str().unwrap_or_default();
    // From 3.11 on code objects know the qualified name.
    let function = function.rsplit('.').next().unwrap_or_default();
    let line = culprit["line"].as_u64().is_some_and(|line| part.lines.contains(&line));
    let same = |said: &Value, truth: &Option<String>| {
        truth.as_deref().is_none_or(|truth| said.as_str() == Some(truth))
    };
    culprit["file"] == *part.file
        && line
        && function == part.function
        && part.kinds().contains(&stall.kind.as_str())
        && (same(&culprit["syscall"], &part.syscall) || waits_for_exec(culprit, part))
        && same(&culprit["peer"], &part.peer)
        && same(&stall.json["endpoint"], &part.endpoint)
}

/// A child without a CPU is long in its `exec`, and its parent as long in `vfork`.
fn waits_for_exec(culprit: &Value, part: &Entry) -> bool {
    part.kind == "subprocess" && matches!(culprit["syscall"].as_str(), Some("vfork" | "clone3"))
}
