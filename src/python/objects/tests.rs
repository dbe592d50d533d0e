//! Reading objects where there are none: memory that lies in every way it can.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::layout::{from_debug_offsets, tables};

/// Memory without end, made up from a seed: the same address always reads the same. Words are
/// chosen to lead a reader on: pointers that hold, small numbers, flags, names of real types.
#[derive(Debug)]
struct Hostile {
    seed: u64,
    reads: Cell<u64>,
    bytes: Cell<u64>,
}

const NAMES: Addr = Addr(0x5000_0000_0000);
const KNOWN_NAMES: [&str; 15] = [
    "float",
    "set",
    "frozenset",
    "collections.deque",
    "cell",
    "frozendict",
    "NoneType",
    "bool",
    "int",
    "str",
    "C",
    "ellipsis",
    "weakref.ReferenceType",
    "_queue.SimpleQueue",
    "member_descriptor",
];

impl Hostile {
    fn new(seed: u64) -> Hostile {
        Hostile { seed, reads: Cell::new(0), bytes: Cell::new(0) }
    }

    fn mix(&self, n: u64) -> u64 {
        // splitmix64
        let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.seed;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn word(&self, index: u64) -> u64 {
        let random = self.mix(index);
        let detail = random >> 8;
        match random & 0xf {
            0..=6 => (detail & 0x7fff_ffff_fff8) | 0x10_0000,
            7..=8 => NAMES.0 + 64 * (detail % 15),
            9 => 0,
            10 => detail & 0x3f,
            // One string, int, dict...: type flags with the bit of one kind.
            11..=12 => (1 << (24 + detail % 8)) | (detail & 0x14),
            13 => 0x65, // an ASCII string's state
            14 => u64::MAX - (detail & 0xf),
            _ => self.mix(detail),
        }
    }

    fn byte(&self, addr: u64) -> u8 {
        if (NAMES.0..NAMES.0 + 64 * 15).contains(&addr) {
            let name = KNOWN_NAMES[usize::try_from((addr - NAMES.0) / 64).unwrap()];
            let at = usize::try_from((addr - NAMES.0) % 64).unwrap();
            return name.as_bytes().get(at).copied().unwrap_or(0);
        }
        self.word(addr / 8).to_le_bytes()[usize::try_from(addr % 8).unwrap()]
    }
}

impl RemoteMemory for Hostile {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.reads.set(self.reads.get() + 1);
        self.bytes.set(self.bytes.get() + buf.len() as u64);
        // One page in 16 is missing.
        if addr.0 != NAMES.0 && self.mix(addr.0 >> 12) & 0xf == 0 {
            return Err(ReadError::Unmapped(addr));
        }
        // Huge reads all take the same path; filling them takes the test's time only.
        for (at, byte) in buf.iter_mut().take(1 << 14).enumerate() {
            *byte = self.byte(addr.0.wrapping_add(at as u64));
        }
        Ok(())
    }
}

fn layouts() -> Vec<Layout> {
    let dump = include_str!("../../../fixtures/debug_offsets/3.15.2.txt");
    let words = dump.lines().flat_map(|line| line.parse::<u64>().unwrap().to_le_bytes());
    let published = from_debug_offsets(&words.collect::<Vec<_>>()).unwrap().0;
    tables().iter().map(|layout| **layout).chain([published]).collect()
}

/// Every reader on one address; gives how many succeeded.
fn read_all(objects: &Objects<'_>, addr: Addr) -> usize {
    const LIMIT: usize = 100;
    [
        objects.type_name(addr).is_ok(),
        objects.str(addr).is_ok(),
        objects.bytes(addr, LIMIT).is_ok(),
        objects.int(addr).is_ok(),
        objects.float(addr).is_ok(),
        objects.tuple_items(addr, LIMIT).is_ok_and(|items| items.len() <= LIMIT),
        objects.list_items(addr, LIMIT).is_ok_and(|items| items.len() <= LIMIT),
        objects.set_items(addr, LIMIT).is_ok_and(|items| items.len() <= LIMIT),
        objects.deque_len(addr).is_ok(),
        objects.deque_items(addr, LIMIT).is_ok_and(|items| items.len() <= LIMIT),
        objects.dict_items(addr, LIMIT).is_ok_and(|items| items.len() <= LIMIT),
        objects.dict_get(addr, "name").is_ok(),
        objects.attributes(addr, LIMIT).is_ok_and(|items| items.len() <= LIMIT),
        objects.attribute(addr, "_ready").is_ok(),
        objects.cell_contents(addr).is_ok(),
        objects.member(addr, "_name").is_ok(),
        objects.simple_queue_len(addr).is_ok(),
        objects.dict_len(addr).is_ok(),
        objects.set_len(addr).is_ok(),
        objects.referent(addr).is_ok(),
        objects.repr(addr, ReprLimits::default()).is_ok_and(|text| text.len() < 64 << 10),
    ]
    .iter()
    .filter(|ok| **ok)
    .count()
}

/// What all of the above may cost at most, for one address.
fn assert_bounded(memory: &Hostile) {
    assert!(memory.reads.get() < 1 << 19, "{} reads", memory.reads.get());
    assert!(memory.bytes.get() < 1 << 28, "{} bytes", memory.bytes.get());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn hostile_memory_does_no_harm(seed in any::<u64>(), addr in any::<u64>()) {
        for layout in layouts() {
            let memory = Hostile::new(seed);
            let objects = Objects::new(&memory, &layout);
            read_all(&objects, Addr(addr));
            read_all(&objects, Addr(addr & 0x7fff_ffff_fff0));
            assert_bounded(&memory);
        }
    }
}

#[test]
fn the_hostile_memory_is_not_turned_away_at_the_door() {
    // Otherwise the test above would test nothing.
    let mut succeeded = [0; 6];
    for seed in 0..400 {
        for (layout, total) in layouts().iter().zip(&mut succeeded) {
            let memory = Hostile::new(seed);
            *total += read_all(&Objects::new(&memory, layout), Addr(0x7000_0000_0000));
        }
    }
    assert!(succeeded.iter().all(|total| *total > 50), "{succeeded:?}");
}

#[test]
fn small_numbers_are_not_pointers() {
    let memory = Hostile::new(1);
    let layouts = layouts();
    let objects = Objects::new(&memory, &layouts[0]);
    for addr in [0, 1, 8, 4095, 0x7000_0000_0001, u64::MAX, u64::MAX - 7] {
        assert_eq!(objects.type_of(Addr(addr)), Err(ReadError::Invalid("object")));
        assert_eq!(read_all(&objects, Addr(addr)), 0);
    }
    assert_eq!(memory.reads.get(), 0);
}
