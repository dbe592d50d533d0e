//! The table of stalls, by culprit.

use std::io;

use super::causes;
use super::ink::{Ink, Page, Piece, columns};
use super::lengths;
use crate::export::names::FileNames;
use crate::model::{Cause, CulpritTotal, FrameId, LockOwner, Recording, Report, Stall};
use crate::printable::shortened;
use crate::units::Nanos;

/// Most lines of the table: more is not read, and the JSON has all.
const MOST: usize = 12;
/// A pause that people notice: 0.1 s (Miller 1968; Nielsen, *Usability Engineering*, 1993, §5.5).
const NOTICED: Nanos = Nanos::from_millis(100);
/// Widths of the columns before the cause, with what is between them.
const NUMBERS: usize = 27;
/// Where the culprit goes if it has no room beside the numbers.
const BELOW: usize = 9;
/// Least columns for a culprit beside the numbers.
const BESIDE: usize = 44;
/// Most contributors to an iteration of many callbacks, and characters of each.
const CONTRIBUTORS: usize = 3;
const CONTRIBUTOR: usize = 40;
/// Most characters of a thread's name.
const THREAD_NAME: usize = 32;
/// Most characters of an endpoint.
const ENDPOINT: usize = 48;

/// What is said above the calls that held a request's thread.
const THREADS: &str = "Calls that held a request's thread: it served nobody else meanwhile.";

/// Writes the table, the accepted stalls in one of their own.
pub(super) fn write(page: &mut Page<'_>, report: &Report, names: &FileNames<'_>) -> io::Result<()> {
    let (allowed, gated): (Vec<_>, Vec<_>) =
        report.culprits.iter().partition(|total| total.allowed);
    let (threads, loops): (Vec<_>, Vec<_>) = gated.iter().partition(|total| total.occupies);
    if gated.is_empty() {
        none(page, report, allowed.is_empty())?;
    }
    for (noun, totals) in [("stalls", &loops), ("calls", &threads)] {
        if totals.is_empty() {
            continue;
        }
        if totals.len() < gated.len() && noun == "calls" {
            page.blank()?;
        }
        if noun == "calls" {
            page.prose(&[(Ink::Plain, " ")], Ink::Dim, THREADS)?;
        }
        let mut table = Table::new(page, report, names, totals);
        table.head(noun)?;
        table.rows(totals)?;
    }
    if !allowed.is_empty() {
        page.blank()?;
        let text = "known and accepted (--allow): not gated";
        page.line(&[(Ink::Bold, "ALLOWED"), (Ink::Plain, "  "), (Ink::Dim, text)])?;
        Table::new(page, report, names, &allowed).rows(&allowed)?;
    }
    page.blank()
}

/// Nothing to show: then say how much was seen, so that it means something.
fn none(page: &mut Page<'_>, report: &Report, at_all: bool) -> io::Result<()> {
    let recording = &report.recording;
    let looks: u64 = recording.loops.iter().map(|info| info.tally.looks()).sum();
    let span = lengths::span(recording.length());
    let head = [(Ink::Plain, " ")];
    if recording.loops.is_empty() {
        let text = format!(
            "No event loop was seen in {span}, so nothing can be said about its stalls. \
             `stallspy dump -p PID` shows what the threads do."
        );
        return page.prose(&head, Ink::Warning, &text);
    }
    if looks == 0 {
        let text = format!("No look at a loop could tell anything in {span}.");
        return page.prose(&head, Ink::Warning, &text);
    }
    let other = if at_all { "" } else { "other " };
    if recording.event_loops().next().is_none() {
        let text = format!(
            "No {other}request held its thread for {} or longer in {span}: {} at {}.",
            lengths::plain(recording.settings.threshold),
            lengths::many(looks, "look"),
            lengths::many(recording.request_threads().count() as u64, "thread"),
        );
        return page.prose(&head, Ink::Plain, &text);
    }
    let text = format!(
        "No {other}stall of {} or longer in {span}: {} at {}.",
        lengths::plain(recording.settings.threshold),
        lengths::many(looks, "look"),
        lengths::many(recording.event_loops().count() as u64, "event loop"),
    );
    page.prose(&head, Ink::Plain, &text)
}

struct Table<'a, 'p> {
    page: &'a mut Page<'p>,
    report: &'a Report,
    names: &'a FileNames<'a>,
    cause_width: usize,
    beside: bool,
}

impl<'a, 'p> Table<'a, 'p> {
    fn new(
        page: &'a mut Page<'p>,
        report: &'a Report,
        names: &'a FileNames<'a>,
        totals: &[&CulpritTotal],
    ) -> Table<'a, 'p> {
        let recording = &report.recording;
        let causes = totals.iter().map(|total| columns(causes::short(recording, total)));
        let cause_width = causes.max().unwrap_or(0).max("cause".len());
        let beside = page.width() >= NUMBERS + cause_width + 2 + BESIDE;
        Table { page, report, names, cause_width, beside }
    }

    fn recording(&self) -> &'a Recording {
        &self.report.recording
    }

    fn head(&mut self, noun: &str) -> io::Result<()> {
        let width = self.cause_width;
        let mut head = format!("{noun:>7}  {:>7}  {:>7}  cause", "total", "longest");
        if self.beside {
            head.push_str(&format!("{:1$}  culprit", "", width - "cause".len()));
        }
        self.page.line(&[(Ink::Dim, &head)])
    }

    fn rows(&mut self, totals: &[&CulpritTotal]) -> io::Result<()> {
        for total in totals.iter().take(MOST) {
            self.row(total)?;
        }
        let rest = totals.get(MOST..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        let count: usize = rest.iter().map(|total| total.count).sum();
        let time: Nanos = rest.iter().map(|total| total.total).sum();
        let text = format!(
            "{count:>7}  {:>7}  in {} more places: `-f json` lists them",
            lengths::plain(time),
            rest.len()
        );
        self.page.line(&[(Ink::Dim, &text)])
    }

    fn row(&mut self, total: &CulpritTotal) -> io::Result<()> {
        let members: Vec<&Stall> =
            self.report.stalls.iter().filter(|stall| belongs(stall, total)).collect();
        let longest = members.iter().copied().max_by_key(|stall| stall.duration());
        // What other lines took of stalls is known from looks.
        let shared = total.count - members.len().min(total.count);
        let is_whole = members.iter().all(|stall| stall.particulars.others.is_empty());
        let sum = match shared == 0 && is_whole {
            true => lengths::of(&members),
            false => lengths::sampled(total.total, &members),
        };
        let longest = longest.filter(|one| one.duration() >= total.max);
        let most =
            longest.map_or_else(|| lengths::sampled(total.max, &[]), |one| lengths::of(&[one]));
        let most_ink = match (total.allowed, total.max >= NOTICED) {
            (true, _) => Ink::Plain,
            (false, true) => Ink::AlarmBold,
            (false, false) => Ink::Warning,
        };
        let cause = causes::short(self.recording(), total);
        let numbers = format!("{:>7}  {sum:>7}  ", total.count);
        let most = format!("{most:>7}");
        let width = self.cause_width;
        let top = longest.and_then(|stall| self.top(stall)).filter(|_| total.culprit.is_none());
        let first = self.place(total, top, &members);
        let indent = if self.beside {
            let cause = format!("  {cause:<width$}  ");
            let head = [(Ink::Plain, &*numbers), (most_ink, &most), (Ink::Plain, &cause)];
            self.page.wrapped(&head, &first)?;
            NUMBERS + width + 2
        } else {
            let cause = format!("  {cause}");
            self.page.line(&[(Ink::Plain, &numbers), (most_ink, &most), (Ink::Plain, &cause)])?;
            self.page.wrapped(&[(Ink::Plain, &" ".repeat(BELOW))], &first)?;
            BELOW
        };
        let tables = &self.recording().tables;
        let margin = " ".repeat(indent);
        let margin = [(Ink::Plain, margin.as_str())];
        let below = match top.and_then(|frame| self.names.place(tables.get_frame(frame)?)) {
            Some(place) => vec![Piece::word(Ink::Plain, format!("→ {place}"))],
            None => self.below(total, longest),
        };
        let made_of = longest.filter(|stall| stall.cause == Cause::ManyCallbacks);
        let below = made_of.map_or(below, |stall| self.made_of(stall));
        if !below.is_empty() {
            self.page.wrapped(&margin, &below)?;
        }
        let part = match (shared, members.is_empty()) {
            (0, _) => None,
            (1, true) => Some("within a stall of another line that took longer".to_owned()),
            (_, true) => Some("within stalls of other lines that took longer".to_owned()),
            (n, false) => {
                Some(format!("{n} of them within stalls of other lines that took longer"))
            }
        };
        for note in part.into_iter().chain(notes(&members)) {
            self.page.wrapped(&margin, &[Piece::new(Ink::Warning, note)])?;
        }
        Ok(())
    }

    /// The request, and the line to change.
    fn place(
        &self,
        total: &CulpritTotal,
        longest: Option<FrameId>,
        members: &[&Stall],
    ) -> Vec<Piece> {
        let endpoint = total.endpoint.map(|id| self.recording().tables.text(id));
        let mut pieces: Vec<Piece> = endpoint
            .map(|text| Piece::new(Ink::Request, shortened(text, ENDPOINT)))
            .into_iter()
            .collect();
        pieces.push(match &total.culprit {
            Some(culprit) => Piece::new(Ink::Bold, self.names.spot(culprit.frame)),
            None => Piece::new(Ink::Dim, causes::nobody(total.cause, longest.is_some(), members)),
        });
        pieces
    }

    /// What ran in a stall that nobody is to blame for.
    fn top(&self, stall: &Stall) -> Option<FrameId> {
        let working = matches!(stall.cause, Cause::BlockingCall | Cause::Cpu | Cause::CCall);
        let (id, _) = self.recording().tables.frames_of(stall.stack.filter(|_| working)?).next()?;
        Some(id)
    }

    /// What an iteration of many callbacks was made of: `412 callbacks, 17 waiting:`, `refresh 61 %`.
    fn made_of(&self, stall: &Stall) -> Vec<Piece> {
        let ran = lengths::many(u64::from(stall.callbacks), "callback");
        let waiting = stall.waiting_callbacks.unwrap_or_default();
        let most = stall.particulars.contributors.iter().take(CONTRIBUTORS);
        let most: Vec<Piece> = most
            .map(|one| {
                let name = shortened(self.recording().tables.text(one.name), CONTRIBUTOR);
                Piece::word(Ink::Plain, format!("{name} {:.0} %", one.share * 100.0))
            })
            .collect();
        let colon = if most.is_empty() { "" } else { ":" };
        let head = match waiting {
            0 => format!("{ran}{colon}"),
            _ => format!("{ran}, {waiting} waiting{colon}"),
        };
        std::iter::once(Piece::word(Ink::Plain, head)).chain(most).collect()
    }

    /// How it got stuck: the library's line, the system call, another thread.
    fn below(&self, total: &CulpritTotal, longest: Option<&Stall>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let Some(culprit) = &total.culprit else { return pieces };
        if longest.is_some_and(|stall| stall.tid != culprit.tid) {
            let thread = self.thread(culprit.tid);
            pieces.push(Piece::word(
                Ink::Plain,
                match total.cause {
                    Cause::GilWait => format!("thread {thread} held the GIL there"),
                    _ => format!("in thread {thread}"),
                },
            ));
        }
        let tables = &self.recording().tables;
        let library = culprit.library.and_then(|id| tables.get_frame(id));
        if let Some(place) = library.and_then(|frame| self.names.place(frame)) {
            pieces.push(Piece::word(Ink::Plain, format!("→ {place}")));
        }
        // Of a call that waits, the system call says more than the C library's name for it.
        let computing = culprit.native.filter(|_| total.cause == Cause::CCall);
        let native = culprit.native_library.or(computing);
        if let Some(frame) = native.and_then(|id| tables.get_frame(id)) {
            pieces.push(Piece::word(Ink::Plain, format!("→ {}", self.names.label(frame, false))));
        }
        if let Some(wait) = causes::wait_of(self.recording(), Some(culprit)) {
            pieces.push(causes::call(self.recording(), wait));
        }
        if let Some(owner) = &culprit.lock_owner {
            pieces.extend(self.held_by(owner));
        }
        pieces
    }

    /// `held by thread 4712 (worker)`, `at cache.py:31`.
    fn held_by(&self, owner: &LockOwner) -> Vec<Piece> {
        let tables = &self.recording().tables;
        let name = owner.name.map(|id| shortened(tables.text(id), THREAD_NAME));
        let thread =
            name.map_or_else(|| self.thread(owner.tid), |name| format!("{} ({name})", owner.tid));
        let frame = owner.frame.and_then(|id| tables.get_frame(id));
        let place = frame.and_then(|frame| self.names.place(frame));
        let held = Piece::word(Ink::Plain, format!("held by thread {thread}"));
        let at = place.map(|place| Piece::word(Ink::Plain, format!("at {place}")));
        std::iter::once(held).chain(at).collect()
    }

    fn thread(&self, tid: crate::units::Tid) -> String {
        let threads = self.recording().processes.iter().flat_map(|process| &process.threads);
        match threads.into_iter().find(|thread| thread.tid == tid) {
            Some(thread) if !thread.title().is_empty() => format!("{tid} ({})", thread.title()),
            _ => tid.to_string(),
        }
    }
}

/// What must be said about some of the stalls of a line.
fn notes(members: &[&Stall]) -> Vec<String> {
    let ongoing = members.iter().filter(|stall| stall.ongoing).count();
    let before = members.iter().filter(|stall| stall.before_attach).count();
    let state = if members.iter().all(|stall| stall.occupies) { "held" } else { "blocked" };
    let mut notes = Vec::new();
    match ongoing {
        0 => {}
        1 => notes.push(format!("still {state} when the recording ended")),
        n => notes.push(format!("{n} of them still {state} when the recording ended")),
    }
    match before {
        0 => {}
        1 => notes.push(format!("already {state} when the recording began")),
        n => notes.push(format!("{n} of them already {state} when the recording began")),
    }
    notes
}

/// Whether a stall was counted in a line of the table.
fn belongs(stall: &Stall, total: &CulpritTotal) -> bool {
    stall.cause == total.cause
        && stall.allowed == total.allowed
        && stall.occupies == total.occupies
        && stall.culprit.as_ref().map(|culprit| culprit.frame)
            == total.culprit.as_ref().map(|culprit| culprit.frame)
}
