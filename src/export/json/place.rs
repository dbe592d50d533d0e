//! Places in a program as JSON: frames, stacks, culprits and what they wait for.

use serde::{Serialize, Serializer};

use crate::model::{
    Culprit, Frame, FrameId, FrameKind, LockOwner, NameId, Peer, Recording, StackId, Wait,
};
use crate::units::Tid;

/// The text of a name, where there is one.
pub(super) fn text(recording: &Recording, id: Option<NameId>) -> Option<&str> {
    id.map(|id| recording.tables.text(id))
}

/// A source line.
#[derive(Default, Serialize)]
pub(super) struct SpotOut<'a> {
    file: Option<&'a str>,
    line: Option<u32>,
    function: Option<&'a str>,
}

/// The source line of a frame.
pub(super) fn spot(recording: &Recording, id: FrameId) -> SpotOut<'_> {
    let frame = recording.tables.get_frame(id);
    SpotOut {
        file: text(recording, frame.and_then(|frame| frame.file)),
        line: frame.and_then(|frame| frame.line),
        function: text(recording, frame.map(|frame| frame.function)),
    }
}

#[derive(Serialize)]
struct FrameOut<'a> {
    file: Option<&'a str>,
    line: Option<u32>,
    function: &'a str,
    native: bool,
    module: Option<&'a str>,
}

impl<'a> FrameOut<'a> {
    fn new(recording: &'a Recording, frame: &Frame) -> FrameOut<'a> {
        FrameOut {
            file: text(recording, frame.file),
            line: frame.line,
            function: recording.tables.text(frame.function),
            native: frame.kind == FrameKind::Native,
            module: module(recording, frame),
        }
    }
}

/// The file name of a C frame's module: `libc.so.6`.
fn module<'a>(recording: &'a Recording, frame: &Frame) -> Option<&'a str> {
    text(recording, frame.module).map(|path| path.rsplit('/').next().unwrap_or(path))
}

/// A stack, leaf first; an empty list where none was seen.
pub(super) struct StackOut<'a> {
    pub(super) recording: &'a Recording,
    /// What C code the innermost Python frame is in.
    pub(super) native: Option<StackId>,
    pub(super) stack: Option<StackId>,
}

impl Serialize for StackOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stacks = self.native.into_iter().chain(self.stack);
        let frames = stacks.flat_map(|id| self.recording.tables.frames_of(id));
        serializer.collect_seq(frames.map(|(_, frame)| FrameOut::new(self.recording, frame)))
    }
}

/// Who to blame, and what it waits for.
#[derive(Serialize)]
pub(super) struct CulpritOut<'a> {
    #[serde(flatten)]
    spot: SpotOut<'a>,
    tid: Tid,
    share: f64,
    native: Option<NativeOut<'a>>,
    library: Option<SpotOut<'a>>,
    syscall: Option<&'a str>,
    fd: Option<i32>,
    peer: Option<&'a str>,
    local: Option<&'a str>,
    path: Option<&'a str>,
    child_pid: Option<i32>,
    lock_owner: Option<LockOwnerOut<'a>>,
}

/// The thread that held a lock, and where it was.
#[derive(Serialize)]
struct LockOwnerOut<'a> {
    tid: Tid,
    thread: Option<&'a str>,
    #[serde(flatten)]
    spot: SpotOut<'a>,
}

fn lock_owner<'a>(recording: &'a Recording, owner: &LockOwner) -> LockOwnerOut<'a> {
    let spot = owner.frame.map_or(SpotOut::default(), |frame| spot(recording, frame));
    LockOwnerOut { tid: owner.tid, thread: text(recording, owner.name), spot }
}

/// A C function.
#[derive(Serialize)]
struct NativeOut<'a> {
    function: &'a str,
    module: Option<&'a str>,
}

fn native(recording: &Recording, id: Option<FrameId>) -> Option<NativeOut<'_>> {
    let frame = recording.tables.get_frame(id?)?;
    let function = recording.tables.text(frame.function);
    Some(NativeOut { function, module: module(recording, frame) })
}

/// A culprit with everything known about it.
pub(super) fn culprit<'a>(recording: &'a Recording, culprit: &Culprit) -> CulpritOut<'a> {
    let wait: Option<&Wait> = culprit.wait.and_then(|id| recording.tables.get_wait(id));
    let peer = wait.and_then(|wait| wait.peer.as_ref());
    CulpritOut {
        spot: spot(recording, culprit.frame),
        tid: culprit.tid,
        share: culprit.share,
        native: native(recording, culprit.native),
        library: culprit.library.map(|id| spot(recording, id)),
        syscall: text(recording, wait.map(|wait| wait.syscall)),
        fd: wait.and_then(|wait| wait.fd),
        peer: match peer {
            Some(Peer::Remote(id)) => text(recording, Some(*id)),
            _ => None,
        },
        local: match peer {
            Some(Peer::Local(id)) => text(recording, Some(*id)),
            _ => None,
        },
        path: match peer {
            Some(Peer::Path(id)) => text(recording, Some(*id)),
            _ => None,
        },
        child_pid: match peer {
            Some(Peer::Child(pid)) => Some(*pid),
            _ => None,
        },
        lock_owner: culprit.lock_owner.as_ref().map(|owner| lock_owner(recording, owner)),
    }
}
