//! What differs between CPython versions, as data: numbers ([`Offsets`]) and meanings ([`Shape`]).
//!
//! No I/O. Nothing outside `layout/` compares versions; readers match on these enums instead, and
//! the compiler lists them when a variant is added. Field names are CPython's own.

/// How a thread's innermost frame is reached and how frames are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameLink {
    /// `tstate.frame` points to `PyFrameObject`s linked by `f_back` (3.8 to 3.10).
    FrameObject,
    /// `tstate.cframe->current_frame` (3.11, 3.12).
    CFrame,
    /// `tstate.current_frame` (3.13 on).
    Direct,
}

/// How a frame says which instruction it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastInstruction {
    /// `f_lasti`, an `int`, in bytes from the start of the code (3.8, 3.9).
    Bytes,
    /// `f_lasti`, an `int`, in two-byte code units (3.10).
    Units,
    /// A pointer into `co_code_adaptive` (3.11 on).
    Pointer,
}

/// How a code object maps instructions to lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineTable {
    /// `co_lnotab`, pairs of unsigned byte and signed line deltas (3.8, 3.9).
    Lnotab,
    /// `co_linetable` of PEP 626 (3.10).
    Pep626,
    /// `co_linetable` of PEP 657, varint location entries (3.11 on).
    Locations,
}

/// How a code object names its local variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalNames {
    /// `co_varnames`, then `co_cellvars`, then `co_freevars` (3.8 to 3.10).
    Separate,
    /// `co_localsplusnames` for all, with `co_localspluskinds` (3.11 on).
    Joined,
}

/// Where an instance keeps its attributes (when it has no `__slots__`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attributes {
    /// A dict at `tp_dictoffset` (3.8 to 3.10).
    DictOffset,
    /// A dict at -24 bytes, else a values array at -32 (3.11).
    DictOrValuesApart,
    /// One word at -24 bytes: dict, or values pointer minus one (3.12).
    DictOrValuesTagged,
    /// A dict at -24 bytes, else values inline after `tp_basicsize` (3.13 on).
    InlineValues,
}

/// How a dict's keys object is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DictKeys {
    /// `dk_size` entries of index, 24-byte entries (3.8 to 3.10).
    Sized,
    /// `dk_log2_index_bytes`, 16-byte entries for all-string keys (3.11 on).
    Log2,
}

/// How an int keeps its sign and digit count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntTag {
    /// `ob_size`: its sign is the number's (3.8 to 3.11).
    Size,
    /// `lv_tag`: digit count in bits 3 up, sign in bits 0 and 1 (3.12 on).
    Tag,
}

/// Whether object references in frames carry tag bits (`_PyStackRef`, 3.14 on) that must be masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackReferences {
    /// Plain pointers.
    Plain,
    /// The two lowest bits are tags (Include/internal/pycore_stackref.h, v3.14.0).
    Tagged,
}

/// Where a thread keeps asyncio's running loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunningLoop {
    /// In `tstate.dict` under `__asyncio_running_event_loop__` (3.8 to 3.12).
    ThreadDict,
    /// In the word right after `PyThreadState` (`_PyThreadStateImpl.asyncio_running_loop`, 3.13).
    AfterThreadState,
    /// Where the `.AsyncioDebug` section says (3.14 on).
    DebugSection,
}

/// Where an asyncio wake-up callback keeps its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeupCallback {
    /// `TaskWakeupMethWrapper.ww_task` (3.8, 3.9).
    Wrapper,
    /// A builtin method bound to the task: `m_self` (3.10 on).
    BoundMethod,
}

/// Where a generator or coroutine keeps its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeneratorFrame {
    /// At this offset is a pointer to a `PyFrameObject`, `gi_frame` (3.8 to 3.10).
    Pointer(u64),
    /// At this offset it begins, `gi_iframe` (3.11 on).
    Inside(u64),
}

/// Where a suspended frame's evaluation stack ends, by [`FrameOffsets::stack_top`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackTop {
    /// A pointer behind the last value: `f_stacktop` (3.8, 3.9), `stackpointer` (3.14 on).
    Pointer,
    /// An `int`, how many values lie behind the pointer at this offset, `f_valuestack` (3.10).
    DepthFrom(u64),
    /// An `int`, how many words lie between `localsplus` and it (3.11 to 3.13).
    Words,
}

/// How a generator tells whether it is suspended, and whether in `await` or `yield from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GeneratorState {
    /// Its frame tells: `f_lasti` is below 0 before it starts, and its stack has no top while it runs.
    /// The instruction after the last is this one where it waits for another (3.8 to 3.10).
    Frame {
        /// `YIELD_FROM`.
        delegates: u8,
        /// Offset of `co_code`, a `bytes`, in a code object.
        code: u64,
    },
    /// A byte, `gi_frame_state`: below `executing` suspended, above finished.
    Number {
        /// `FRAME_CREATED`.
        created: i8,
        /// `FRAME_EXECUTING`.
        executing: i8,
        /// How it says that it waits for another.
        delegates: Delegates,
    },
}

/// How a suspended generator says that it waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delegates {
    /// The instruction it goes on with is one of these, with an argument of 2 (`yield from`) or 3
    /// (`await`): `RESUME` in all its forms (3.11, 3.12).
    Resume(&'static [u8]),
    /// `FRAME_SUSPENDED_YIELD_FROM`, and how many words below the top the other lies (3.13 on).
    State {
        /// The number.
        number: i8,
        /// 1, the top itself; 2 from 3.15 on, where iterators take two words.
        below_top: u64,
    },
}

/// How the collector's counts tell which generation it is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generations {
    /// `gc.generations` lies so many bytes before `gc.collecting`, or 4 bytes more (3.13.18 aligns
    /// its heads to 4 bytes). Each has a count; a collection of generation n sets those of 0 to n to
    /// 0, and adds 1 to the next one's.
    Counted {
        /// Bytes from the first generation to `gc.collecting`.
        before: u64,
    },
    /// The collector works in increments and keeps its counts otherwise (3.14.0 to 3.14.4).
    Unknown,
}

/// How a `_queue.SimpleQueue` keeps its items. Measured with `ctypes` in each version; from
/// <https://github.com/python/cpython/blob/v3.12.1/Modules/_queuemodule.c> and
/// <https://github.com/python/cpython/blob/v3.13.0/Modules/_queuemodule.c>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimpleQueue {
    /// In a list, of which the first `lst_pos` were taken (3.8 to 3.12).
    List {
        /// Offset of `lst`.
        items: u64,
        /// Offset of `lst_pos`.
        position: u64,
    },
    /// In a ring buffer that counts them (3.13 on).
    Ring {
        /// Offset of `buf.num_items`.
        len: u64,
    },
}

/// All that *means* something different from version to version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // each field is its type
pub struct Shape {
    pub frame_link: FrameLink,
    pub last_instruction: LastInstruction,
    pub line_table: LineTable,
    pub local_names: LocalNames,
    pub attributes: Attributes,
    pub dict_keys: DictKeys,
    pub int_tag: IntTag,
    pub stack_references: StackReferences,
    pub running_loop: RunningLoop,
    pub wakeup_callback: WakeupCallback,
    pub generations: Generations,
    pub simple_queue: SimpleQueue,
    pub stack_top: StackTop,
    pub generator_state: GeneratorState,
    /// Frames whose `owner` is this or more are the interpreter's own and run no Python.
    pub first_shim_owner: Option<u8>,
}

/// Offsets in `_PyRuntimeState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // CPython's field names
pub struct RuntimeOffsets {
    pub size: u64,
    pub interpreters_head: u64,
    /// `gc.collecting`, where all interpreters share a collector (3.8).
    pub gc_collecting: Option<u64>,
}

/// Offsets in `PyInterpreterState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct InterpreterOffsets {
    pub next: u64,
    pub threads_head: u64,
    pub modules: u64,
    pub sysdict: u64,
    /// `gc.collecting`, where each interpreter has its own collector (3.9 on).
    pub gc_collecting: Option<u64>,
}

/// Where an interpreter's lock is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GilHome {
    /// At this offset in `_PyRuntimeState`: all interpreters share it (3.8 to 3.11).
    Runtime(u64),
    /// At this offset in `PyInterpreterState` is a pointer to it, `ceval.gil` (3.12 on).
    Interpreter(u64),
}

/// The interpreter lock: where it is, and offsets in it (`struct _gil_runtime_state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct GilOffsets {
    pub home: GilHome,
    /// `PyThreadState` of the thread that holds it, or was the last to.
    pub last_holder: u64,
    /// An `int`: 1 while it is held, 0 while it is not, -1 before it is made.
    pub locked: u64,
}

/// Offsets in `PyThreadState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ThreadOffsets {
    pub size: u64,
    pub next: u64,
    pub interp: u64,
    pub thread_id: u64,
    pub native_thread_id: Option<u64>,
    /// `frame`, `cframe` or `current_frame`: see [`FrameLink`].
    pub frame: u64,
    /// `current_frame` in `_PyCFrame`; 0 where there is none.
    pub cframe_current_frame: u64,
    pub dict: Option<u64>,
}

/// Offsets in `PyFrameObject` (to 3.10) or `_PyInterpreterFrame`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct FrameOffsets {
    pub code: u64,
    pub previous: u64,
    /// `f_lasti`, `prev_instr` or `instr_ptr`: see [`LastInstruction`].
    pub instruction: u64,
    pub localsplus: u64,
    /// Says where the evaluation stack ends: see [`StackTop`].
    pub stack_top: u64,
    pub owner: Option<u64>,
    /// Whether C entered the interpreter with this frame (3.11 alone). Before, it did with every
    /// frame; after, such a frame's caller is one of the interpreter's own.
    pub is_entry: Option<u64>,
}

/// Offsets in `PyCodeObject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CodeOffsets {
    pub name: u64,
    pub filename: u64,
    pub qualname: Option<u64>,
    pub firstlineno: u64,
    pub linetable: u64,
    /// `co_varnames` or `co_localsplusnames`: see [`LocalNames`].
    pub localnames: u64,
    /// `co_localspluskinds`: which of the names are locals, cells and free variables (3.11 on).
    pub localkinds: Option<u64>,
    pub cellvars: Option<u64>,
    pub freevars: Option<u64>,
    pub code_adaptive: Option<u64>,
}

/// Offsets in objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ObjectOffsets {
    pub ob_type: u64,
    pub tp_name: u64,
    pub tp_basicsize: u64,
    pub tp_itemsize: u64,
    pub tp_flags: u64,
    pub tp_dictoffset: u64,
    pub ht_cached_keys: Option<u64>,
    /// `sizeof(PyASCIIObject)`: where an ASCII string's characters begin.
    pub ascii_size: u64,
    /// `sizeof(PyCompactUnicodeObject)`: where other compact strings' characters begin.
    pub compact_size: u64,
    pub unicode_length: u64,
    pub unicode_state: u64,
    pub bytes_size: u64,
    pub bytes_value: u64,
    pub tuple_size: u64,
    pub tuple_items: u64,
    pub list_size: u64,
    pub list_items: u64,
    pub dict_used: u64,
    pub dict_keys: u64,
    pub dict_values: u64,
    /// First value in a `PyDictValues`: 0 to 3.12 (a bare array, or one with its prefix before it).
    pub dict_values_first: u64,
    /// `dk_size` or `dk_log2_index_bytes`: see [`DictKeys`].
    pub keys_size: u64,
    /// `dk_kind`: 0 when the entries carry a hash (3.11 on).
    pub keys_kind: Option<u64>,
    pub keys_nentries: u64,
    pub keys_indices: u64,
    pub set_used: u64,
    pub set_mask: u64,
    pub set_table: u64,
    pub float_value: u64,
    /// `ob_size` or `lv_tag`: see [`IntTag`].
    pub int_tag: u64,
    pub int_digits: u64,
    pub cell_contents: u64,
    pub deque_size: u64,
    pub deque_leftblock: u64,
    pub deque_leftindex: u64,
}

/// Offsets in asyncio's objects. `Handle` has `__slots__`, so its slots' order is its layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AsyncioOffsets {
    pub handle_callback: u64,
    /// `_when` of a `TimerHandle`: `loop.time()` it is due at, a float.
    pub timer_when: u64,
    pub task_coro: u64,
    pub task_name: u64,
    pub step_task: u64,
    pub wakeup_task: u64,
    /// `gi_qualname` of a coroutine.
    pub coroutine_qualname: u64,
}

/// All offsets of one interpreter, in bytes from the start of the struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Offsets {
    pub runtime: RuntimeOffsets,
    pub interpreter: InterpreterOffsets,
    pub gil: GilOffsets,
    pub thread: ThreadOffsets,
    pub frame: FrameOffsets,
    pub code: CodeOffsets,
    pub object: ObjectOffsets,
    pub asyncio: AsyncioOffsets,
}

/// Everything needed to read one interpreter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Major and minor version.
    pub version: (u8, u8),
    /// What means something different.
    pub shape: Shape,
    /// Where things lie.
    pub offsets: Offsets,
}

impl Layout {
    /// Where generators and coroutines keep their frames: behind `gi_qualname` come `gi_exc_state` (two
    /// words), `gi_origin_or_finalizer` and four bytes of state.
    /// <https://github.com/python/cpython/blob/v3.12.1/Include/cpython/genobject.h>
    #[must_use]
    pub fn generator_frame(&self) -> GeneratorFrame {
        match self.shape.frame_link {
            FrameLink::FrameObject => GeneratorFrame::Pointer(16),
            FrameLink::CFrame | FrameLink::Direct => {
                let qualname = self.offsets.asyncio.coroutine_qualname;
                GeneratorFrame::Inside(qualname.saturating_add(40))
            }
        }
    }

    /// Where they keep `gi_frame_state`, a byte (3.11 on): of the four bytes of state, which end a word
    /// before the frame, the last.
    #[must_use]
    pub fn generator_state_at(&self) -> u64 {
        self.offsets.asyncio.coroutine_qualname.saturating_add(35)
    }

    /// Whether this is the layout of the CPython that gives `hexversion` (`sys.hexversion`) as its
    /// version.
    #[must_use]
    pub fn is_for(&self, hexversion: u32) -> bool {
        let [major, minor, ..] = hexversion.to_be_bytes();
        self.version == (major, minor)
    }
}
