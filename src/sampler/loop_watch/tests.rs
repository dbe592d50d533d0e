//! A loop whose thread sleeps in its poll costs no read of its memory, and one that wakes is looked at.

use std::cell::Cell;
use std::fs;
use std::path::Path;
use std::rc::Rc;

use super::*;
use crate::event_loop::View;
use crate::layout::tables;
use crate::model::LoopKind;
use crate::native::AddressSpace;
use crate::python::code_objects::CodeCache;
use crate::python::frames::RawStack;
use crate::python::locate::Located;
use crate::python::running_loop::AsyncioTables;
use crate::python::threads::Thread;
use crate::sampler::gil_watch::GilWatch;
use crate::sampler::notes::{Notes, WorkingDirectory};
use crate::server::pools::awaited::Awaited;
use crate::target::modules::Modules;
use crate::target::peers::Peers;
use crate::target::{ProcFs, RemoteMemory, RemoteMemoryExt, syscalls};
use crate::units::Pid;

const PID: Pid = Pid(7);
const TID: Tid = Tid(7);

/// Memory of zeros that counts how often it is read.
#[derive(Debug, Default)]
struct Counting(Cell<u32>);

impl RemoteMemory for Counting {
    fn read(&self, _: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.0.set(self.0.get() + 1);
        buf.fill(0);
        Ok(())
    }
}

/// A clock that reads one word at each look, and shows what the test says.
#[derive(Debug)]
struct Told(Rc<Cell<Reading>>);

impl Clock for Told {
    fn look(&mut self, view: &View<'_>) -> Result<Reading, ReadError> {
        view.python.memory.read_u64(Addr(0x1000))?;
        Ok(self.0.get())
    }
    fn is_on(&self, _: &RawStack) -> bool {
        true
    }
    fn loop_object(&self) -> Addr {
        Addr(0x2000)
    }
}

/// What the kernel says of the thread: how often it was put on a CPU, and the call it sleeps in.
fn kernel_says(proc: &Path, runs: u64, call: &str) {
    let task = proc.join("7/task/7");
    fs::create_dir_all(&task).unwrap();
    let nr = (0..600).find(|nr| syscalls::name(*nr) == Some(call)).unwrap();
    fs::write(task.join("schedstat"), format!("5000000 0 {runs}\n")).unwrap();
    fs::write(task.join("syscall"), format!("{nr} 0x3 0x1 0x0 0x0 0x0 0x0 0x7ffe 0x1234\n"))
        .unwrap();
}

/// A loop watched without the kernel's record of its edges, and what is told of it.
struct Watched {
    dir: tempfile::TempDir,
    shows: Rc<Cell<Reading>>,
    watch: LoopWatch,
    thread: ThreadWatch,
    memory: Counting,
    notes: Notes,
    pace: Pace,
    located: Located,
}

impl Watched {
    fn polling(call: &str) -> Watched {
        let dir = tempfile::tempdir().unwrap();
        kernel_says(dir.path(), 5, call);
        let procfs = ProcFs::at(dir.path());
        let state = Thread { state: Addr(0x3000), interpreter: Addr(0), ident: 0, native: None };
        let shows = Rc::new(Cell::new(Reading::Polling));
        let mut notes = Notes::default();
        let id = notes.add_loop(PID, TID, LoopKind::Asyncio, now());
        let mut watch = LoopWatch::new(id, TID, Box::new(Told(Rc::clone(&shows))), now());
        watch.edges = EdgeWatch::off(id);
        Watched {
            thread: ThreadWatch::new(&procfs, PID, TID, state),
            watch,
            shows,
            dir,
            memory: Counting::default(),
            notes,
            pace: Pace::new(Nanos::from_millis(10), 0.0),
            located: Located {
                runtime: Addr(0),
                runtime_size: 0,
                layout: *tables()[0],
                version: "3.12.1".to_owned(),
                clock_offset: 0,
            },
        }
    }

    /// Takes so many looks; returns how often memory was read for them.
    fn look(&mut self, times: u32) -> u32 {
        let before = self.memory.0.get();
        let procfs = ProcFs::at(self.dir.path());
        let directory = WorkingDirectory::default();
        let (mut codes, mut asyncio) = (CodeCache::default(), AsyncioTables::default());
        let (mut peers, mut gil) = (Peers::default(), GilWatch::default());
        let mut space = AddressSpace::new(PID, Modules::default(), self.located.runtime);
        let mut awaited = Awaited::default();
        let mut scene = Scene {
            awaited: &mut awaited,
            pid: PID,
            python: self.located.view(&self.memory),
            located: &self.located,
            memory: &self.memory,
            procfs: &procfs,
            directory: &directory,
            codes: &mut codes,
            space: &mut space,
            asyncio: &mut asyncio,
            peers: &mut peers,
            gil: &mut gil,
            freezer: None,
            notes: &mut self.notes,
        };
        for _ in 0..times {
            let seen = self.watch.look(&mut scene, &mut self.thread, &self.pace);
            assert_eq!(seen, Ok(Outcome::Watching));
        }
        self.memory.0.get() - before
    }

    fn polling_looks(&mut self) -> u64 {
        self.notes.tally(LoopId(0)).unwrap().polling
    }
}

#[test]
fn a_loop_asleep_in_its_poll_is_not_read() {
    let mut watched = Watched::polling("epoll_pwait");
    assert_eq!(watched.look(1), 1);
    assert_eq!(watched.look(100), 0);
    // Each of them counts as a look all the same.
    assert_eq!(watched.polling_looks(), 101);
}

#[test]
fn one_that_was_put_on_a_cpu_is_read_at_the_next_look() {
    let mut watched = Watched::polling("epoll_pwait");
    watched.look(3);
    kernel_says(watched.dir.path(), 6, "futex");
    let began = Bounds::exactly(now());
    let running = Running { began, iteration: Some(1), identity: [Addr(1); 3] };
    watched.shows.set(Reading::Running(running));
    assert_eq!(watched.look(1), 1);
    assert!(watched.watch.is_running());
    // Back in its poll, it comes to rest again.
    kernel_says(watched.dir.path(), 7, "epoll_pwait");
    watched.shows.set(Reading::Polling);
    watched.look(2);
    assert_eq!(watched.look(10), 0);
}

#[test]
fn a_young_request_that_sleeps_is_not_read_again_until_it_wakes() {
    let mut watched = Watched::polling("clock_nanosleep");
    watched.watch =
        LoopWatch::of_requests(LoopId(0), TID, Box::new(Told(Rc::clone(&watched.shows))), now());
    // Far from the age at which it is looked into.
    watched.pace = Pace::new(Nanos::from_secs(3600), 0.0);
    let running = |number| {
        let began = Bounds::exactly(now());
        Reading::Running(Running { began, iteration: Some(number), identity: [Addr(number); 3] })
    };
    watched.shows.set(running(1));
    assert_eq!(watched.look(1), 1);
    assert_eq!(watched.look(50), 0);
    kernel_says(watched.dir.path(), 6, "clock_nanosleep");
    watched.shows.set(running(2));
    assert_eq!(watched.look(1), 1);
    assert_eq!(
        watched.watch.iteration.map(|began| began.lo),
        match watched.shows.get() {
            Reading::Running(running) => Some(running.began.lo),
            _ => None,
        }
    );
}

#[test]
fn one_that_sleeps_elsewhere_or_not_at_all_does_not_rest() {
    // It may wait for the interpreter lock: its own clock says polling still.
    let mut watched = Watched::polling("futex");
    assert!(watched.look(10) >= 10);
    let mut watched = Watched::polling("epoll_pwait");
    fs::write(watched.dir.path().join("7/task/7/syscall"), "running\n").unwrap();
    assert!(watched.look(10) >= 10);
}
