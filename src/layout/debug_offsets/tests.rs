//! The first words of real `_PyRuntime`s (`scripts/dump-layout --words`), read rightly and wrongly.

use super::*;

const DUMPS: [(&str, u8, &str); 4] = [
    ("3.13.0", 13, include_str!("../../../fixtures/debug_offsets/3.13.0.txt")),
    ("3.13.18", 13, include_str!("../../../fixtures/debug_offsets/3.13.18.txt")),
    ("3.14.10", 14, include_str!("../../../fixtures/debug_offsets/3.14.10.txt")),
    ("3.15.2", 15, include_str!("../../../fixtures/debug_offsets/3.15.2.txt")),
];

fn words(dump: &str) -> Vec<u64> {
    dump.lines().map(|line| line.parse().unwrap()).collect()
}

fn bytes(dump: &str) -> Vec<u8> {
    words(dump).iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn table(minor: u8) -> &'static SlotTable {
    SLOT_TABLES.iter().find(|table| table.minor == minor).unwrap()
}

fn set(bytes: &mut [u8], word: usize, value: u64) {
    bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn every_dump_reads_as_its_version() {
    for (name, minor, dump) in DUMPS {
        let (layout, version) = from_debug_offsets(&bytes(dump)).unwrap();
        assert_eq!((version.as_str(), layout.version), (name, (3, minor)));
    }
}

#[test]
fn what_is_published_agrees_with_the_headers() {
    for (name, minor, dump) in DUMPS {
        let (layout, _) = from_debug_offsets(&bytes(dump)).unwrap();
        assert_eq!(layout.offsets.object, table(minor).object, "{name}");
    }
}

#[test]
fn values_that_move_within_a_minor_version_come_from_the_target() {
    let size = |dump| from_debug_offsets(&bytes(dump)).unwrap().0.offsets.thread.size;
    assert_eq!((size(DUMPS[0].2), size(DUMPS[1].2)), (304, 312));
}

#[test]
fn the_interpreter_lock_is_where_the_headers_say() {
    // offsetof(PyInterpreterState, ceval.gil), and of last_holder and locked in what it points to.
    for (name, _, dump) in DUMPS {
        let gil = from_debug_offsets(&bytes(dump)).unwrap().0.offsets.gil;
        let expected = GilOffsets { home: GilHome::Interpreter(16), last_holder: 8, locked: 16 };
        assert_eq!(gil, expected, "{name}");
    }
    // A holder that lies before the lock it is in.
    let mut bad = bytes(DUMPS[2].2);
    let holder = "interpreter_state.gil_runtime_state_holder";
    let slot = table(14).slots.iter().position(|name| *name == holder).unwrap();
    set(&mut bad, slot + HEADER_WORDS, 8);
    let slots = vec![holder];
    let error = LayoutError::Inconsistent { version: "3.14.10".into(), slots };
    assert_eq!(from_debug_offsets(&bad), Err(error));
}

#[test]
fn a_wrong_table_is_an_error_not_garbage() {
    for (name, minor, dump) in DUMPS {
        for wrong in SLOT_TABLES.iter().filter(|table| table.minor != minor) {
            match read(wrong, &words(dump)) {
                Err(Fault::Inconsistent(slots)) => {
                    assert!(slots.len() >= 5, "{name} as 3.{}: only {slots:?}", wrong.minor);
                }
                Err(Fault::Short) => panic!("{name} as 3.{}: too short to tell", wrong.minor),
                Ok(_) => panic!("{name} reads as 3.{}", wrong.minor),
            }
        }
    }
}

#[test]
fn every_table_has_the_slots_and_sizes_that_are_needed() {
    for table in SLOT_TABLES {
        let slots = Slots(table.slots.iter().map(|name| (*name, 1)).collect());
        assert!(offsets(table, &slots).is_ok(), "3.{}", table.minor);
        assert!((table.slots.len() + HEADER_WORDS) * 8 <= DEBUG_OFFSETS_LEN, "3.{}", table.minor);
    }
}

#[test]
fn each_refusal_says_why() {
    let good = bytes(DUMPS[2].2);
    assert_eq!(from_debug_offsets(&[0; 1024]), Err(LayoutError::NoCookie));
    assert_eq!(from_debug_offsets(b""), Err(LayoutError::NoCookie));

    let short = from_debug_offsets(&good[..200]).unwrap_err();
    assert!(matches!(short, LayoutError::Short { got: 200, .. }), "{short:?}");
    assert!(matches!(from_debug_offsets(DEBUG_COOKIE), Err(LayoutError::Short { .. })));

    let mut newer = good.clone();
    set(&mut newer, 1, 0x0310_00a1);
    assert_eq!(
        from_debug_offsets(&newer).unwrap_err().to_string(),
        "CPython 3.16.0a1 is not known to this stallspy, which knows 3.8 to 3.15"
    );
    let mut garbage = good.clone();
    set(&mut garbage, 1, u64::MAX);
    assert!(matches!(from_debug_offsets(&garbage), Err(LayoutError::UnknownVersion { .. })));

    let mut free_threaded = good.clone();
    set(&mut free_threaded, 2, 1);
    let refusal = from_debug_offsets(&free_threaded);
    assert_eq!(refusal, Err(LayoutError::FreeThreaded { version: "3.14.10".into() }));
}

#[test]
fn one_impossible_offset_is_named() {
    let mut bad = bytes(DUMPS[2].2);
    let slot = table(14).slots.iter().position(|name| *name == "float_object.ob_fval").unwrap();
    set(&mut bad, slot + HEADER_WORDS, 24);
    let error = from_debug_offsets(&bad).unwrap_err();
    assert_eq!(
        error,
        LayoutError::Inconsistent {
            version: "3.14.10".into(),
            slots: vec!["float_object.ob_fval"]
        }
    );
}

#[test]
fn versions_read_as_python_prints_them() {
    assert_eq!(version_name(0x030d_00f0), "3.13.0");
    assert_eq!(version_name(0x030f_00a7), "3.15.0a7");
    assert_eq!(version_name(0x030e_00b1), "3.14.0b1");
    assert_eq!(version_name(0x030f_00c2), "3.15.0rc2");
}
