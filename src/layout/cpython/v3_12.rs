//! CPython 3.12: where things lie and what they mean, for x86_64 and aarch64 Linux.
//!
//! Numbers only, printed by `scripts/dump-layout` (which also checks them); no code. From:
//! * <https://github.com/python/cpython/blob/v3.12.1/Include/internal/pycore_interp.h>
//! * <https://github.com/python/cpython/blob/v3.12.1/Include/cpython/pystate.h>
//! * <https://github.com/python/cpython/blob/v3.12.1/Include/internal/pycore_frame.h>
//! * <https://github.com/python/cpython/blob/v3.12.1/Include/cpython/code.h>
//! * <https://github.com/python/cpython/blob/v3.12.1/Include/internal/pycore_dict.h>
//! * <https://github.com/python/cpython/blob/v3.12.1/Modules/_asynciomodule.c>
//! * <https://github.com/python/cpython/blob/v3.12.1/Include/internal/pycore_gil.h>

use crate::layout::shape::{
    AsyncioOffsets, Attributes, CodeOffsets, Delegates, DictKeys, FrameLink, FrameOffsets,
    Generations, GeneratorState, GilHome, GilOffsets, IntTag, InterpreterOffsets, LastInstruction,
    Layout, LineTable, LocalNames, ObjectOffsets, Offsets, RunningLoop, RuntimeOffsets, Shape,
    SimpleQueue, StackReferences, StackTop, ThreadOffsets, WakeupCallback,
};

/// CPython 3.12.
pub(in crate::layout) const LAYOUT: Layout = Layout {
    version: (3, 12),
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
    frame_link: FrameLink::CFrame,
    last_instruction: LastInstruction::Pointer,
    line_table: LineTable::Locations,
    local_names: LocalNames::Joined,
    attributes: Attributes::DictOrValuesTagged,
    dict_keys: DictKeys::Log2,
    int_tag: IntTag::Tag,
    stack_references: StackReferences::Plain,
    running_loop: RunningLoop::ThreadDict,
    wakeup_callback: WakeupCallback::BoundMethod,
    generations: Generations::Counted { before: 176 },
    simple_queue: SimpleQueue::List { items: 32, position: 40 },
    stack_top: StackTop::Words,
    generator_state: GeneratorState::Number {
        created: -2,
        executing: 0,
        // RESUME, INSTRUMENTED_RESUME
        delegates: Delegates::Resume(&[151, 240]),
    },
    // FRAME_OWNED_BY_CSTACK
    first_shim_owner: Some(3),
};

const RUNTIME: RuntimeOffsets =
    RuntimeOffsets { size: 459944, interpreters_head: 40, gc_collecting: None };

const INTERPRETER: InterpreterOffsets = InterpreterOffsets {
    next: 0,
    threads_head: 72,
    modules: 944,
    sysdict: 352,
    gc_collecting: Some(312),
};

const GIL: GilOffsets = GilOffsets { home: GilHome::Interpreter(384), last_holder: 8, locked: 16 };

const THREAD: ThreadOffsets = ThreadOffsets {
    size: 288,
    next: 8,
    interp: 16,
    thread_id: 136,
    native_thread_id: Some(144),
    frame: 56,
    cframe_current_frame: 0,
    dict: Some(112),
};

const FRAME: FrameOffsets = FrameOffsets {
    code: 0,
    previous: 8,
    instruction: 56,
    localsplus: 72,
    stack_top: 64,
    owner: Some(70),
    is_entry: None,
};

const CODE: CodeOffsets = CodeOffsets {
    name: 120,
    filename: 112,
    qualname: Some(128),
    firstlineno: 68,
    linetable: 136,
    localnames: 96,
    localkinds: Some(104),
    cellvars: None,
    freevars: None,
    code_adaptive: Some(192),
};

const OBJECT: ObjectOffsets = ObjectOffsets {
    ob_type: 8,
    tp_name: 24,
    tp_basicsize: 32,
    tp_itemsize: 40,
    tp_flags: 168,
    tp_dictoffset: 288,
    ht_cached_keys: Some(880),
    ascii_size: 40,
    compact_size: 56,
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
    keys_size: 9,
    keys_kind: Some(10),
    keys_nentries: 24,
    keys_indices: 32,
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
    timer_when: 80,
    task_coro: 136,
    task_name: 144,
    step_task: 16,
    wakeup_task: 24,
    coroutine_qualname: 32,
};
