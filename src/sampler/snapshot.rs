//! One look at one process, for `stallspy dump`.

use super::gil_watch::Held;
use super::natives::{NativeStack, SourceLines};
use super::pace::now;
use super::parked_greenlets::{ParkedGreenlets, parked_greenlets};
use super::process_watch::{AttachError, ProcessWatch};
use super::waiting_tasks::{WaitingTasks, waiting_tasks};
use crate::event_loop::{PROBES, Reading};
use crate::model::{
    CpuState, LoopKind, Peer, PoolInfo, PoolReading, Snapshot, SnapshotFrame, SnapshotLoop,
    SnapshotPool, SnapshotThread, WaitId,
};
use crate::native::lines::SourceLine;
use crate::native::{NativeFrame, Piece};
use crate::python::frames::{RawFrame, RawStack, local};
use crate::python::objects::ReprLimits;
use crate::python::thread_names::thread_names;
use crate::sampler::notes::Notes;
use crate::sampler::thread_watch::{Scene, ThreadWatch};
use crate::server::endpoint;
use crate::target::{ProcFs, ReadError};
use crate::units::{Pid, Tid};

/// The name and major version of the JSON.
const SCHEMA: &str = "stallspy-dump/1";
/// A moving thread is walked this often before it is shown as unreadable.
const TRIES: usize = 20;

/// Looks once at every thread of `pid`; with their local variables if `locals`, with the C frames
/// of those that sleep if `native`.
///
/// # Errors
/// See [`AttachError`].
pub fn snapshot(
    procfs: &ProcFs,
    pid: Pid,
    locals: bool,
    native: bool,
) -> Result<Snapshot, AttachError> {
    let mut watch = ProcessWatch::attach(procfs, pid, false)?;
    let mut notes = Notes::default();
    let read = |error: ReadError| AttachError::Locate(error.into());
    watch.update_threads().map_err(read)?;
    let names = {
        let (scene, _) = watch.scene(&mut notes);
        thread_names(&scene.python).unwrap_or_default()
    };
    let mut lines = native.then(SourceLines::default);
    let mut see = |watch: &mut ProcessWatch, index: usize, held: &Held| {
        let (mut scene, watches) = watch.scene(&mut notes);
        let Some(thread) = watches.get_mut(index) else { return Ok(None) };
        thread.settle(&mut scene);
        let mut stack = walk(&mut scene, thread)?;
        let python_name = names.get(&thread.thread.ident).cloned();
        let mut seen = look(&mut scene, thread, &stack, locals, python_name.clone(), held);
        for _ in 0..TRIES {
            // The system call is that of the line, or the thread moved on in between.
            if seen.syscall.is_none() || thread.is_at_rest() {
                break;
            }
            thread.settle(&mut scene);
            let again = walk(&mut scene, thread)?;
            if again == stack {
                break;
            }
            stack = again;
            seen = look(&mut scene, thread, &stack, locals, python_name.clone(), held);
        }
        let tid = Some(thread.tid);
        scene.awaited.meet(&scene.python, scene.codes, &stack.frames, tid, now());
        if let Some(lines) = &mut lines {
            with_native(&mut scene, thread, &stack, &mut seen.frames, lines);
        }
        watch.remember_files(&stack);
        Ok(Some(seen))
    };
    // Who holds the interpreter lock goes first, until it held it before and after.
    let mut held = Held::default();
    let mut holder = None;
    for _ in 0..TRIES {
        held = watch.held();
        let Some(index) = watch.holder(&held) else { break };
        let seen = see(&mut watch, index, &held).map_err(read)?;
        holder = seen.map(|seen| (index, seen));
        if watch.held() == held {
            break;
        }
    }
    let mut threads = Vec::new();
    for index in 0..watch.thread_count() {
        match holder.take_if(|(of, _)| *of == index) {
            Some((_, seen)) => threads.push(seen),
            None => threads.extend(see(&mut watch, index, &held).map_err(read)?),
        }
    }
    watch.refresh();
    watch.recognise(&mut notes).map_err(read)?;
    let WaitingTasks { tasks, truncated: tasks_truncated } = {
        let (mut scene, watches) = watch.scene(&mut notes);
        waiting_tasks(&mut scene, watches, locals).map_err(read)?
    };
    let ParkedGreenlets { greenlets, note: greenlets_note } = {
        let (mut scene, _) = watch.scene(&mut notes);
        parked_greenlets(&mut scene, locals).map_err(read)?
    };
    // Threads, tasks and greenlets have told what they wait for.
    let pools = watch.pools_now().map_err(read)?.into_iter().map(pool).collect();
    let counts = watch.counts();
    let info = watch.info();
    for thread in &mut threads {
        if thread.name.is_empty() {
            thread.name = kernel_name(&info.threads, thread.tid);
        }
    }
    Ok(Snapshot {
        schema: SCHEMA,
        pid,
        command: info.command,
        python: info.python,
        topology: info.topology.into(),
        config: info.config,
        requests: counts.requests,
        in_flight: counts.in_flight,
        at_ns: now(),
        pools,
        threads,
        tasks,
        tasks_truncated,
        patches: info.patches,
        greenlets,
        greenlets_note,
    })
}

fn pool((info, reading): (PoolInfo, PoolReading)) -> SnapshotPool {
    SnapshotPool {
        kind: info.kind.name(),
        title: info.kind.title(),
        name: info.name,
        limit: reading.limit,
        busy: reading.busy,
        waiting: reading.waiting,
    }
}

fn kernel_name(threads: &[crate::model::ThreadInfo], tid: Tid) -> String {
    let found = threads.iter().find(|info| info.tid == tid);
    found.map(|info| info.name.clone()).unwrap_or_default()
}

/// Reads a stack; a thread that never holds still is shown with none.
pub(super) fn walk(scene: &mut Scene<'_>, thread: &mut ThreadWatch) -> Result<RawStack, ReadError> {
    for _ in 0..TRIES {
        match thread.walk(scene) {
            Err(error @ (ReadError::Gone | ReadError::Denied)) => return Err(error),
            Err(_) => {}
            walked => return walked,
        }
    }
    Ok(RawStack { frames: Vec::new(), truncated: Some(crate::model::Truncation::Torn) })
}

fn look(
    scene: &mut Scene<'_>,
    thread: &mut ThreadWatch,
    stack: &RawStack,
    locals: bool,
    name: Option<String>,
    held: &Held,
) -> SnapshotThread {
    let cpu = thread.cpu_state(scene);
    let gil = scene.gil.state(held, &thread.thread, scene.notes.waits_for_gil(cpu));
    let (state, wait) = match cpu {
        CpuState::Running => ("running", None),
        CpuState::Blocked { wait } => ("blocked", wait),
        CpuState::Unknown => ("unknown", None),
    };
    let (syscall, peer) = wait.map_or((None, None), |wait| describe(scene, wait));
    let frames = stack.frames.iter().filter_map(|raw| frame(scene, raw, locals)).collect();
    SnapshotThread {
        tid: thread.tid,
        name: name.unwrap_or_default(),
        state,
        syscall,
        peer,
        gil: gil.name(),
        event_loop: event_loop(scene, thread, stack),
        frames,
        truncated: stack.truncated.is_some(),
    }
}

fn describe(scene: &Scene<'_>, wait: WaitId) -> (Option<String>, Option<String>) {
    let tables = &scene.notes.tables;
    let Some(wait) = tables.get_wait(wait) else { return (None, None) };
    let peer = wait.peer.as_ref().map(|peer| match peer {
        Peer::Remote(name) | Peer::Local(name) | Peer::Path(name) => tables.text(*name).to_owned(),
        Peer::Child(pid) => format!("child {pid}"),
        Peer::Gil => "the GIL".to_owned(),
    });
    (Some(tables.text(wait.syscall).to_owned()), peer)
}

pub(super) fn frame(scene: &mut Scene<'_>, raw: &RawFrame, locals: bool) -> Option<SnapshotFrame> {
    let code = scene.codes.get(&scene.python, raw.code, now()).ok()?;
    let values = locals.then(|| {
        let objects = scene.python.objects();
        let slots = code.locals.iter().enumerate();
        slots
            .filter_map(|(index, name)| {
                let value = local(&scene.python, raw.addr, index).ok()?;
                (!value.is_null()).then(|| {
                    (
                        name.clone(),
                        objects
                            .repr(value, ReprLimits::default())
                            .unwrap_or_else(|_| "?".to_owned()),
                    )
                })
            })
            .collect()
    });
    Some(SnapshotFrame {
        function: code.name.clone(),
        file: scene.directory.absolute(&code.filename),
        line: code.line(&scene.python, raw),
        native: false,
        module: None,
        locals: values,
    })
}

/// Puts the C frames of a thread that has slept since [`ThreadWatch::settle`] among the others.
fn with_native(
    scene: &mut Scene<'_>,
    thread: &mut ThreadWatch,
    stack: &RawStack,
    frames: &mut Vec<SnapshotFrame>,
    lines: &mut SourceLines,
) {
    if frames.len() != stack.frames.len() {
        return;
    }
    let Some(native) = (0..TRIES).find_map(|_| native_of(scene, thread, stack)) else { return };
    let sources = lines.of(scene, &native.trace);
    let merged = native.merged(stack).into_iter().filter_map(|piece| match piece {
        Piece::Python(at) => frames.get(at).cloned(),
        Piece::Native(at) => {
            let source = sources.get(at).cloned().flatten();
            native.frames.get(at).map(|frame| native_frame(frame, source))
        }
    });
    *frames = merged.collect();
}

/// The C stack of a thread that sleeps where `stack` was read; it may have been awake for a moment.
fn native_of(
    scene: &mut Scene<'_>,
    thread: &mut ThreadWatch,
    stack: &RawStack,
) -> Option<NativeStack> {
    if !thread.is_at_rest() {
        thread.settle(scene);
        if thread.walk(scene).ok()? != *stack {
            return None;
        }
    }
    let native = NativeStack::of_sleeper(scene, &thread.files, now())?;
    thread.is_at_rest().then_some(native)
}

fn native_frame(frame: &NativeFrame, source: Option<SourceLine>) -> SnapshotFrame {
    let module = frame.module.clone().unwrap_or_default();
    let name = module.rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned);
    let (file, line) = source.map_or((module, None), |source| (source.file, source.line));
    SnapshotFrame {
        function: frame.function.clone(),
        file,
        line,
        native: true,
        module: name,
        locals: None,
    }
}

fn event_loop(
    scene: &mut Scene<'_>,
    thread: &ThreadWatch,
    stack: &RawStack,
) -> Option<SnapshotLoop> {
    for probe in PROBES {
        let at = now();
        let found = probe.find(&mut thread.sight(scene, stack, at));
        let Ok(Some(mut clock)) = found else { continue };
        let view = thread.view(scene, at);
        let reading = clock.look(&view);
        let mut seen = SnapshotLoop {
            kind: LoopKind::name(probe.kind()),
            phase: "unknown",
            running_for: None,
            waiting_callbacks: clock.waiting(&view),
            task: None,
            coroutine: None,
            endpoint: None,
        };
        match reading {
            Ok(Reading::Polling) => seen.phase = "polling",
            Ok(Reading::Running(running)) => {
                seen.phase = "running";
                seen.running_for = Some(now().since(running.began.middle()));
                let names = clock.task(&view, &running);
                seen.task = names.task;
                seen.coroutine = names.coroutine;
                seen.endpoint = endpoint(&scene.python, scene.codes, stack, at);
            }
            _ => {}
        }
        return Some(seen);
    }
    None
}
