//! Stack frames, interned: a frame or a name that occurs a million times is stored once.

use serde::{Deserialize, Serialize};

/// Index into [`Tables::names`](super::Tables::names).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NameId(pub u32);

/// Index into [`Tables::frames`](super::Tables::frames).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FrameId(pub u32);

/// Index into [`Tables::stacks`](super::Tables::stacks).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StackId(pub u32);

/// What sort of code a frame runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// Interpreted Python.
    Python,
    /// Compiled code in the target's user space.
    Native,
    /// Not code: a note from stallspy in the place of frames.
    Marker,
}

/// One frame of a stack: a place in a program.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// What sort of code it is.
    pub kind: FrameKind,
    /// The function's name (`co_name` for Python, the symbol for native code).
    pub function: NameId,
    /// Source file, absolute as the target sees it; `None` where nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<NameId>,
    /// Line of the running instruction, from 1; `None` where the code has no line table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The ELF module a native frame lies in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<NameId>,
}

/// Why a stack stops before its root. A partial stack is kept, never thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    /// A link changed while we followed it.
    Torn,
    /// A frame's memory could not be read.
    Unreadable,
    /// More frames than [`crate::python::frames::MAX_DEPTH`].
    DepthLimit,
}

/// A call stack, leaf first, as in CPython's own frame chain.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stack {
    /// The frames, leaf first.
    pub frames: Vec<FrameId>,
    /// Why frames are missing at the root end, if any are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<Truncation>,
}
