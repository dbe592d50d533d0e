//! Finds tracepoint numbers by trying: each candidate is opened on a process of our own, the calls
//! are made once, and the records say which candidate is which.
//!
//! A user without privileges may open the tracepoints of system calls and no others, so the
//! candidates sort themselves out; a privileged one gives its capabilities up first. Closing a
//! tracepoint takes the kernel some 30 ms (an RCU grace period) and there are hundreds, so all of it
//! happens in a child that hands over what it saw and then takes its time to end, unwaited for.

#![allow(unsafe_code)] // fork, and calls with made-up arguments; each says why it is sound

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, pipe2};

use super::EdgesError;
use super::attr;
use super::event::Event;
use super::ids::{CallIds, POLL_CALLS, Tracepoints};
use super::record::{Record, decode, word};
use super::ring::{Ring, scratch};
use crate::target::syscalls;
use crate::units::Tid;

/// Candidates: kernels have some 1,500 to 3,000 events.
const CANDIDATES: u64 = 4096;
/// Room for the records of a few dozen calls.
const RING: usize = 64 << 10;
/// What the child says of one record: the candidate, the call's number, the record's length.
const WORDS: usize = 3;
const SAID: usize = WORDS * 8;
/// Most it may say: two records for each of the calls, many times over.
const MOST_SAID: u64 = 4096 * SAID as u64;
/// `{ u16 type; u8 flags; u8 preempt_count; i32 pid; i32 nr; u64 args[] | i64 ret; }`: an exit's
/// record ends after the one word. `u32 size` in front, the whole rounded up to words.
const EXIT_RECORD: u64 = 28;
/// If all goes wrong the child ends by itself.
const CHILD_SECONDS: u32 = 60;
/// What the kernel takes for the calling thread.
const SELF: Tid = Tid(0);

/// Finds the tracepoints out.
///
/// # Errors
/// [`EdgesError::Denied`] where perf events may not be used, [`EdgesError::NoIds`] where they may and
/// nothing was learnt.
pub(super) fn calibrate() -> Result<Tracepoints, EdgesError> {
    // In the open, so that a refusal is told as one.
    let owner = Event::open(attr::owner(), SELF).map_err(EdgesError::from)?;
    drop(owner);
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC).map_err(EdgesError::from)?;
    // Made before the fork: after it, another thread's half-done allocation would be in the way.
    let room = Room { opened: Vec::with_capacity(4096), scratch: scratch() };
    // SAFETY: the child allocates nothing, takes no lock, and leaves by `_exit`.
    match unsafe { fork() }.map_err(EdgesError::from)? {
        ForkResult::Parent { child } => {
            drop(theirs);
            // It ends at once; its own child goes on as nobody's.
            let _ = waitpid(child, None);
        }
        ForkResult::Child => {
            // SAFETY: as above; and this process has one thread.
            match unsafe { fork() } {
                Ok(ForkResult::Child) => try_all(room, &theirs),
                _ => leave(),
            }
        }
    }
    let mut said = Vec::new();
    let file = std::fs::File::from(ours);
    file.take(MOST_SAID)
        .read_to_end(&mut said)
        .map_err(|_| EdgesError::NoIds("the kernel's events could not be tried"))?;
    assemble(&said).ok_or(EdgesError::NoIds("the kernel's events could not be told apart"))
}

/// What the child needs, allocated before it was born.
struct Room {
    opened: Vec<(Event, u64)>,
    scratch: Vec<u8>,
}

/// The child's whole life.
fn try_all(mut room: Room, said: &OwnedFd) -> ! {
    let Some(out) = let_go(said) else { leave() };
    give_up_capabilities();
    if let Ok(owner) = Event::open(attr::owner(), SELF)
        && let Ok(mut ring) = Ring::map(&owner, RING, std::mem::take(&mut room.scratch))
    {
        for id in 1..CANDIDATES {
            match Event::open(attr::unknown_tracepoint(id), SELF) {
                Ok(event) if event.send_to(&owner).is_ok() => room.opened.push((event, id)),
                // It takes long to close.
                Ok(event) => std::mem::forget(event),
                Err(Errno::EMFILE) => break,
                Err(_) => {}
            }
        }
        // SAFETY: both take no pointer and concern this process's own events.
        unsafe { libc::prctl(libc::PR_TASK_PERF_EVENTS_ENABLE) };
        make_the_calls();
        // SAFETY: as above.
        unsafe { libc::prctl(libc::PR_TASK_PERF_EVENTS_DISABLE) };
        ring.drain(|raw| {
            if let Some(Record::Sample { id, rest, .. }) = decode(raw)
                && let Some((_, candidate)) = room.opened.iter().find(|(event, _)| event.id == id)
                && let Some((number, length)) = call_of(rest)
            {
                say(out, [*candidate, number, length]);
            }
        });
    }
    // SAFETY: nobody uses it after this. The listener need not wait for the events to be closed.
    unsafe { libc::close(out) };
    leave()
}

/// The call's number and the record's length, of a sample's raw part.
fn call_of(raw: &[u8]) -> Option<(u64, u64)> {
    let (size, fields) = raw.split_first_chunk::<4>()?;
    let number = fields.get(8..)?.first_chunk::<4>()?;
    let number = u64::try_from(i32::from_ne_bytes(*number)).ok()?;
    Some((number, u64::from(u32::from_ne_bytes(*size))))
}

/// Lets go of everything inherited but the pipe, whose descriptor it returns: nobody must have to
/// wait for this process because it holds their files.
fn let_go(said: &OwnedFd) -> Option<i32> {
    const PIPE: i32 = 3;
    // SAFETY: numbers and one constant string; the descriptors closed are this process's copies,
    // and their owners never run here, since it leaves by `_exit`.
    unsafe {
        libc::setsid();
        libc::alarm(CHILD_SECONDS);
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for standard in 0..PIPE {
            libc::dup2(null, standard);
        }
        if said.as_raw_fd() != PIPE && libc::dup2(said.as_raw_fd(), PIPE) < 0 {
            return None;
        }
        let first: libc::c_uint = 4;
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) != 0 {
            for other in 4..1024 {
                libc::close(other);
            }
        }
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
    Some(PIPE)
}

/// Without capabilities only the tracepoints of system calls open (`TRACE_EVENT_FL_CAP_ANY`,
/// include/linux/trace_events.h).
fn give_up_capabilities() {
    /// `_LINUX_CAPABILITY_VERSION_3`, include/uapi/linux/capability.h.
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: the header names ourselves, and version 3 takes two times three words of sets.
    unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
}

/// Makes every call once, so that it returns at once and does nothing.
fn make_the_calls() {
    let now = [0u64; 2];
    for call in POLL_CALLS {
        let Some(number) = syscalls::number(call) else { continue };
        let Ok(number) = libc::c_long::try_from(number) else { continue };
        let (none, signals, at_once) = (0usize, 8usize, now.as_ptr());
        // SAFETY: the epoll calls are given no descriptor and fail; the others wait for nothing,
        // with the time limit 0, which the kernel may read or write: two words of ours.
        unsafe {
            match call {
                "poll" => libc::syscall(number, none, none, none),
                "ppoll" => libc::syscall(number, none, none, at_once, none, signals),
                "select" | "pselect6" => {
                    libc::syscall(number, none, none, none, none, at_once, none)
                }
                _ => libc::syscall(number, -1isize, none, 1usize, none, none, signals),
            }
        };
    }
}

fn say(out: i32, words: [u64; WORDS]) {
    // SAFETY: the words live through the call; a reader that went away ends us by SIGPIPE or not.
    unsafe { libc::write(out, words.as_ptr().cast(), SAID) };
}

fn leave() -> ! {
    // SAFETY: ends the process without running anything of the parent's.
    unsafe { libc::_exit(0) }
}

/// Makes sense of what the child said.
fn assemble(said: &[u8]) -> Option<Tracepoints> {
    let mut found = Tracepoints::default();
    for call in POLL_CALLS {
        let Some(number) = syscalls::number(call) else { continue };
        let (mut enter, mut exit) = (None, None);
        for words in said.chunks_exact(SAID) {
            let (candidate, rest) = word(words)?;
            let (called, rest) = word(rest)?;
            let (length, _) = word(rest)?;
            if called == number {
                let end = if length <= EXIT_RECORD { &mut exit } else { &mut enter };
                // Two that say the same cannot both be right.
                if end.is_some_and(|other| other != candidate) {
                    return None;
                }
                *end = Some(candidate);
            }
        }
        if let (Some(enter), Some(exit)) = (enter, exit) {
            found.add(call, CallIds { enter, exit });
        }
    }
    found.of("epoll_pwait").is_some().then_some(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn trying_finds_what_tracefs_says() {
        let Some(truth) = Tracepoints::from_tracefs(Path::new("/sys/kernel/tracing")) else {
            return;
        };
        match calibrate() {
            Ok(found) => assert_eq!(found, truth),
            // Not in every sandbox may perf be used.
            Err(error) => assert!(matches!(error, EdgesError::Denied | EdgesError::Missing)),
        }
    }

    #[test]
    fn what_the_child_says_is_not_trusted() {
        assert_eq!(assemble(&[7; 24 * 3 + 5]), None);
        let number = syscalls::number("epoll_pwait").unwrap();
        let say = |words: &[[u64; 3]]| {
            words.iter().flatten().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>()
        };
        let good = say(&[[11, number, 28], [12, number, 60]]);
        assert_eq!(
            assemble(&good).unwrap().of("epoll_pwait"),
            Some(CallIds { enter: 12, exit: 11 })
        );
        assert_eq!(assemble(&say(&[[11, number, 28], [12, number, 60], [13, number, 60]])), None);
    }
}
