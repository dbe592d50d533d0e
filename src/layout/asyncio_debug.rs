//! What asyncio publishes about itself since 3.14: the `.AsyncioDebug` section.
//!
//! Takes the section's bytes, gives offsets. They are another process's, so untrusted: what cannot be is
//! no section. `struct _Py_AsyncioModuleDebugOffsets` in
//! <https://github.com/python/cpython/blob/v3.14.0/Modules/_asynciomodule.c>; the same in 3.15.

/// The section's name.
pub const ASYNCIO_DEBUG_SECTION: &str = ".AsyncioDebug";
/// Its length in bytes: 13 words.
pub const ASYNCIO_DEBUG_LEN: usize = 104;
/// The most a task or a thread's state can take, in bytes. Real ones are 168 and 1104 (3.15.2).
const MAX_SIZE: u64 = 64 << 10;
/// The most an interpreter's state can take, in bytes. A real one is 226,240 (3.15.2).
const MAX_INTERPRETER: u64 = 8 << 20;

/// Offsets in asyncio's tasks, and of what a thread and an interpreter keep for it, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // CPython's field names
pub struct AsyncioDebug {
    pub task_name: u64,
    pub task_awaited_by: u64,
    pub task_awaited_by_is_set: u64,
    pub task_coro: u64,
    /// A `struct llist_node` by which the task is in a list: `next`, then `prev`.
    pub task_node: u64,
    /// In `PyInterpreterState`: tasks of threads that have ended.
    pub interpreter_tasks_head: u64,
    /// In `_PyThreadStateImpl`.
    pub running_loop: u64,
    pub running_task: u64,
    pub thread_tasks_head: u64,
}

impl AsyncioDebug {
    /// Reads the section; `None` if that is not what these bytes are.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<AsyncioDebug> {
        let (words, _) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let [
            task_size,
            task_name,
            task_awaited_by,
            task_is_task,
            task_awaited_by_is_set,
            task_coro,
            task_node,
            interpreter_size,
            interpreter_tasks_head,
            thread_size,
            running_loop,
            running_task,
            thread_tasks_head,
            ..,
        ] = words[..]
        else {
            return None;
        };
        let inside = |size: u64, most: u64, offsets: &[u64]| {
            size <= most && offsets.iter().all(|offset| *offset < size)
        };
        let in_task = [
            task_name,
            task_awaited_by,
            task_is_task,
            task_awaited_by_is_set,
            task_coro,
            task_node,
        ];
        let fits = inside(task_size, MAX_SIZE, &in_task)
            && inside(interpreter_size, MAX_INTERPRETER, &[interpreter_tasks_head])
            && inside(thread_size, MAX_SIZE, &[running_loop, running_task, thread_tasks_head]);
        fits.then_some(AsyncioDebug {
            task_name,
            task_awaited_by,
            task_awaited_by_is_set,
            task_coro,
            task_node,
            interpreter_tasks_head,
            running_loop,
            running_task,
            thread_tasks_head,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As found in Debian's 3.14.10 and 3.15.2.
    const REAL: [[u64; 13]; 2] = [
        [168, 136, 96, 108, 109, 128, 152, 225_864, 10_880, 936, 864, 872, 880],
        [168, 136, 96, 108, 109, 128, 152, 226_240, 10_856, 1104, 1024, 1032, 1048],
    ];

    fn bytes(words: [u64; 13]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn real_sections_are_read() {
        let told = REAL.map(|words| AsyncioDebug::parse(&bytes(words)).unwrap());
        assert_eq!((told[0].running_loop, told[0].running_task), (864, 872));
        assert_eq!((told[1].running_loop, told[1].task_coro), (1024, 128));
    }

    #[test]
    fn what_cannot_be_is_no_section() {
        for place in 0..13 {
            let mut words = REAL[0];
            words[place] = u64::MAX;
            assert_eq!(AsyncioDebug::parse(&bytes(words)), None, "word {place}");
        }
        assert_eq!(AsyncioDebug::parse(&bytes(REAL[0])[..100]), None);
        assert_eq!(AsyncioDebug::parse(&[]), None);
    }
}
