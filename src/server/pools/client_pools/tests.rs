//! Pools as they lie in memory, built by hand as CPython 3.10 lays objects out.

use super::*;
use crate::layout::{Layout, tables};
use crate::target::ImageMemory;

/// What an attribute of a made-up object holds.
enum Made {
    Int(i64),
    Deque(u64),
    List(u64),
    None,
    Object(&'static str, Vec<(&'static str, Made)>),
}

use Made::{Deque, Int, List, Object};

/// Bytes that each object has to itself.
const APART: u64 = 1024;
// Flags of types (Include/object.h).
const INT: u64 = 1 << 24;
const LIST: u64 = 1 << 25;
const STR: u64 = 1 << 28;
const DICT: u64 = 1 << 29;
/// Where an instance made here keeps its dict.
const DICT_OFFSET: u64 = 16;

struct Heap {
    memory: ImageMemory,
    layout: Layout,
    next: u64,
}

impl Heap {
    fn new() -> Heap {
        let layout = tables().iter().find(|layout| layout.version == (3, 10)).unwrap();
        Heap { memory: ImageMemory::new(), layout: **layout, next: 0x7f00_0000_0000 }
    }

    /// Room, all of it zero, of which these words are not.
    fn room(&mut self, words: &[(u64, u64)]) -> Addr {
        let addr = Addr(self.next);
        self.next += APART;
        self.memory.insert(addr, &[0; 1024]);
        for (at, word) in words {
            self.memory.insert(addr.at(*at), &word.to_le_bytes());
        }
        addr
    }

    fn class(&mut self, name: &str, flags: u64) -> u64 {
        let text = self.room(&[]);
        self.memory.insert(text, name.as_bytes());
        let offsets = self.layout.offsets.object;
        let dict = if flags == 0 { DICT_OFFSET } else { 0 };
        let words = [
            (offsets.tp_name, text.0),
            (offsets.tp_flags, flags),
            (offsets.tp_basicsize, 32),
            (offsets.tp_dictoffset, dict),
        ];
        self.room(&words).0
    }

    fn text(&mut self, text: &str) -> u64 {
        let kind = self.class("str", STR);
        let offsets = self.layout.offsets.object;
        // Compact, ASCII, a byte for each character.
        let state = 1 << 2 | 1 << 5 | 1 << 6;
        let length = text.len() as u64;
        let addr = self.room(&[
            (offsets.ob_type, kind),
            (offsets.unicode_length, length),
            (offsets.unicode_state, state),
        ]);
        self.memory.insert(addr.at(offsets.ascii_size), text.as_bytes());
        addr.0
    }

    fn dict(&mut self, entries: Vec<(&'static str, Made)>) -> u64 {
        let offsets = self.layout.offsets.object;
        let count = entries.len() as u64;
        // Eight bytes of index, then hash, key and value of each.
        let mut words = vec![(offsets.keys_size, 8), (offsets.keys_nentries, count)];
        for (place, (name, value)) in entries.into_iter().enumerate() {
            let at = offsets.keys_indices + 8 + 24 * place as u64;
            words.push((at + 8, self.text(name)));
            words.push((at + 16, self.make(value).0));
        }
        let (keys, kind) = (self.room(&words).0, self.class("dict", DICT));
        let dict = [(offsets.ob_type, kind), (offsets.dict_used, count), (offsets.dict_keys, keys)];
        self.room(&dict).0
    }

    fn make(&mut self, what: Made) -> Addr {
        let offsets = self.layout.offsets.object;
        let (kind, mut words) = match what {
            Int(value) => {
                let digits = value.signum().cast_unsigned();
                let words =
                    vec![(offsets.int_tag, digits), (offsets.int_digits, value.unsigned_abs())];
                (self.class("int", INT), words)
            }
            Deque(len) => (self.class("collections.deque", 1), vec![(offsets.deque_size, len)]),
            List(len) => {
                let items = self.room(&[]).0;
                let words = vec![(offsets.list_size, len), (offsets.list_items, items)];
                (self.class("list", LIST), words)
            }
            Made::None => (self.class("NoneType", 1), Vec::new()),
            Object(class, attributes) => {
                let dict = self.dict(attributes);
                (self.class(class, 0), vec![(DICT_OFFSET, dict)])
            }
        };
        words.push((offsets.ob_type, kind));
        self.room(&words)
    }
}

/// How such an object is read: limit, in use, waiting.
fn read(whose: Whose, made: Made) -> Option<(Option<u32>, Option<u32>, Option<u32>)> {
    let mut heap = Heap::new();
    let object = heap.make(made);
    let seen = whose.read(&Objects::new(&heap.memory, &heap.layout), object).ok()?;
    Some((seen.limit, seen.busy, seen.waiting))
}

fn condition(waiting: u64) -> Made {
    Object("Condition", vec![("_waiters", Deque(waiting))])
}

#[test]
fn sqlalchemys_overflow_begins_at_minus_the_size() {
    let pool = |free, overflow, most_more, waiting| {
        let queue = Object(
            "Queue",
            vec![("maxsize", Int(2)), ("queue", Deque(free)), ("not_empty", condition(waiting))],
        );
        let overflow = ("_overflow", Int(overflow));
        Object("QueuePool", vec![("_pool", queue), ("_max_overflow", Int(most_more)), overflow])
    };
    let read = |made| read(Whose::Sqlalchemy, made);
    assert_eq!(read(pool(0, 1, 1, 5)), Some((Some(3), Some(3), Some(5))));
    assert_eq!(read(pool(1, 0, 1, 0)), Some((Some(3), Some(1), Some(0))));
    assert_eq!(read(pool(0, -2, 1, 0)), Some((Some(3), Some(0), Some(0))), "none was made yet");
    assert_eq!(read(pool(0, 7, -1, 0)), Some((None, None, Some(0))), "without end");
}

#[test]
fn the_asynchronous_ones_have_a_queue_of_asyncios() {
    let queue =
        |free, waiting| Object("Queue", vec![("_queue", free), ("_getters", Deque(waiting))]);
    let adapted =
        Object("AsyncAdaptedQueue", vec![("maxsize", Int(5)), ("_queue", queue(Deque(0), 4))]);
    let pool = vec![("_pool", adapted), ("_max_overflow", Int(0)), ("_overflow", Int(0))];
    let pool = Object("AsyncAdaptedQueuePool", pool);
    assert_eq!(read(Whose::Sqlalchemy, pool), Some((Some(5), Some(5), Some(4))));
    let pool = Object("Pool", vec![("_maxsize", Int(10)), ("_queue", queue(List(3), 0))]);
    assert_eq!(read(Whose::Asyncpg, pool), Some((Some(10), Some(7), Some(0))));
}

#[test]
fn pools_that_count_or_keep_a_queue() {
    let pool = vec![
        ("_max_size", Int(8)),
        ("_nconns", Int(4)),
        ("_pool", Deque(1)),
        ("_waiting", Deque(2)),
    ];
    // While it grows those that wait are not waiting for others.
    assert_eq!(
        read(Whose::Psycopg, Object("ConnectionPool", pool)),
        Some((Some(8), Some(3), Some(2)))
    );
    let queue = |size| {
        let parts = vec![("maxsize", Int(size)), ("queue", List(1)), ("not_empty", condition(0))];
        ("pool", Object("LifoQueue", parts))
    };
    let pool = Object("BlockingConnectionPool", vec![("max_connections", Int(6)), queue(6)]);
    assert_eq!(read(Whose::Redis, pool), Some((Some(6), Some(5), Some(0))));
    let pool = Object("HTTPConnectionPool", vec![queue(4)]);
    assert_eq!(read(Whose::Urllib3, pool), Some((Some(4), Some(3), Some(0))));
}

#[test]
fn a_semaphore_knows_with_how_many_it_began_if_it_is_bounded() {
    let threads = |extra: Vec<_>| {
        let parts = vec![("_value", Int(0)), ("_cond", condition(3))];
        Object("Semaphore", parts.into_iter().chain(extra).collect())
    };
    let bounded = threads(vec![("_initial_value", Int(4))]);
    assert_eq!(read(Whose::Threading, bounded), Some((Some(4), Some(4), Some(3))));
    assert_eq!(read(Whose::Threading, threads(Vec::new())), Some((None, None, Some(3))));
    let parts = vec![("_value", Int(2)), ("_waiters", Made::None), ("_bound_value", Int(3))];
    let nobody = read(Whose::Asyncio, Object("BoundedSemaphore", parts));
    assert_eq!(nobody, Some((Some(3), Some(1), Some(0))));
}

#[test]
fn a_lock_lets_one_through() {
    let lock = |held, waiters| {
        read(
            Whose::AsyncioLock,
            Object("Lock", vec![("_locked", Int(held)), ("_waiters", waiters)]),
        )
    };
    assert_eq!(lock(1, Deque(39)), Some((Some(1), Some(1), Some(39))));
    assert_eq!(lock(0, Made::None), Some((Some(1), Some(0), Some(0))), "nobody ever waited");
    // Given back a moment ago: the first that waits has it.
    assert_eq!(lock(0, Deque(2)), Some((Some(1), Some(1), Some(2))));
}

#[test]
fn what_is_no_pool_is_none() {
    for whose in PLACES.into_iter().flat_map(|(.., all)| all.iter().copied()) {
        assert_eq!(read(whose, Int(7)), None);
        assert_eq!(
            read(whose, Object("QueuePool", vec![("_pool", Int(7)), ("pool", Int(7))])),
            None
        );
        let parts = vec![("_value", List(1)), ("_cond", Int(1)), ("_maxsize", Deque(3))];
        assert_eq!(read(whose, Object("Semaphore", parts)), None);
    }
}

#[test]
fn what_was_given_back_while_others_wait_is_promised_to_one_of_them() {
    let read = |whose, busy, waiting| {
        let reading = handed_over(whose, reading(Some(3), Some(busy), waiting));
        (reading.busy, reading.waiting)
    };
    assert_eq!(read(Whose::Sqlalchemy, 2, 5), (Some(3), Some(5)));
    assert_eq!(read(Whose::Sqlalchemy, 2, 0), (Some(2), Some(0)));
    // Between the reads of a look one was opened.
    assert_eq!(read(Whose::Threading, 4, 0), (Some(3), Some(0)));
}

#[test]
fn garbage_is_no_count() {
    let seen = reading(Some(i64::MAX), Some(-4), -1);
    assert_eq!(seen, PoolReading { limit: None, busy: Some(0), waiting: Some(0) });
}
