//! CPython 3.10: where things lie and what they mean, for x86_64 and aarch64 Linux.
//!
//! Numbers only, printed by `scripts/dump-layout` (which also checks them); no code. From:
//! * <https://github.com/python/cpython/blob/v3.10.13/Include/internal/pycore_interp.h>
//! * <https://github.com/python/cpython/blob/v3.10.13/Include/cpython/pystate.h>
//! * <https://github.com/python/cpython/blob/v3.10.13/Include/cpython/frameobject.h>
//! * <https://github.com/python/cpython/blob/v3.10.13/Include/cpython/code.h>
//! * <https://github.com/python/cpython/blob/v3.10.13/Objects/dict-common.h>
//! * <https://github.com/python/cpython/blob/v3.10.13/Modules/_asynciomodule.c>
//! * <https://github.com/python/cpython/blob/v3.10.13/Include/internal/pycore_gil.h>

use crate::layout::shape::{
    AsyncioOffsets, Attributes, CodeOffsets, DictKeys, FrameLink, FrameOffsets, Generations,
    GeneratorState, GilHome, GilOffsets, IntTag, InterpreterOffsets, LastInstruction, Layout,
    LineTable, LocalNames, ObjectOffsets, Offsets, RunningLoop, RuntimeOffsets, Shape, SimpleQueue,
    StackReferences, StackTop, ThreadOffsets, WakeupCallback,
};

/// CPython 3.10.
pub(in crate::layout) const LAYOUT: Layout = Layout {
    version: (3, 10),
    shape: SHAPE,
    offsets: Offsets {
        runtime: RUNTIME,
        interpreter: INTERPRETER,
        gil: GIL,
        thread: THREAD,
        frame: FRAME,
        code: CODE,
        object: OBJECT,
        asyncio: ASYNCIO,
    },
};

const SHAPE: Shape = Shape {
    frame_link: FrameLink::FrameObject,
    last_instruction: LastInstruction::Units,
    line_table: LineTable::Pep626,
    local_names: LocalNames::Separate,
    attributes: Attributes::DictOffset,
    dict_keys: DictKeys::Sized,
    int_tag: IntTag::Size,
    stack_references: StackReferences::Plain,
    running_loop: RunningLoop::ThreadDict,
    wakeup_callback: WakeupCallback::BoundMethod,
    generations: Generations::Counted { before: 176 },
    simple_queue: SimpleQueue::List { items: 32, position: 40 },
    stack_top: StackTop::DepthFrom(64),
    generator_state: GeneratorState::Frame { delegates: 72, code: 48 },
    first_shim_owner: None,
};

const RUNTIME: RuntimeOffsets =
    RuntimeOffsets { size: 672, interpreters_head: 32, gc_collecting: None };

const INTERPRETER: InterpreterOffsets = InterpreterOffsets {
    next: 0,
    threads_head: 8,
    modules: 856,
    sysdict: 872,
    gc_collecting: Some(816),
};

const GIL: GilOffsets = GilOffsets { home: GilHome::Runtime(352), last_holder: 8, locked: 16 };

const THREAD: ThreadOffsets = ThreadOffsets {
    size: 280,
    next: 8,
    interp: 16,
    thread_id: 176,
    native_thread_id: None,
    frame: 24,
    cframe_current_frame: 0,
    dict: Some(152),
};

const FRAME: FrameOffsets = FrameOffsets {
    code: 32,
    previous: 24,
    instruction: 96,
    localsplus: 352,
    stack_top: 80,
    owner: None,
    is_entry: None,
};

const CODE: CodeOffsets = CodeOffsets {
    name: 112,
    filename: 104,
    qualname: None,
    firstlineno: 40,
    linetable: 120,
    localnames: 72,
    localkinds: None,
    cellvars: Some(88),
    freevars: Some(80),
    code_adaptive: None,
};

const OBJECT: ObjectOffsets = ObjectOffsets {
    ob_type: 8,
    tp_name: 24,
    tp_basicsize: 32,
    tp_itemsize: 40,
    tp_flags: 168,
    tp_dictoffset: 288,
    ht_cached_keys: None,
    ascii_size: 48,
    compact_size: 72,
    unicode_length: 16,
    unicode_state: 32,
    bytes_size: 16,
    bytes_value: 32,
    tuple_size: 16,
    tuple_items: 24,
    list_size: 16,
    list_items: 24,
    dict_used: 16,
    dict_keys: 32,
    dict_values: 40,
    dict_values_first: 0,
    keys_size: 8,
    keys_kind: None,
    keys_nentries: 32,
    keys_indices: 40,
    set_used: 24,
    set_mask: 32,
    set_table: 40,
    float_value: 16,
    int_tag: 16,
    int_digits: 24,
    cell_contents: 16,
    deque_size: 16,
    deque_leftblock: 24,
    deque_leftindex: 40,
};

const ASYNCIO: AsyncioOffsets = AsyncioOffsets {
    handle_callback: 24,
    timer_when: 88,
    task_coro: 160,
    task_name: 168,
    step_task: 16,
    wakeup_task: 24,
    coroutine_qualname: 48,
};
