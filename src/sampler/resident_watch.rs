//! What lives in a process beside its requests, looked for twice: soon after the recording begins, and at
//! its end.
//!
//! Takes the stacks of threads, tasks and parked greenlets, and the loop's timers; gives [`Resident`]s.
//! What ran the same call at both looks lives there; what is met once may be a request's. A look reads
//! some ten words of each thread and task, of so many at most; greenlets cost a walk along all objects, so
//! they are looked at in the end alone.

use std::collections::{HashMap, HashSet};

use super::pace::{now, wall_ahead};
use super::thread_watch::{Scene, ThreadWatch};
use crate::model::origin::{Origin, origin};
use crate::model::{CpuState, Peer, Resident, ResidentKind, ResidentPlace, WorkerClass};
use crate::python::Interpreter;
use crate::python::awaits::{Progress, chain};
use crate::python::frames::{RawFrame, local};
use crate::python::functions::{Callee, callee};
use crate::python::greenlets::{greenlets_among, parked_at};
use crate::python::running_loop::RunningLoop;
use crate::python::task_lists::tasks;
use crate::python::tasks::names_of;
use crate::python::thread_names::thread_names;
use crate::server::residents::{Seen, Sleep, Spot, callback, is_threading_timer, resident};
use crate::target::RemoteMemoryExt;
use crate::units::{Addr, Nanos, Tid, Timestamp};

/// When the first look is taken: an application that was just started has begun its threads by then.
const FIRST: Nanos = Nanos::from_secs(1);
/// When it is taken even while a stall is looked into: of many threads that serve requests one is at any time.
const PATIENCE: Nanos = Nanos::from_secs(2);
/// Least distance of the two looks: few requests last so long.
const APART: Nanos = Nanos::from_secs(2);
/// Most threads, tasks, timers of a loop and greenlets that are looked into: some 20 µs each.
const MOST: usize = 512;
/// Most objects met on the way to greenlets: 1 µs each.
const MOST_OBJECTS: usize = 300_000;
/// Most frames of a stack that are named: those of a watch lie a dozen below a library's.
const MOST_FRAMES: usize = 128;
/// Most descriptors looked at for databases.
const MOST_FILES: usize = 4096;
/// Most residents told of one process.
const MOST_TOLD: usize = 64;
/// Most jobs of a scheduler that are named.
const MOST_JOBS: usize = 8;

/// A call that is under way: its frame and code.
type Call = (Addr, Addr);

/// What the looks of one process show.
#[derive(Debug, Default)]
pub struct ResidentWatch {
    first: Option<Look>,
}

/// Whom to look at.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The process's main thread, and those that run a loop or serve requests: no residents.
    pub busy: &'a [Tid],
    /// Where its standard library lies.
    pub stdlib: Option<&'a str>,
    /// How it runs requests.
    pub class: WorkerClass,
    /// When it was attached to.
    pub attached: Timestamp,
}

/// One look.
#[derive(Debug)]
struct Look {
    at: Timestamp,
    /// Every call under way in threads and tasks.
    calls: HashSet<Call>,
    /// What was recognised, by the call that lives as long as it.
    found: HashMap<Call, Resident>,
    /// Functions that are to be called later, by their code; how many times each is in their counts.
    later: HashMap<Addr, Resident>,
    /// What need not be there twice.
    at_once: Vec<Resident>,
}

impl ResidentWatch {
    /// Takes the first look.
    pub fn open(&mut self, scene: &mut Scene<'_>, threads: &mut [ThreadWatch], who: Who<'_>) {
        self.first = Some(look(scene, threads, who));
    }

    /// Whether the first look is due, of a process that was attached to at `attached` and has a stall that is looked
    /// into, or none.
    #[must_use]
    pub fn is_due(&self, attached: Timestamp, stalled: bool, at: Timestamp) -> bool {
        let wait = if stalled { PATIENCE } else { FIRST };
        self.first.is_none() && at.since(attached) >= wait
    }

    /// Takes the last look: what lives there; `None` where the first is missing, or was just taken.
    pub fn close(
        &mut self,
        scene: &mut Scene<'_>,
        threads: &mut [ThreadWatch],
        who: Who<'_>,
    ) -> Option<Vec<Resident>> {
        let first = self.first.take().filter(|first| now().since(first.at) >= APART)?;
        let last = look(scene, threads, who);
        let mut all = lasting(first, last);
        if matches!(who.class, WorkerClass::Gevent | WorkerClass::Eventlet) {
            all.extend(parked(scene, who));
        }
        all.extend(databases(scene, who));
        Some(gathered(all))
    }
}

/// What both looks show.
fn lasting(first: Look, last: Look) -> Vec<Resident> {
    let mut all = last.at_once;
    let mut found = last.found;
    // What was at work at the last look was recognised at the first.
    for (call, resident) in first.found {
        found.entry(call).or_insert(resident);
    }
    let lasts = |call: &Call| first.calls.contains(call) && last.calls.contains(call);
    all.extend(found.into_iter().filter(|(call, _)| lasts(call)).map(|(_, resident)| resident));
    // Of timers that requests set there are several, or none.
    let is_only = |resident: &Resident| resident.count == 1;
    let again = last
        .later
        .into_iter()
        .filter(|(code, resident)| is_only(resident) && first.later.get(code).is_some_and(is_only));
    all.extend(again.map(|(_, resident)| resident));
    all
}

/// The same things together, in a steady order.
fn gathered(all: Vec<Resident>) -> Vec<Resident> {
    let mut told: Vec<Resident> = Vec::new();
    for one in all {
        let same = |known: &&mut Resident| {
            known.kind == one.kind && known.name == one.name && known.place == one.place
        };
        match told.iter_mut().find(same) {
            Some(known) => known.count = known.count.saturating_add(one.count),
            None => told.push(one),
        }
    }
    told.sort_by(|a, b| (a.kind, &a.name, &a.place).cmp(&(b.kind, &b.name, &b.place)));
    told.truncate(MOST_TOLD);
    told
}

fn look(scene: &mut Scene<'_>, threads: &mut [ThreadWatch], who: Who<'_>) -> Look {
    let mut seen = Look {
        at: now(),
        calls: HashSet::new(),
        found: HashMap::new(),
        later: HashMap::new(),
        at_once: Vec::new(),
    };
    let names = thread_names(&scene.python).unwrap_or_default();
    for thread in threads.iter_mut().filter(|one| !who.busy.contains(&one.tid)).take(MOST) {
        let name = names.get(&thread.thread.ident).map_or("", String::as_str);
        see_thread(scene, thread, who, name, &mut seen);
    }
    see_tasks(scene, threads, who, &mut seen);
    see_timers(scene, threads, who, &mut seen);
    seen
}

fn see_thread(
    scene: &mut Scene<'_>,
    thread: &mut ThreadWatch,
    who: Who<'_>,
    name: &str,
    seen: &mut Look,
) {
    let cpu = thread.settle(scene);
    let Ok(stack) = thread.walk(scene) else { return };
    let (frames, spots) = named(scene, stack.frames.iter());
    seen.calls.extend(frames.iter().map(|frame| (frame.addr, frame.code)));
    if let Some(run) = is_threading_timer(&spots) {
        let timer = frames.get(run).and_then(|frame| variable(scene, frame, "self"));
        let Some(timer) = timer else { return };
        let objects = scene.python.objects();
        let function = objects.attribute(timer, "function").ok().flatten();
        let interval = objects.attribute(timer, "interval").ok().flatten();
        let period = interval.and_then(|interval| number(&scene.python, interval));
        if let Some(function) = function {
            see_later(scene, function, who, period, seen);
        }
        return;
    }
    let sleep = sleep_of(scene, cpu);
    let Some(found) = recognised(scene, &frames, &spots, sleep, who) else { return };
    let root = frames.get(found.root).map(|frame| (frame.addr, frame.code));
    // A thread without a name of its own goes by what it runs.
    let own = (!name.is_empty() && !name.starts_with("Thread-")).then(|| name.to_owned());
    let name = found.library.map(str::to_owned).or(own);
    let name = name.or_else(|| spots.get(found.root).map(|spot| spot.function.clone()));
    let scheduler = frames.get(found.root).filter(|_| found.kind == ResidentKind::Scheduler);
    let scheduler = scheduler.and_then(|frame| variable(scene, frame, "self"));
    let jobs = Jobs::of(scene, scheduler, who);
    if let Some(root) = root {
        let one = told(found, name.unwrap_or_default(), &spots);
        seen.found.insert(root, jobs.told_of(one, who));
    }
}

fn see_tasks(scene: &mut Scene<'_>, threads: &[ThreadWatch], who: Who<'_>, seen: &mut Look) {
    let python = scene.python;
    let debug = scene.asyncio.debug(&python, scene.space.modules()).copied();
    let states: Vec<_> = threads.iter().map(|thread| thread.thread).collect();
    let list = tasks(&python, &states, debug.as_ref()).unwrap_or_default();
    let coroutine = python.layout.offsets.asyncio.task_coro;
    for task in list.tasks.into_iter().take(MOST) {
        let read = python.memory.read_pointer(task.at(coroutine));
        let Ok(chain) = read.and_then(|coroutine| chain(&python, coroutine)) else { continue };
        if !matches!(chain.progress, Progress::Suspended | Progress::Running) {
            continue;
        }
        let (frames, spots) = named(scene, chain.frames.iter().rev());
        seen.calls.extend(frames.iter().map(|frame| (frame.addr, frame.code)));
        let Some(found) = recognised(scene, &frames, &spots, Sleep::Other, who) else { continue };
        let root = frames.get(found.root).map(|frame| (frame.addr, frame.code));
        let own = || names_of(&python, task).coroutine.unwrap_or_default();
        let name = found.library.map_or_else(own, str::to_owned);
        if found.kind == ResidentKind::WebSockets {
            seen.at_once.push(Resident {
                kind: ResidentKind::WebSockets,
                name: String::new(),
                place: None,
                count: 1,
                period: None,
            });
        } else if let Some(root) = root {
            seen.found.insert(root, told(found, name, &spots));
        }
    }
}

/// Timers that asyncio's own loops hold, `loop.call_later`
/// (<https://github.com/python/cpython/blob/v3.12.1/Lib/asyncio/base_events.py#L773>).
fn see_timers(scene: &mut Scene<'_>, threads: &[ThreadWatch], who: Who<'_>, seen: &mut Look) {
    let python = scene.python;
    let debug = scene.asyncio.debug(&python, scene.space.modules()).copied();
    let objects = python.objects();
    for thread in threads {
        let running = RunningLoop::of(&python, &thread.thread, debug.as_ref());
        let Ok(Some(running)) = running else { continue };
        let scheduled = objects.attribute(running.object, "_scheduled").ok().flatten();
        let handles = scheduled.and_then(|list| objects.list_items(list, MOST).ok());
        for handle in handles.unwrap_or_default() {
            let at = handle.at(python.layout.offsets.asyncio.handle_callback);
            if let Ok(function) = python.memory.read_pointer(at) {
                see_later(scene, function, who, None, seen);
            }
        }
    }
}

/// A function that is to be called later.
fn see_later(
    scene: &mut Scene<'_>,
    function: Addr,
    who: Who<'_>,
    period: Option<f64>,
    seen: &mut Look,
) {
    let Ok(Some(Callee { code, object })) = callee(&scene.python, function) else { return };
    if let Some(known) = seen.later.get_mut(&code) {
        known.count = known.count.saturating_add(1);
        return;
    }
    let Some(spot) = spot_of(scene, code) else { return };
    let Some((kind, library)) = callback(&spot, who.stdlib) else { return };
    let name = library.map_or_else(|| spot.function.clone(), str::to_owned);
    let jobs = Jobs::of(scene, object.filter(|_| kind == ResidentKind::Scheduler), who);
    let place = library.is_none().then(|| place_of(&spot));
    let period = period.and_then(in_nanos);
    let one = Resident { kind, name, place, count: 1, period };
    seen.later.insert(code, jobs.told_of(one, who));
}

/// Greenlets that are parked.
fn parked(scene: &mut Scene<'_>, who: Who<'_>) -> Vec<Resident> {
    let python = scene.python;
    let Ok(Some(list)) = greenlets_among(&python, MOST_OBJECTS) else { return Vec::new() };
    let mut all = Vec::new();
    for greenlet in list.greenlets.into_iter().take(MOST) {
        let Ok(Some(stack)) = parked_at(&python, greenlet) else { continue };
        let (frames, spots) = named(scene, stack.frames.iter());
        let Some(found) = recognised(scene, &frames, &spots, Sleep::Other, who) else { continue };
        if found.kind == ResidentKind::WebSockets {
            continue;
        }
        let own = || spots.get(found.root).map(|spot| spot.function.clone());
        let name = found.library.map(str::to_owned).or_else(own).unwrap_or_default();
        let scheduler = frames.get(found.root).filter(|_| found.kind == ResidentKind::Scheduler);
        let scheduler = scheduler.and_then(|frame| variable(scene, frame, "self"));
        let jobs = Jobs::of(scene, scheduler, who);
        all.push(jobs.told_of(told(found, name, &spots), who));
    }
    all
}

/// Databases that were written to since the process was attached to.
fn databases(scene: &Scene<'_>, who: Who<'_>) -> Vec<Resident> {
    let since = Nanos(who.attached.0.saturating_add(wall_ahead().0));
    let open = scene.procfs.databases(scene.pid, MOST_FILES).unwrap_or_default();
    let written = open.into_iter().filter(|one| one.written.is_some_and(|at| at >= since));
    let kind = ResidentKind::SqliteWriter;
    written
        .map(|one| Resident { kind, name: one.path, place: None, count: 1, period: None })
        .collect()
}

/// What a stack is, with its variables read as far as that takes.
fn recognised(
    scene: &Scene<'_>,
    frames: &[RawFrame],
    spots: &[Spot],
    sleep: Sleep,
    who: Who<'_>,
) -> Option<Seen> {
    // Code objects were read for their names a moment ago.
    let mut wanted: Option<(usize, String)> = None;
    let mut ask = |at: usize, name: &str| {
        wanted = Some((at, name.to_owned()));
        None
    };
    resident(spots, sleep, who.stdlib, &mut ask);
    let value = wanted.and_then(|(at, name)| {
        let frame = frames.get(at)?;
        let index = scene.codes.known(frame.code)?.local_index(&name)?;
        number(&scene.python, local(&scene.python, frame.addr, index).ok()?)
    });
    resident(spots, sleep, who.stdlib, &mut |_, _| value)
}

/// What a thread sleeps in.
fn sleep_of(scene: &Scene<'_>, cpu: CpuState) -> Sleep {
    let CpuState::Blocked { wait: Some(wait) } = cpu else { return Sleep::Other };
    let tables = &scene.notes.tables;
    let Some(wait) = tables.get_wait(wait) else { return Sleep::Other };
    match (tables.text(wait.syscall), &wait.peer) {
        _ if wait.is_sleep(tables) => Sleep::Nap,
        // `time.sleep` before 3.11: see `diagnosis/remedy.rs`.
        ("select" | "pselect6", None) if wait.fd.is_none() => Sleep::Nap,
        (_, Some(Peer::Remote(_))) => Sleep::News,
        (_, Some(Peer::Path(name))) if tables.text(*name).contains("inotify") => Sleep::News,
        _ => Sleep::Other,
    }
}

/// Frames with their names, innermost first; those that are being pushed or popped have none.
fn named<'a>(
    scene: &mut Scene<'_>,
    frames: impl Iterator<Item = &'a RawFrame>,
) -> (Vec<RawFrame>, Vec<Spot>) {
    let mut both = (Vec::new(), Vec::new());
    for frame in frames.take(MOST_FRAMES) {
        let Ok(code) = scene.codes.get(&scene.python, frame.code, now()) else { continue };
        both.0.push(*frame);
        both.1.push(Spot {
            function: code.name.clone(),
            file: scene.directory.absolute(&code.filename),
            line: code.line(&scene.python, frame),
        });
    }
    both
}

fn spot_of(scene: &mut Scene<'_>, code: Addr) -> Option<Spot> {
    let code = scene.codes.get(&scene.python, code, now()).ok()?;
    let file = scene.directory.absolute(&code.filename);
    Some(Spot { function: code.name.clone(), file, line: Some(code.first_line) })
}

fn told(found: Seen, name: String, spots: &[Spot]) -> Resident {
    let place = spots.get(found.place).map(place_of);
    let period = found.period.and_then(in_nanos);
    Resident { kind: found.kind, name, place, count: 1, period }
}

fn place_of(spot: &Spot) -> ResidentPlace {
    ResidentPlace { function: spot.function.clone(), file: spot.file.clone(), line: spot.line }
}

/// The object that a frame has in a variable.
fn variable(scene: &mut Scene<'_>, frame: &RawFrame, name: &str) -> Option<Addr> {
    let code = scene.codes.get(&scene.python, frame.code, now()).ok()?;
    local(&scene.python, frame.addr, code.local_index(name)?).ok()
}

/// A number of seconds, whatever its type.
fn number(python: &Interpreter<'_>, value: Addr) -> Option<f64> {
    let objects = python.objects();
    #[allow(clippy::cast_precision_loss)] // no timer waits for 2^53 seconds
    let whole = || objects.int(value).ok().map(|seconds| seconds as f64);
    objects.float(value).ok().or_else(whole)
}

fn in_nanos(seconds: f64) -> Option<Nanos> {
    std::time::Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|time| u64::try_from(time.as_nanos()).ok())
        .map(Nanos)
}

/// The jobs of a scheduler, as far as its stores in memory tell
/// (<https://github.com/agronholm/apscheduler/blob/3.10.4/apscheduler/jobstores/memory.py#L14>).
#[derive(Debug, Default)]
struct Jobs {
    names: Vec<String>,
    /// Where a function of the application's begins that one of them calls (`func`,
    /// <https://github.com/agronholm/apscheduler/blob/3.10.4/apscheduler/job.py#L40>).
    place: Option<ResidentPlace>,
}

impl Jobs {
    fn of(scene: &mut Scene<'_>, scheduler: Option<Addr>, who: Who<'_>) -> Jobs {
        let mut jobs = Jobs::default();
        let python = scene.python;
        let objects = python.objects();
        let stores = scheduler.and_then(|one| objects.attribute(one, "_jobstores").ok()?);
        let stores = stores.and_then(|stores| objects.dict_items(stores, MOST_JOBS).ok());
        for (_, store) in stores.unwrap_or_default() {
            let list = objects.attribute(store, "_jobs").ok().flatten();
            let entries = list.and_then(|list| objects.list_items(list, MOST_JOBS).ok());
            for entry in entries.unwrap_or_default() {
                let job = objects.tuple_items(entry, 1).ok().and_then(|one| one.first().copied());
                let Some(job) = job else { continue };
                let name = objects.member(job, "name").ok().flatten();
                jobs.names.extend(name.and_then(|name| objects.str(name).ok()));
                let function = objects.member(job, "func").ok().flatten();
                let callee = function.and_then(|function| callee(&python, function).ok()?);
                let spot = callee.and_then(|callee| spot_of(scene, callee.code));
                let place = spot.map(|spot| place_of(&spot)).filter(|place| is_own(place, who));
                jobs.place = jobs.place.or(place);
            }
        }
        jobs.names.truncate(MOST_JOBS);
        jobs
    }

    /// The scheduler with the names of its jobs, and at the application's own line.
    fn told_of(self, scheduler: Resident, who: Who<'_>) -> Resident {
        let name = match self.names.join(", ") {
            jobs if jobs.is_empty() => scheduler.name,
            jobs => format!("{} ({jobs})", scheduler.name),
        };
        let started = scheduler.place.filter(|place| self.place.is_none() || is_own(place, who));
        Resident { name, place: started.or(self.place), ..scheduler }
    }
}

fn is_own(place: &ResidentPlace, who: Who<'_>) -> bool {
    origin(&place.file, &place.function, who.stdlib) == Origin::Application
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, count: u32) -> Resident {
        let kind = ResidentKind::Timer;
        Resident { kind, name: name.to_owned(), place: None, count, period: None }
    }

    #[test]
    fn a_scheduler_is_placed_where_the_application_has_to_do_with_it() {
        let at = |file: &str| {
            Some(ResidentPlace { function: "f".to_owned(), file: file.to_owned(), line: Some(3) })
        };
        let who = Who {
            busy: &[],
            stdlib: Some("/usr/lib/python3.12"),
            class: WorkerClass::Gthread,
            attached: Timestamp(0),
        };
        let library = "/srv/venv/lib/python3.12/site-packages/apscheduler/schedulers/blocking.py";
        let told = |started: &str, job: Option<&str>| {
            let jobs = Jobs {
                names: job.map(str::to_owned).into_iter().collect(),
                place: job.and_then(at),
            };
            let scheduler = Resident { place: at(started), ..one("APScheduler", 1) };
            let told = jobs.told_of(scheduler, who);
            (told.name, told.place.unwrap().file)
        };
        let own = "/srv/app/jobs.py";
        assert_eq!(told(library, Some(own)), ("APScheduler (/srv/app/jobs.py)".into(), own.into()));
        assert_eq!(told("/srv/app/main.py", Some(own)).1, "/srv/app/main.py");
        assert_eq!(told(library, None), ("APScheduler".into(), library.into()));
    }

    fn look_of(calls: &[u64], found: &[(u64, &str)], later: &[(u64, u32)]) -> Look {
        Look {
            at: Timestamp(0),
            calls: calls.iter().map(|at| (Addr(*at), Addr(1))).collect(),
            found: found.iter().map(|(at, name)| ((Addr(*at), Addr(1)), one(name, 1))).collect(),
            later: later.iter().map(|(at, count)| (Addr(*at), one("later", *count))).collect(),
            at_once: Vec::new(),
        }
    }

    fn names(first: Look, last: Look) -> Vec<String> {
        gathered(lasting(first, last)).into_iter().map(|one| one.name).collect()
    }

    #[test]
    fn only_what_is_in_the_same_call_at_both_looks_lives_there() {
        let first = || look_of(&[1, 2, 3], &[(1, "both"), (2, "ended"), (3, "at work later")], &[]);
        let last = look_of(&[1, 3, 4], &[(1, "both"), (4, "began")], &[]);
        assert_eq!(names(first(), last), ["at work later", "both"]);
        assert!(names(first(), look_of(&[], &[], &[])).is_empty());
    }

    #[test]
    fn a_server_that_is_never_free_is_looked_at_all_the_same() {
        let watch = ResidentWatch::default();
        let due = |seconds: u64, stalled| {
            watch.is_due(Timestamp(0), stalled, Timestamp(Nanos::from_secs(seconds).0))
        };
        assert!(!due(0, false) && due(1, false));
        assert!(!due(1, true) && due(2, true));
    }

    #[test]
    fn a_timer_is_one_that_is_always_set_once() {
        let first = look_of(&[], &[], &[(1, 1), (2, 1), (3, 5)]);
        let last = look_of(&[], &[], &[(1, 1), (2, 7), (4, 1)]);
        assert_eq!(names(first, last).len(), 1);
    }

    #[test]
    fn the_same_things_are_counted_together() {
        let all = gathered(vec![one("b", 1), one("a", 1), one("b", 2)]);
        let told: Vec<_> = all.iter().map(|one| (one.name.as_str(), one.count)).collect();
        assert_eq!(told, [("a", 1), ("b", 3)]);
    }
}
