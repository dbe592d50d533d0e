//! uvloop: libuv's loop under an asyncio loop object in Cython.
//!
//! It has no frame of its own. The thread says which loop it runs; in the loop object's first words is
//! a pointer to a `uv_loop_t` whose `data` points back to it. Callbacks run in Python frames that the
//! thread has only while they run, so the word by which a thread finds its innermost frame is the same
//! at every poll, and another one in every Python callback.

use super::libuv::{Iterations, Thread, UvLoop, UvTime};
use super::{Clock, Probe, Reading, Running, Sight, TaskNames, View};
use crate::layout::LIBUV_SPAN;
use crate::model::{CallbackRun, LoopKind};
use crate::python::Interpreter;
use crate::python::frames::RawStack;
use crate::python::running_loop::RunningLoop;
use crate::python::tasks::{RunningTask, names_of};
use crate::target::edges::PollCall;
use crate::target::{ReadError, RemoteMemoryExt, Span, SyscallState, coarse_step};
use crate::units::{Addr, Timestamp};

/// Words of the loop object searched: the pointer was the fourth in 0.17 to 0.23 (`uvloop/loop.pxd`),
/// the queue of callbacks is among the first 16.
const SEARCHED: usize = 24;

/// In the path of its library, whatever the installation.
const LIBRARY: &str = "/uvloop/loop.";

/// The probe for uvloop.
#[derive(Debug, Clone, Copy)]
pub struct Uvloop;

#[derive(Debug)]
struct UvloopClock {
    object: Addr,
    uv: UvLoop,
    running: RunningLoop,
    task: Option<RunningTask>,
    /// `Loop._ready`, a deque that lives as long as the loop.
    ready: Option<Addr>,
    poll: PollCall,
    /// Where the thread keeps its way to its innermost frame.
    innermost: Addr,
    base: Base,
    iterations: Iterations,
    /// Whether the thread runs this loop, as of the last look.
    is_running: bool,
    buffer: Vec<u8>,
}

/// The thread's way to its innermost frame while the loop polls.
#[derive(Debug, Clone, Copy, Default)]
struct Base {
    /// Seen at the last poll. It counts when it is seen again.
    candidate: Option<u64>,
    known: Option<u64>,
}

impl Base {
    fn see(&mut self, word: u64) {
        if self.candidate.replace(word) == Some(word) {
            self.known = Some(word);
        }
    }
}

impl Probe for Uvloop {
    fn kind(&self) -> LoopKind {
        LoopKind::Uvloop
    }

    fn find(&self, sight: &mut Sight<'_>) -> Result<Option<Box<dyn Clock>>, ReadError> {
        let python = sight.python;
        // Most threads run no loop, and are asked often.
        if !sight.modules.iter().any(|module| module.path.contains(LIBRARY)) {
            return Ok(None);
        }
        let debug = sight.asyncio.debug(&python, sight.modules);
        let Some(running) = RunningLoop::of(&python, sight.thread, debug)? else {
            return Ok(None);
        };
        let Some((uv, words)) = uv_loop(sight, running.object)? else { return Ok(None) };
        let objects = python.objects();
        let ready = words.into_iter().find(|word| objects.deque_len(*word).is_ok());
        let debug = sight.asyncio.debug(&python, sight.modules);
        let task = RunningTask::of(&python, sight.thread, running.object, debug).ok().flatten();
        Ok(Some(Box::new(UvloopClock {
            object: running.object,
            uv,
            running,
            task,
            ready,
            poll: PollCall::guessed(uv.epoll),
            innermost: sight.thread.state.at(python.layout.offsets.thread.frame),
            base: Base::default(),
            iterations: Iterations::new(coarse_step()),
            is_running: true,
            buffer: vec![0; LIBUV_SPAN],
        })))
    }
}

/// The `uv_loop_t` of a loop object, and the words that it was among.
fn uv_loop(sight: &Sight<'_>, object: Addr) -> Result<Option<(UvLoop, Vec<Addr>)>, ReadError> {
    let python = sight.python;
    let bytes = match python.memory.read_vec(object, SEARCHED.saturating_mul(8)) {
        Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
        Err(_) => return Ok(None),
        Ok(bytes) => bytes,
    };
    let (words, _) = bytes.as_chunks::<8>();
    let words: Vec<Addr> = words.iter().map(|word| Addr(u64::from_le_bytes(*word))).collect();
    for word in words.iter().filter(|word| word.is_plausible()) {
        // `data` is a `uv_loop_t`'s first member.
        if python.memory.read_pointer(*word) != Ok(object) {
            continue;
        }
        let from = (sight.procfs, sight.pid);
        let clock = (sight.now, python.clock_offset);
        if let Some(uv) = UvLoop::at(python.memory, from, *word, object, clock)? {
            return Ok(Some((uv, words)));
        }
    }
    Ok(None)
}

/// What one read of memory gave.
struct Seen {
    innermost: u64,
    mark: u64,
    uv: UvTime,
}

impl UvloopClock {
    /// Reads all that is needed in one call; `None` if the thread does not run this loop now, or it is
    /// not where it was.
    fn read(&mut self, python: &Interpreter<'_>) -> Result<Option<Seen>, ReadError> {
        let mark = self.task.as_ref().map(|task| task.mark(python));
        let proofs = self.running.words();
        let mut words = vec![[0_u8; 8]; proofs.len().saturating_add(3)];
        let places = [self.innermost, self.uv.count_at(), mark.unwrap_or(self.innermost)];
        let places = places.into_iter().chain(proofs.iter().map(|(place, _)| *place));
        let mut spans: Vec<Span<'_>> = vec![(self.uv.addr, &mut self.buffer)];
        spans.extend(places.zip(words.iter_mut()).map(|(place, word)| (place, &mut word[..])));
        let wanted = spans.len();
        if python.memory.read_batch(&mut spans)? < wanted {
            return Ok(None);
        }
        let mut words = words.into_iter().map(u64::from_le_bytes);
        let (Some(innermost), Some(count), Some(mark)) = (words.next(), words.next(), words.next())
        else {
            return Ok(None);
        };
        if !words.zip(proofs).all(|(word, (_, proof))| word == proof.0) {
            return Ok(None);
        }
        let uv = self.uv.decode(&self.buffer, count, self.object, python.clock_offset);
        Ok(uv.map(|uv| Seen { innermost, mark, uv }))
    }

    /// The words that say which loop runs may have moved while it runs on.
    fn find_again(&mut self, view: &View<'_>) -> Result<Reading, ReadError> {
        // From 3.13 on they are in the thread's own state, and do not move.
        let again = match RunningLoop::of(&view.python, view.thread, None) {
            Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
            found => found.ok().flatten().filter(|found| found.object == self.object),
        };
        self.is_running = again.is_some();
        if let Some(again) = again {
            self.running = again;
            return Ok(Reading::Torn);
        }
        Ok(Reading::Moving)
    }

    fn thread(&mut self, view: &View<'_>, innermost: u64) -> Thread {
        if self.base.known.is_some_and(|base| base != innermost) {
            return Thread::Out;
        }
        match view.files.syscall() {
            SyscallState::Blocked { nr, args, .. } if self.poll.is(nr, args) => {
                self.base.see(innermost);
                Thread::InPoll
            }
            SyscallState::Blocked { .. } => Thread::Out,
            SyscallState::Running | SyscallState::BlockedOutside { .. } => Thread::Between,
            // Nobody says: it polls, unless it runs Python.
            SyscallState::Denied | SyscallState::Ended => {
                self.base.see(innermost);
                Thread::InPoll
            }
        }
    }
}

impl Clock for UvloopClock {
    fn look(&mut self, view: &View<'_>) -> Result<Reading, ReadError> {
        let Some(seen) = self.read(&view.python)? else { return self.find_again(view) };
        self.is_running = true;
        let thread = self.thread(view, seen.innermost);
        let step = self.iterations.see(seen.uv, thread, view.now);
        Ok(step.reading([Addr(seen.innermost), Addr(seen.mark), Addr(0)]))
    }

    fn sleeps_in_poll(&mut self, at: Timestamp) -> bool {
        self.iterations.sleeps_in_poll(at)
    }

    fn callback(&self, _view: &View<'_>, _running: &Running) -> Option<CallbackRun> {
        // It counts them in C variables.
        None
    }

    fn up(&self, view: &View<'_>) -> Option<Addr> {
        let python = &view.python;
        let task = self.task.as_ref().and_then(|task| task.read(python).ok().flatten());
        task.filter(|task| {
            python.objects().type_name(*task).is_ok_and(|name| name.ends_with("Task"))
        })
        .or_else(|| python.objects().deque_items(self.ready?, 1).ok()?.first().copied())
    }

    fn polls(&self, view: &View<'_>) -> Option<u64> {
        let count = view.python.memory.read_u64(self.uv.count_at()).ok()?;
        // libuv before 1.45 does not count.
        (count > 0).then_some(count)
    }

    fn waiting(&self, view: &View<'_>) -> Option<u32> {
        // Proven to be a deque when it was found; it lives as long as the loop.
        let size = self.ready?.at(view.python.layout.offsets.object.deque_size);
        u32::try_from(view.python.memory.read_u64(size).ok()?).ok()
    }

    fn task(&self, view: &View<'_>, _running: &Running) -> TaskNames {
        let task = self.task.as_ref().and_then(|task| task.read(&view.python).ok().flatten());
        task.map(|task| names_of(&view.python, task)).unwrap_or_default()
    }

    fn is_on(&self, _stack: &RawStack) -> bool {
        self.is_running
    }

    fn loop_object(&self) -> Addr {
        self.object
    }
}
