//! ELF files: a small real one, the same one broken in every way, and those mapped in processes.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use stallspy::target::{ElfError, ElfFile, LiveMemory, Modules, ProcFs, RemoteMemoryExt};
use stallspy::units::{Addr, Pid};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/elf/tiny.so")
}

fn opened(bytes: &[u8]) -> Result<ElfFile, ElfError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    ElfFile::open(file)
}

#[test]
fn what_a_small_file_holds() {
    // The values are those of `readelf -lSsW fixtures/elf/tiny.so`.
    let elf = ElfFile::open(File::open(tiny()).unwrap()).unwrap();
    assert!(!elf.is_fixed());
    let segments = elf.segments().unwrap();
    assert_eq!(segments.len(), 2);
    assert!(segments[0].executable && !segments[0].writable);
    assert_eq!((segments[1].address, segments[1].file_size), (0x1f00, 0x160));
    assert_eq!(segments[1].size, 0x112d0, "with .bss");
    assert_eq!(elf.section(".PyRuntime").unwrap(), Some((0x2020, 0x40)));
    assert_eq!(elf.section(".PyRun").unwrap(), None);
    assert_eq!(elf.section(".comment").unwrap(), None, "not loaded");
    assert_eq!(elf.symbol("exported_runtime").unwrap(), Some((0x2020, 64)));
    assert_eq!(elf.symbol("hidden_counter").unwrap(), Some((0x2000, 32)));
    assert_eq!(elf.symbol("counter").unwrap(), None, "the tail of a name is another name");
    assert_eq!(elf.symbol("").unwrap(), None);
}

#[test]
fn other_files_are_refused() {
    let bytes = fs::read(tiny()).unwrap();
    assert!(matches!(opened(b"#!/bin/sh\nexit 0\n"), Err(ElfError::Broken(_))));
    assert!(matches!(opened(&[0; 4096]), Err(ElfError::NotElf)));
    for (at, byte) in [(4, 1), (5, 2), (16, 1)] {
        // 32 bits, big-endian, relocatable
        let mut other = bytes.clone();
        other[at] = byte;
        assert!(matches!(opened(&other), Err(ElfError::NotElf)), "{at}");
    }
}

fn query(bytes: &[u8]) {
    let Ok(elf) = opened(bytes) else { return };
    let _ = (elf.segments(), elf.section(".PyRuntime"), elf.symbol("hidden_counter"));
}

#[test]
fn counts_and_offsets_as_large_as_can_be() {
    let bytes = fs::read(tiny()).unwrap();
    // e_phoff, e_shoff, e_phnum, e_shnum, e_shstrndx; and sh_offset, sh_size of .symtab and .strtab
    let sections = usize::try_from(u64::from_le_bytes(bytes[40..48].try_into().unwrap())).unwrap();
    let count = usize::from(bytes[60]);
    let mut fields = vec![(32, 8), (40, 8), (56, 2), (60, 2), (62, 2)];
    for section in 0..count {
        let at = sections + section * 64;
        fields.extend([(at, 4), (at + 16, 8), (at + 24, 8), (at + 32, 8), (at + 40, 4)]);
    }
    for (at, size) in fields {
        for byte in [0x00, 0x7f, 0xff] {
            let mut broken = bytes.clone();
            broken[at..at + size].fill(byte);
            query(&broken);
        }
    }
}

proptest! {
    #[test]
    fn mutated_files_never_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..10),
        headers in prop::collection::vec((0..64_usize, any::<u8>()), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = fs::read(tiny()).unwrap();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for (at, byte) in headers {
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        query(&bytes);
    }
}

/// A child that ends with the test.
struct Sleeper(Child);

impl Sleeper {
    /// Starts `program` to sleep, and waits until it does: until then it may still be loading.
    fn start(program: &Path) -> Sleeper {
        let child = Sleeper(Command::new(program).arg("100").spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(20);
        let stat = |child: &Sleeper| ProcFs::host().stat(child.pid()).unwrap();
        while stat(&child).state != 'S' {
            assert!(Instant::now() < deadline, "it never slept");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }

    fn pid(&self) -> Pid {
        Pid(self.0.id().cast_signed())
    }

    fn modules(&self) -> Modules {
        Modules::load(&ProcFs::host(), self.pid()).unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sleep_program() -> PathBuf {
    let found = ["/bin/sleep", "/usr/bin/sleep"].iter().map(Path::new).find(|p| p.exists());
    found.unwrap().canonicalize().unwrap()
}

#[test]
fn a_symbol_lies_where_we_have_it_ourselves() {
    // SAFETY: no other symbol of this program has this name.
    #[allow(unsafe_code)]
    #[unsafe(no_mangle)]
    static stallspy_test_landmark: [u64; 3] = [0x1234_5678_9abc_def0, 2, 3];
    let us = Pid(std::process::id().cast_signed());
    let modules = Modules::load(&ProcFs::host(), us).unwrap();
    let program = modules.executable().unwrap();
    let here = Addr(std::ptr::from_ref(&stallspy_test_landmark) as u64);
    assert_eq!(program.symbol_span("stallspy_test_landmark"), Some((here, 24)));
    assert!(program.section(".text").is_some_and(|(start, size)| {
        let code = a_symbol_lies_where_we_have_it_ourselves as fn() as usize as u64;
        start.0 <= code && code < start.0 + size && program.contains(Addr(code))
    }));
    assert!(modules.containing(here).is_some_and(|module| module.is_executable));
    let buffer = std::hint::black_box(vec![0_u8; 8]);
    assert!(modules.containing(Addr(buffer.as_ptr() as u64)).is_none());
}

#[test]
fn the_c_library_of_a_child() {
    let child = Sleeper::start(&sleep_program());
    let modules = child.modules();
    let libc = modules.iter().find(|m| m.path.contains("libc")).expect("a C library");
    let name = "clock_nanosleep";
    let addr = libc.symbol(name).unwrap();
    assert!(libc.contains(addr));
    // Ours is the same file, so its code is the same.
    let us = Pid(std::process::id().cast_signed());
    let ours = Modules::load(&ProcFs::host(), us).unwrap();
    if let Some(own) = ours.iter().find(|m| m.path == libc.path) {
        let read = |pid, addr| LiveMemory::new(pid).read_vec(addr, 64).unwrap();
        assert_eq!(read(us, own.symbol(name).unwrap()), read(child.pid(), addr));
    }
    for (start, size) in libc.writable_segments() {
        LiveMemory::new(child.pid()).read_vec(start, usize::try_from(size).unwrap()).unwrap();
    }
    assert!(modules.unreadable().is_empty(), "{:?}", modules.unreadable());
}

#[test]
fn a_deleted_and_a_replaced_program_are_still_read() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().canonicalize().unwrap().join("sleeper");
    fs::copy(sleep_program(), &copy).unwrap();
    let child = Sleeper::start(&copy);
    let text = |modules: &Modules| {
        let program = modules.executable().expect("the program");
        assert_eq!(Path::new(&program.path), copy);
        program.section(".text").expect("its code")
    };
    let before = text(&child.modules());
    fs::remove_file(&copy).unwrap();
    assert_eq!(text(&child.modules()), before, "deleted");
    fs::write(&copy, b"something else now").unwrap();
    assert_eq!(text(&child.modules()), before, "replaced");
    // A FIFO in its place would make an open wait for ever.
    fs::remove_file(&copy).unwrap();
    assert!(Command::new("mkfifo").arg(&copy).status().unwrap().success());
    assert_eq!(text(&child.modules()), before, "a FIFO");
}

#[test]
fn a_file_only_read_is_no_module() {
    let child = Sleeper::start(&sleep_program());
    for module in child.modules().iter() {
        assert!(module.mappings.iter().any(|mapping| mapping.perms.execute), "{}", module.path);
        assert_eq!(module.bias % 4096, 0, "{}", module.path);
    }
}
