//! Memory that is not what it must be: changed in places, made up, or built to mislead. Whatever it
//! holds, reading it ends after a number of reads that is known beforehand, asks for no more bytes
//! at once than is stated here, and never panics.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "common/images.rs"]
mod images;
#[path = "memory/made_up.rs"]
mod made_up;
#[path = "memory/misleading.rs"]
mod misleading;
#[path = "common/survey.rs"]
mod survey;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::LazyLock;

use images::{Image, images};
use proptest::prelude::*;
use stallspy::layout::{DEBUG_OFFSETS_LEN, from_debug_offsets};
use stallspy::python::locate::{Located, locate_at, scan};
use stallspy::target::{ImageMemory, ReadError, RemoteMemory, RemoteMemoryExt};
use stallspy::units::Addr;
use survey::{look_around, survey};

/// Counts what is asked of a memory, and notes where.
#[derive(Debug)]
pub struct Counting<M> {
    inner: M,
    /// How many reads were made.
    pub reads: Cell<u64>,
    /// The longest of them, in bytes.
    pub longest: Cell<usize>,
    places: RefCell<BTreeSet<Addr>>,
}

impl<M: RemoteMemory> Counting<M> {
    /// Counts the reads of `inner`.
    pub fn new(inner: M) -> Counting<M> {
        let places = RefCell::default();
        Counting { inner, reads: Cell::new(0), longest: Cell::new(0), places }
    }

    /// Panics if more was asked than that.
    pub fn assert_within(&self, reads: u64, longest: usize) {
        assert!(self.reads.get() <= reads, "{} reads", self.reads.get());
        assert!(self.longest.get() <= longest, "{} bytes at once", self.longest.get());
    }
}

impl<M: RemoteMemory> RemoteMemory for Counting<M> {
    fn read(&self, addr: Addr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.reads.set(self.reads.get() + 1);
        self.longest.set(self.longest.get().max(buf.len()));
        if self.places.borrow().len() < 10_000 {
            self.places.borrow_mut().insert(addr);
        }
        self.inner.read(addr, buf)
    }
}

/// Most reads that a look at everything may take when some words of an image are changed: twenty
/// times what it takes when none is. The worst is a dict that seems to have entries without end.
const MOST_READS: u64 = 400_000;
/// Most bytes it may ask for at once: 65,536 entries of a dict.
const MOST_AT_ONCE: usize = 65_536 * 24;

#[derive(Debug)]
struct Subject {
    image: Image,
    located: Located,
    /// Where its look reads.
    places: Vec<Addr>,
}

/// One image of each version that says most.
static SUBJECTS: LazyLock<Vec<Subject>> = LazyLock::new(|| {
    let subjects: Vec<Subject> = images()
        .into_iter()
        .filter(|image| image.case() == "request")
        .map(|image| {
            let counting = Counting::new(&image.memory);
            survey(&counting, &image.known).unwrap();
            let places = counting.places.into_inner().into_iter().collect();
            let located = locate_at(&image.memory, image.known.runtime).unwrap();
            Subject { image, located, places }
        })
        .collect();
    assert!(subjects.len() >= 8);
    subjects
});

/// A word that may mislead: a place that is read, a bit beside one, a count, a flag, anything.
fn word(places: &[Addr]) -> impl Strategy<Value = u64> + use<> {
    let places = places.to_vec();
    let place = prop::sample::select(places);
    prop_oneof![
        4 => place.clone().prop_map(|place| place.0),
        2 => (place, 0..64_u64).prop_map(|(place, off)| place.0.wrapping_sub(off)),
        2 => 0..4096_u64,
        1 => (0..64_u32).prop_map(|bit| 1 << bit),
        1 => (0..16_u64).prop_map(|n| u64::MAX - n),
        1 => any::<u64>(),
    ]
}

fn changes() -> impl Strategy<Value = (usize, Vec<(Addr, u64, u64)>)> {
    (0..SUBJECTS.len()).prop_flat_map(|index| {
        let places = &SUBJECTS[index].places;
        let change = (prop::sample::select(places.clone()), 0..20_u64, word(places));
        (Just(index), prop::collection::vec(change, 1..12))
    })
}

fn changed(image: &ImageMemory, changes: &[(Addr, u64, u64)]) -> ImageMemory {
    let mut changed = image.clone();
    for (place, offset, word) in changes {
        changed.insert(place.at(offset * 8), &word.to_le_bytes());
    }
    changed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_image_does_no_harm((index, changes) in changes()) {
        let subject = &SUBJECTS[index];
        let memory = Counting::new(changed(&subject.image.memory, &changes));
        let _ = look_around(&memory, &subject.located, &subject.image.known);
        memory.assert_within(MOST_READS, MOST_AT_ONCE);
    }

    #[test]
    fn a_changed_image_is_located_or_refused((index, changes) in changes()) {
        let subject = &SUBJECTS[index];
        let memory = Counting::new(changed(&subject.image.memory, &changes));
        if let Ok(found) = locate_at(&memory, subject.image.known.runtime) {
            // What the target says of itself may be anything that adds up; its version may not.
            let minor = format!("3.{}", found.layout.version.1);
            prop_assert_eq!(minor, subject.image.minor());
        }
        // Five layouts, each over at most 1024 entries of what seems to be `sys.__dict__`.
        memory.assert_within(5 * (64 + 1024 * 4), MOST_AT_ONCE);
    }

    #[test]
    fn changed_debug_offsets_are_refused_or_add_up(
        index in 0..SUBJECTS.len(),
        words in prop::collection::vec((0..DEBUG_OFFSETS_LEN / 8, word(&[Addr(64)])), 0..6),
        length in 0..=DEBUG_OFFSETS_LEN,
    ) {
        let subject = &SUBJECTS[index];
        let runtime = subject.image.known.runtime;
        let mut bytes = subject.image.memory.read_vec(runtime, DEBUG_OFFSETS_LEN).unwrap();
        for (place, word) in words {
            bytes[place * 8..place * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
        if let Ok((layout, _)) = from_debug_offsets(&bytes[..length]) {
            // All that sizes a read or is added to an address.
            let offsets = &layout.offsets;
            for offset in [
                offsets.runtime.size, offsets.thread.size, offsets.thread.next,
                offsets.frame.localsplus, offsets.code.linetable, offsets.object.unicode_state,
            ] {
                prop_assert!(offset <= 8 << 20, "{offset}");
            }
        }
    }
}

#[test]
fn changes_reach_what_is_told() {
    // Otherwise the properties above would hold for want of trying.
    let mut different = 0;
    for subject in SUBJECTS.iter() {
        let truth = look_around(&subject.image.memory, &subject.located, &subject.image.known);
        for place in subject.places.iter().step_by(7) {
            let memory = changed(&subject.image.memory, &[(*place, 1, place.0)]);
            let told = look_around(&memory, &subject.located, &subject.image.known);
            different += u32::from(told != truth);
        }
    }
    assert!(different > 300, "{different}");
}

#[test]
fn data_without_an_interpreter_holds_none() {
    let mut image = ImageMemory::new();
    image.insert(Addr(0x10_0000), &[0; 8192]);
    let memory = Counting::new(&image);
    assert!(scan(&memory, Addr(0x10_0000), 8192).unwrap().is_none());
    assert!(scan(&memory, Addr(0x10_0000), u64::MAX).unwrap().is_none());
    memory.assert_within(2, 8 << 20);
}
