//! Recorded memory: what is kept reads the same, and a broken file is refused.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

use std::path::Path;

use proptest::prelude::*;
use stallspy::target::{
    Fault, FaultyMemory, ImageMemory, LiveMemory, ReadError, RemoteMemory, RemoteMemoryExt,
    TeeMemory,
};
use stallspy::units::{Addr, Pid};

fn file_of(image: &ImageMemory) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut bytes).unwrap();
    bytes
}

/// Four neighbours: 4096 to 4351 counts up, 4352 to 4607 is all sevens.
fn four_blocks() -> ImageMemory {
    let mut image = ImageMemory::new();
    let counting: Vec<u8> = (0..=255).collect();
    image.insert(Addr(4096), &counting);
    image.insert(Addr(4352), &[7; 256]);
    image
}

#[test]
fn what_a_tee_kept_reads_the_same() {
    let tee = TeeMemory::new(four_blocks());
    let across = tee.read_u64(Addr(4348)).unwrap();
    assert_eq!(across.to_le_bytes(), [252, 253, 254, 255, 7, 7, 7, 7]);
    let kept = tee.into_image();
    assert_eq!(kept.block_count(), 2, "those two that the word lies in");
    let tee = TeeMemory::new(four_blocks());
    assert_eq!(tee.read_u64(Addr(4348)), Ok(across));
    assert_eq!(tee.read_u64(Addr(4604)), Err(ReadError::Unmapped(Addr(4608))));
    let image = tee.into_image();
    assert_eq!(image.block_count(), 3, "of four");
    let seam: &dyn RemoteMemory = &image;
    assert_eq!(seam.read_u64(Addr(4348)), Ok(across));
    assert_eq!(seam.read_u64(Addr(0)), Err(ReadError::Unmapped(Addr(0))));
    assert_eq!(seam.read_u64(Addr(u64::MAX)), Err(ReadError::Unmapped(Addr(u64::MAX))));
    assert_eq!(seam.read(Addr(0), &mut []), Ok(()), "nothing is everywhere");
}

#[test]
fn a_live_block_stays_as_it_was_first_seen() {
    let word = std::cell::Cell::new(1_u64);
    let addr = Addr(word.as_ptr() as u64);
    let tee = TeeMemory::new(LiveMemory::new(Pid(std::process::id().cast_signed())));
    assert_eq!(tee.read_u64(addr), Ok(1));
    word.set(2);
    assert_eq!(tee.read_u64(addr), Ok(1));
    assert_eq!(tee.into_image().read_u64(addr), Ok(1));
}

#[test]
fn faults_are_met_and_counted() {
    let memory = FaultyMemory::new(four_blocks(), [Addr(4100), Addr(4500)])
        .failing(Addr(4400), Fault::Fails(ReadError::Gone));
    assert_eq!(memory.read_u64(Addr(4096)), Err(ReadError::Unmapped(Addr(4100))));
    assert_eq!(memory.read_u64(Addr(4101)).unwrap().to_le_bytes()[0], 5, "one byte behind it");
    assert_eq!(memory.read_u64(Addr(4093)), Err(ReadError::Unmapped(Addr(4100))));
    assert_eq!((memory.hits(Addr(4100)), memory.hits(Addr(4500))), (2, 0));
    assert_eq!(memory.unreached(), 2);
    let (mut good, mut bad, mut after) = ([0; 8], [0; 8], [0; 8]);
    let mut spans: [(Addr, &mut [u8]); 3] =
        [(Addr(4200), &mut good), (Addr(4100), &mut bad), (Addr(4300), &mut after)];
    assert_eq!(memory.read_batch(&mut spans), Ok(1));
    let mut spans: [(Addr, &mut [u8]); 1] = [(Addr(4400), &mut good)];
    assert_eq!(memory.read_batch(&mut spans), Err(ReadError::Gone));
    assert_eq!(memory.unreached(), 1);
}

#[test]
fn a_fault_in_time_passes_unless_the_process_is_gone() {
    let at_second = |fault| FaultyMemory::new(four_blocks(), []).failing_after(1, fault);
    let denied = at_second(Fault::Fails(ReadError::Denied));
    let got: Vec<_> = (0..3).map(|_| denied.read_u64(Addr(4352))).collect();
    let sevens = Ok(0x0707_0707_0707_0707);
    assert_eq!(got, [sevens, Err(ReadError::Denied), Err(ReadError::Denied)]);
    let unmapped = at_second(Fault::Fails(ReadError::Unmapped(Addr(1))));
    let got: Vec<_> = (0..3).map(|_| unmapped.read_u64(Addr(4352))).collect();
    assert_eq!(got, [sevens, Err(ReadError::Unmapped(Addr(1))), sevens]);
    assert_eq!((unmapped.reads(), unmapped.unreached()), (3, 0));
}

#[test]
fn a_short_read_leaves_half_and_a_torn_one_lies() {
    let memory = FaultyMemory::new(four_blocks(), [])
        .failing_after(0, Fault::Short)
        .failing_after(1, Fault::Torn(0xdd))
        .failing(Addr(4360), Fault::Torn(0));
    let mut bytes = [1; 8];
    assert_eq!(memory.read(Addr(4352), &mut bytes), Err(ReadError::Unmapped(Addr(4352))));
    assert_eq!(bytes, [7, 7, 7, 7, 1, 1, 1, 1]);
    assert_eq!(memory.read_u64(Addr(4352)), Ok(0xdddd_dddd_dddd_dddd));
    let mut bytes = [1; 20];
    memory.read(Addr(4356), &mut bytes).unwrap();
    assert_eq!(bytes, [7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7]);
    assert_eq!(memory.unreached(), 0);
}

#[test]
fn a_file_of_zeros_is_small_and_comes_back() {
    let mut image = ImageMemory::new();
    image.insert(Addr(0x7f00_0000_0000), &[0; 32 * 128]);
    image.insert(Addr(0x7f00_0000_0000 + 5000), &[1, 0, 0, 2]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("memory.image");
    image.save(&path).unwrap();
    assert!(path.metadata().unwrap().len() < 500);
    assert_eq!(ImageMemory::load(&path).unwrap(), image);
    assert!(image.save(Path::new("/nonexistent/memory.image")).is_err());
}

#[test]
fn broken_files_are_refused() {
    let good = file_of(&four_blocks());
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file.splice(at..at + bytes.len(), bytes.iter().copied());
        ImageMemory::read_from(&file[..]).unwrap_err().to_string()
    };
    assert_eq!(with(15, b"9"), "not a memory image of this version");
    assert!(with(24, &[0xff, 0xff]).contains("128 bytes"), "more zeros than a block has");
    assert!(with(24, &[0, 0, 0, 0]).contains("128 bytes"), "a part that tells nothing");
    let twice = [&good[..], &good[16..]].concat();
    let error = ImageMemory::read_from(&twice[..]).unwrap_err();
    assert!(error.to_string().contains("out of order"));
    for cut in [0, 5, 17, good.len() - 1] {
        assert!(ImageMemory::read_from(&good[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_file_that_claims_too_much_is_refused() {
    let mut file = b"stallspy-image02".to_vec();
    for number in 0..600_000_u64 {
        file.extend(number.to_le_bytes());
        file.extend([128, 0, 0, 0]); // 128 zeros
    }
    let error = ImageMemory::read_from(&file[..]).unwrap_err();
    assert!(error.to_string().contains("64 MiB"));
}

proptest! {
    #[test]
    fn any_blocks_come_back(
        spans in prop::collection::vec((0..1_u64 << 48, prop::collection::vec(0..3_u8, 0..700)), 0..5)
    ) {
        let mut image = ImageMemory::new();
        for (addr, bytes) in &spans {
            image.insert(Addr(*addr), bytes);
        }
        prop_assert_eq!(ImageMemory::read_from(&file_of(&image)[..]).unwrap(), image);
    }

    #[test]
    fn what_was_put_in_is_read_out(addr: u64, bytes in prop::collection::vec(any::<u8>(), 1..1200)) {
        let mut image = ImageMemory::new();
        image.insert(Addr(addr), &bytes);
        prop_assert_eq!(image.read_vec(Addr(addr), bytes.len()).unwrap(), bytes);
    }

    #[test]
    fn no_file_at_all_panics(junk in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(ImageMemory::read_from(&junk[..]).is_err());
        // Nor does junk behind a good beginning.
        let file = [b"stallspy-image02", &junk[..]].concat();
        let _ = ImageMemory::read_from(&file[..]);
    }

    #[test]
    fn a_hostile_file_never_panics(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut: prop::sample::Index) {
        let mut file = file_of(&four_blocks());
        for (at, byte) in flips {
            let at = at.index(file.len());
            file[at] = byte;
        }
        file.truncate(cut.index(file.len() + 1));
        let _ = ImageMemory::read_from(&file[..]);
    }
}
