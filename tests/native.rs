//! C stacks from bytes: a small real program, its stack written by hand, and both broken.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]
#![cfg(target_arch = "x86_64")] // so is the program

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::rc::Rc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use stallspy::native::lines::lines;
use stallspy::native::rules::{Rule, UnwindTable};
use stallspy::native::symbols::Symbols;
use stallspy::native::unwind::{Code, End, MAX_DEPTH, StackBytes, Trace, unwind};
use stallspy::native::{AddressSpace, Binaries, Registers, sleeper};
use stallspy::target::{ElfFile, LiveMemory, Modules, ProcFs, ThreadFiles, elf};
use stallspy::units::{Addr, Pid, Tid, Timestamp};

/// `fixtures/elf/frames.c`, compiled.
fn frames() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/elf/frames")
}

fn opened() -> ElfFile {
    elf::in_memory(fs::read(frames()).unwrap()).unwrap()
}

/// The program's code, from its file alone.
struct Program {
    table: UnwindTable,
    /// Return addresses, by `objdump -d fixtures/elf/frames`.
    calls: Vec<u64>,
}

impl Program {
    fn new(elf: &ElfFile) -> Option<Program> {
        let calls = vec![AFTER_CALL_OF_OUTER, AFTER_WAIT_HERE, AFTER_INNER, AFTER_MIDDLE];
        Some(Program { table: UnwindTable::load(elf)?, calls })
    }
}

impl Code for Program {
    fn rule(&mut self, addr: Addr) -> Option<Rc<Rule>> {
        self.table.rule(addr.0).map(Rc::new)
    }

    fn follows_call(&mut self, addr: Addr) -> bool {
        self.calls.contains(&addr.0)
    }
}

const AFTER_CALL_OF_OUTER: u64 = 0x40_0118;
/// All of these lie behind the function that calls, for what it calls never returns.
const AFTER_WAIT_HERE: u64 = 0x40_015f;
const AFTER_INNER: u64 = 0x40_0189;
const AFTER_MIDDLE: u64 = 0x40_0196;

const SP: u64 = 0x7000;
const IN_WAIT_HERE: u64 = 0x40_012d;

/// The stack in `wait_here`, by `readelf --debug-dump=frames-interp fixtures/elf/frames`.
fn stack() -> Vec<u8> {
    let mut words = [0_u64; 64];
    let mut put = |at: u64, word: u64| words[usize::try_from((at - SP) / 8).unwrap()] = word;
    let frame_of_middle = 0x7100;
    put(SP, frame_of_middle);
    put(SP + 8, AFTER_WAIT_HERE);
    put(SP + 16 + 88, AFTER_INNER);
    put(frame_of_middle, 0);
    put(frame_of_middle + 8, AFTER_MIDDLE);
    put(frame_of_middle + 24, AFTER_CALL_OF_OUTER);
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn walk(elf: &ElfFile, registers: Registers, bytes: &[u8]) -> Trace {
    let mut program = Program::new(elf).unwrap();
    unwind(registers, &StackBytes { base: SP, bytes }, &mut program)
}

fn names(elf: &ElfFile, trace: &Trace) -> Vec<String> {
    let symbols = Symbols::load(elf, None);
    let name = |addr: Addr| symbols.find(addr.0, elf, None).unwrap_or_else(|| addr.to_string());
    trace.frames.iter().map(|frame| name(frame.lookup())).collect()
}

const ALL: [&str; 5] = ["wait_here", "inner", "middle", "outer", "_start"];

#[test]
fn a_running_thread_is_unwound_from_its_registers() {
    let elf = opened();
    let registers = Registers::running(Addr(IN_WAIT_HERE), Addr(SP), SP, None);
    let trace = walk(&elf, registers, &stack());
    assert_eq!(names(&elf, &trace), ALL);
    assert_eq!(trace.end, End::Root);
}

#[test]
fn a_sleeping_threads_frame_pointer_is_found() {
    let elf = opened();
    let trace = walk(&elf, Registers::at_rest(Addr(IN_WAIT_HERE), Addr(SP)), &stack());
    assert_eq!(names(&elf, &trace), ALL);
    assert_eq!(trace.end, End::Root);
}

#[test]
fn a_copy_that_is_too_short_says_so() {
    let elf = opened();
    let registers = Registers::running(Addr(IN_WAIT_HERE), Addr(SP), SP, None);
    let trace = walk(&elf, registers, &stack()[..64]);
    assert_eq!(names(&elf, &trace), ALL[..2]);
    assert_eq!(trace.end, End::Cut);
}

#[test]
fn code_without_tables_is_walked_by_frame_pointers() {
    struct Nothing;
    impl Code for Nothing {
        fn rule(&mut self, _: Addr) -> Option<Rc<Rule>> {
            None
        }
        fn follows_call(&mut self, _: Addr) -> bool {
            false
        }
    }
    let words = [SP + 16, 0x1111, 0, 0x2222, 0, 0];
    let bytes: Vec<u8> = words.iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
    let stack = StackBytes { base: SP, bytes: &bytes };
    let registers = Registers::running(Addr(0x99), Addr(SP), SP, None);
    let trace = unwind(registers, &stack, &mut Nothing);
    let addresses: Vec<u64> = trace.frames.iter().map(|frame| frame.pc.0).collect();
    assert_eq!(addresses, [0x99, 0x1111, 0x2222]);
    let at_rest = unwind(Registers::at_rest(Addr(0x99), Addr(SP)), &stack, &mut Nothing);
    assert_eq!((at_rest.frames.len(), at_rest.end), (1, End::Lost));
}

#[test]
fn source_lines_where_there_are_none() {
    assert_eq!(lines(&opened(), &[IN_WAIT_HERE]), [None]);
}

/// A child that ends with the test.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_program_itself_asleep() {
    let child = Owned(Command::new(frames()).spawn().unwrap());
    let (procfs, pid) = (ProcFs::host(), Pid(child.0.id().cast_signed()));
    let files = ThreadFiles::new(&procfs, pid, Tid(pid.0));
    let memory = LiveMemory::new(pid);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < deadline, "it never slept");
        std::thread::sleep(Duration::from_millis(5));
        let modules = Modules::load(&procfs, pid).unwrap();
        let mut space = AddressSpace::new(pid, modules, Addr(0));
        let mut binaries = Binaries::default();
        let now = Timestamp(0);
        let Some(trace) = sleeper(&files, &procfs, &memory, &mut space, &mut binaries, now) else {
            continue;
        };
        let frames = trace.frames.iter().map(|at| space.frame(&mut binaries, *at));
        let names: Vec<String> = frames.map(|frame| frame.function).collect();
        assert_eq!(names, ALL);
        assert_eq!(trace.end, End::Root);
        return;
    }
}

proptest! {
    #[test]
    fn garbage_on_the_stack_never_panics(
        mut bytes in prop::collection::vec(any::<u8>(), 0..4096),
        calls in prop::collection::vec((0..500_usize, 0..4_usize), 0..40),
        frame: u64,
    ) {
        let elf = opened();
        let known = [AFTER_CALL_OF_OUTER, AFTER_WAIT_HERE, AFTER_INNER, AFTER_MIDDLE];
        for (slot, call) in calls {
            if let Some(word) = bytes.get_mut(slot * 8..slot * 8 + 8) {
                word.copy_from_slice(&known[call].to_le_bytes());
            }
        }
        for registers in [
            Registers::at_rest(Addr(IN_WAIT_HERE), Addr(SP)),
            Registers::running(Addr(IN_WAIT_HERE), Addr(SP), frame, None),
            Registers::running(Addr(AFTER_INNER - 5), Addr(SP), SP + frame % 4096, None),
        ] {
            prop_assert!(walk(&elf, registers, &bytes).frames.len() <= MAX_DEPTH);
        }
    }

    #[test]
    fn a_broken_file_never_panics(changes in prop::collection::vec((0..1504_usize, any::<u8>()), 1..30)) {
        let mut bytes = fs::read(frames()).unwrap();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let Ok(elf) = elf::in_memory(bytes) else { return Ok(()) };
        let _ = (elf.build_id(), elf.debug_link(), elf.functions(), lines(&elf, &[IN_WAIT_HERE]));
        let symbols = Symbols::load(&elf, None);
        for address in (0x40_0100..0x40_01a0).step_by(7) {
            let _ = symbols.find(address, &elf, None);
        }
        let Some(mut program) = Program::new(&elf) else { return Ok(()) };
        let stack = stack();
        let registers = Registers::at_rest(Addr(IN_WAIT_HERE), Addr(SP));
        let trace = unwind(registers, &StackBytes { base: SP, bytes: &stack }, &mut program);
        prop_assert!(trace.frames.len() <= MAX_DEPTH);
    }

    #[test]
    fn broken_tables_never_panic(
        changes in prop::collection::vec((0..180_usize, any::<u8>()), 1..40),
        index in prop::option::of(prop::collection::vec(any::<u8>(), 0..64)),
    ) {
        let elf = opened();
        let mut table = elf.section_bytes(".eh_frame", 4096).unwrap().unwrap();
        for (at, byte) in changes {
            if let Some(place) = table.bytes.get_mut(at) {
                *place = byte;
            }
        }
        let index = index.map(|bytes| stallspy::target::Section { address: 0x40_0200, bytes });
        let table = UnwindTable::new(table, index, 0x40_010c, 0);
        for address in 0x40_0100..0x40_01a0 {
            let _ = (table.rule(address), table.range(address));
        }
    }
}
