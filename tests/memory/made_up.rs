//! Memory made up from a seed: the same place always reads the same, and most pointers hold.

use std::sync::LazyLock;

use proptest::prelude::*;
use stallspy::layout::shape::LineTable;
use stallspy::layout::{AsyncioDebug, Layout, tables};
use stallspy::python::Interpreter;
use stallspy::python::awaits::chain;
use stallspy::python::code_objects::CodeCache;
use stallspy::python::frames::{MAX_AT_ONCE, MAX_DEPTH, RawFrame, Walker};
use stallspy::python::generators::state_of;
use stallspy::python::greenlets::{MAX_GREENLETS, greenlets, kin_of, parked_at};
use stallspy::python::line_table::line_at;
use stallspy::python::locks::owner_of_awaited;
use stallspy::python::task_lists::{MAX_TASKS, tasks};
use stallspy::python::thread_names::thread_names;
use stallspy::python::threads::{MAX_THREADS, Thread, ThreadIds, threads, unchanged};
use stallspy::python::trio_tasks::tasks_of;
use stallspy::target::{ReadError, RemoteMemory};
use stallspy::units::{Addr, Tid, Timestamp};

use crate::{Counting, SUBJECTS};

/// Words chosen to lead a reader on.
#[derive(Debug)]
struct MadeUp {
    seed: u64,
    /// How many words in sixteen are pointers.
    pointers: u64,
}

impl MadeUp {
    fn word(&self, index: u64) -> u64 {
        let mut x = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.seed;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
        let detail = x >> 8;
        match x & 0xf {
            kind if kind < self.pointers => (detail & 0x7fff_ffff_fff8) | 0x10_0000,
            12 => 0,
            13 => detail & 0x3ff,
            14 => 1 << (24 + detail % 8),
            _ => x,
        }
    }
}

impl RemoteMemory for MadeUp {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        // Very long reads all take the same path; filling them would take the test's time only.
        for (at, byte) in buf.iter_mut().take(1 << 14).enumerate() {
            let addr = addr.0.wrapping_add(at as u64);
            *byte = self.word(addr / 8).to_le_bytes()[(addr % 8) as usize];
        }
        Ok(())
    }
}

/// Every layout: the tables', and those that the images publish.
static LAYOUTS: LazyLock<Vec<Layout>> = LazyLock::new(|| {
    let published = SUBJECTS.iter().map(|subject| subject.located.layout);
    tables().iter().map(|layout| **layout).chain(published).collect()
});

const A_THREAD: Thread = Thread {
    state: Addr(0x7000_0000_0000),
    interpreter: Addr(0x7000_0001_0000),
    ident: 0x7000_0002_0000,
    native: None,
};

/// As found in 3.14.10.
const ASYNCIO: AsyncioDebug = AsyncioDebug {
    task_name: 136,
    task_awaited_by: 96,
    task_awaited_by_is_set: 109,
    task_coro: 128,
    task_node: 152,
    interpreter_tasks_head: 10_880,
    running_loop: 864,
    running_task: 872,
    thread_tasks_head: 880,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn await_chains_of_any_memory_end(seed: u64, pointers in 4..16_u64, at in 4096..1_u64 << 47) {
        for layout in LAYOUTS.iter() {
            let memory = Counting::new(MadeUp { seed, pointers });
            let addr = Addr(at & !7);
            let python = Interpreter::new(&memory, layout, addr);
            let _ = chain(&python, addr);
            let _ = state_of(&python, addr);
            let _ = parked_at(&python, addr);
            let _ = kin_of(&python, addr);
            let found = tasks_of(&python, addr);
            let all = found.ok().flatten().map_or(0, |(_, list)| list.tasks.len());
            prop_assert!(all <= MAX_TASKS);
            let found = greenlets(&python);
            let count = found.ok().flatten().map_or(0, |found| found.greenlets.len());
            prop_assert!(count <= MAX_GREENLETS);
            let debug = Some(ASYNCIO);
            let found = tasks(&python, &[A_THREAD], debug.as_ref());
            prop_assert!(found.map_or(true, |found| found.tasks.len() <= MAX_TASKS));
            // 64 interpreters whose modules are looked through, and their lists.
            memory.assert_within(1 << 20, 1 << 28);
        }
    }

    #[test]
    fn any_memory_does_no_harm(seed: u64, pointers in 4..16_u64, at in 4096..1_u64 << 47) {
        for layout in LAYOUTS.iter() {
            let memory = Counting::new(MadeUp { seed, pointers });
            let runtime = Addr(at & !7);
            let python = Interpreter::new(&memory, layout, runtime);
            prop_assert!(threads(&python).is_ok_and(|threads| threads.len() <= MAX_THREADS));
            let _ = unchanged(&python, &[A_THREAD]);
            // 64 interpreters; their threads; and the links.
            memory.assert_within(64 * 2 + MAX_THREADS as u64 + 4, 4096);

            let memory = Counting::new(MadeUp { seed, pointers });
            let python = Interpreter::new(&memory, layout, runtime);
            let mut walker = Walker::default();
            for _ in 0..2 {
                let stack = walker.walk(&python, &A_THREAD);
                let fits = match stack {
                    Ok(stack) => stack.frames.len() <= MAX_DEPTH,
                    Err(error) => matches!(error, ReadError::Invalid(_)), // a circle
                };
                prop_assert!(fits);
            }
            let _ = walker.fingerprint(&python, &A_THREAD);
            memory.assert_within(2 * 3 * 5 * (MAX_DEPTH as u64 + 8), MAX_AT_ONCE);

            let memory = Counting::new(MadeUp { seed, pointers });
            let python = Interpreter::new(&memory, layout, runtime);
            let mut codes = CodeCache::default();
            let frame = RawFrame { addr: runtime, code: runtime.at(64), instruction: seed, is_entry: true };
            if let Ok(code) = codes.get(&python, frame.code, Timestamp(1)) {
                let _ = code.line(&python, &frame);
            }
            let ids = ThreadIds { by_native: [(7, Tid(7))].into() };
            let _ = ids.of(&memory, &A_THREAD);
            memory.assert_within(3 * 512 * 4 + 16, 256 << 10);

            let memory = Counting::new(MadeUp { seed, pointers });
            let python = Interpreter::new(&memory, layout, runtime);
            let _ = thread_names(&python);
            memory.assert_within(crate::MOST_READS, crate::MOST_AT_ONCE);

            let memory = Counting::new(MadeUp { seed, pointers });
            let python = Interpreter::new(&memory, layout, runtime);
            // Nothing made up is called an `RLock`.
            prop_assert_eq!(owner_of_awaited(&python, runtime, runtime.at(seed & 0xff8)), None);
            memory.assert_within(512, 4096);
        }
    }

    #[test]
    fn any_line_table_does(
        table in prop::collection::vec(any::<u8>(), 0..200),
        first: u32,
        offset in prop_oneof![0..2000_u64, any::<u64>()],
    ) {
        for kind in [LineTable::Lnotab, LineTable::Pep626, LineTable::Locations] {
            prop_assert!(line_at(kind, &table, first, offset) != Some(0));
        }
    }
}
