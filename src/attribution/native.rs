//! Which C functions to name: of those that the innermost Python frame had called.
//!
//! Takes the frames, leaf first, gives two that a reader can recognise. The rules:
//!
//! * Of several stacks only what at least half of their time **shares** counts, from the outermost
//!   function on: where a call computes, the innermost functions are other ones at every look.
//! * The **leaf** is the innermost function whose name says something: one that has a name at all
//!   (stripped functions are called by their module and a distance, `libc.so.6+0x91a1d`), and one
//!   that does not begin with `_`, which marks what a library keeps to itself (`__GI___poll`,
//!   `__futex_abstimed_wait_common`). Mostly it is the wrapper of the system call: `recv`. Where
//!   there is none, the innermost function with a name.
//! * Of a call that **computes** it is the outermost such function instead, the one that Python
//!   called: `list_sort`. Those inside it change too fast to say anything.
//! * The **library** is the outermost such function that is of a library proper: neither the C
//!   library nor the interpreter, nor an extension module, whose functions only translate. It is
//!   what the extension called: `PQexec`, `sqlite3_step`.

use std::collections::HashMap;

use crate::model::{Frame, FrameId, StackId, Tables};
use crate::units::Nanos;

/// The C library and its parts, by the beginnings of their file names (glibc, musl).
const C_LIBRARY: [&str; 7] = ["libc.", "libc-", "ld-", "libpthread", "libm.", "libdl.", "[vdso]"];
/// The interpreter, by the beginnings of its file names.
const INTERPRETER: [&str; 3] = ["python", "libpython", "uwsgi"];
/// Ends of an extension module's file name (PEP 3149; PEP 384), by parts.
const EXTENSION: [&str; 2] = [".cpython-", ".abi3."];

/// What C frames say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NativeSite {
    /// The innermost function whose name says something.
    pub leaf: Option<FrameId>,
    /// The function of a library that was called to do it.
    pub library: Option<FrameId>,
}

/// The frames that at least half of the time of these stacks was spent in, leaf first.
#[must_use]
pub fn shared(tables: &Tables, stacks: &[(StackId, Nanos)]) -> Vec<FrameId> {
    let total: Nanos = stacks.iter().map(|(_, weight)| *weight).sum();
    let roots_first = |stack: StackId| -> Vec<FrameId> {
        tables.frames_of(stack).map(|(id, _)| id).collect::<Vec<_>>().into_iter().rev().collect()
    };
    let mut left: Vec<(Vec<FrameId>, Nanos)> =
        stacks.iter().map(|(stack, weight)| (roots_first(*stack), *weight)).collect();
    let mut path = Vec::new();
    loop {
        let depth = path.len();
        let mut sums: HashMap<FrameId, Nanos> = HashMap::new();
        for (frames, weight) in &left {
            if let Some(frame) = frames.get(depth) {
                *sums.entry(*frame).or_default() += *weight;
            }
        }
        // Of two halves the one that was interned first, so that a report is the same every time.
        let most = sums.into_iter().max_by_key(|(frame, sum)| (*sum, std::cmp::Reverse(*frame)));
        let Some((frame, _)) = most.filter(|(_, sum)| *sum >= total.scaled(1, 2)) else { break };
        left.retain(|(frames, _)| frames.get(depth) == Some(&frame));
        path.push(frame);
    }
    path.reverse();
    path
}

/// What these C frames, leaf first, say of a call that waits or computes.
#[must_use]
pub fn site(tables: &Tables, frames: &[FrameId], computes: bool) -> NativeSite {
    let frames: Vec<(FrameId, &Frame)> =
        frames.iter().filter_map(|id| Some((*id, tables.get_frame(*id)?))).collect();
    let named = || frames.iter().filter(|(_, frame)| has_name(tables, frame));
    let public = || named().filter(|(_, frame)| !tables.text(frame.function).starts_with('_'));
    let leaf = if computes { public().next_back() } else { public().next() };
    let leaf = leaf.or_else(|| named().next()).map(|(id, _)| *id);
    let library = public().rev().find(|(_, frame)| is_library(tables, frame)).map(|(id, _)| *id);
    NativeSite { leaf, library }
}

/// Without a name a function is called by a distance from the beginning of its module.
fn has_name(tables: &Tables, frame: &Frame) -> bool {
    frame.module.is_some() && !tables.text(frame.function).contains("+0x")
}

/// Whether it is the interpreter's or the C library's, as far as its file tells.
#[must_use]
pub fn is_interpreters(tables: &Tables, frame: &Frame) -> bool {
    let Some(file) = file_of(tables, frame) else { return true };
    C_LIBRARY.iter().chain(&INTERPRETER).any(|name| file.starts_with(name))
}

fn file_of<'a>(tables: &'a Tables, frame: &Frame) -> Option<&'a str> {
    let path = tables.text(frame.module?);
    path.rsplit('/').next()
}

fn is_library(tables: &Tables, frame: &Frame) -> bool {
    let Some(file) = file_of(tables, frame) else { return false };
    !is_interpreters(tables, frame)
        && !EXTENSION.iter().any(|part| file.contains(part))
        && !tables.text(frame.function).starts_with("Py")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FrameKind, Stack};

    /// The leaf and the library of frames given leaf first.
    fn told(frames: &[(&str, &str)]) -> (String, String) {
        told_of(frames, false)
    }

    fn told_of(frames: &[(&str, &str)], computes: bool) -> (String, String) {
        let mut tables = Tables::default();
        let ids = frames.iter().map(|(function, module)| {
            let (function, module) = (tables.name(function), Some(tables.name(module)));
            tables.frame(Frame {
                kind: FrameKind::Native,
                function,
                file: None,
                line: None,
                module,
            })
        });
        let frames: Vec<FrameId> = ids.collect();
        let found = site(&tables, &frames, computes);
        let name = |id: Option<FrameId>| {
            id.map(|id| tables.text(tables.get_frame(id).unwrap().function).to_owned())
        };
        (name(found.leaf).unwrap_or_default(), name(found.library).unwrap_or_default())
    }

    const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";
    const PYTHON: &str = "/usr/bin/python3.12";

    #[test]
    fn the_call_and_who_made_it() {
        let psycopg = "/srv/psycopg2/_psycopg.cpython-312-x86_64-linux-gnu.so";
        let libpq = "/usr/lib/x86_64-linux-gnu/libpq.so.5.17";
        let frames = [
            ("libc.so.6+0x9cefe", LIBC),
            ("poll", LIBC),
            ("libpq.so.5.17+0x1f2a0", libpq),
            ("PQgetResult", libpq),
            ("PQexec", libpq),
            ("_psycopg.cpython-312-x86_64-linux-gnu.so+0x52", psycopg),
        ];
        assert_eq!(told(&frames), ("poll".into(), "PQexec".into()));
    }

    #[test]
    fn the_interpreters_own_calls_have_no_library() {
        let frames = [("clock_nanosleep", LIBC), ("time_sleep", PYTHON)];
        assert_eq!(told(&frames), ("clock_nanosleep".into(), String::new()));
        let frames = [
            ("__futex_abstimed_wait_common", LIBC),
            ("__new_sem_wait_slow64", LIBC),
            ("PyThread_acquire_lock_timed", PYTHON),
        ];
        assert_eq!(told(&frames), ("PyThread_acquire_lock_timed".into(), String::new()));
    }

    #[test]
    fn what_computes_is_known_by_what_python_called() {
        let crypto = "/usr/lib/x86_64-linux-gnu/libcrypto.so.3";
        let frames = [
            ("libcrypto.so.3+0x91a1d", crypto),
            ("EVP_DigestFinal_ex", crypto),
            ("PKCS5_PBKDF2_HMAC", crypto),
            ("pbkdf2_hmac", "/usr/lib/python3.12/lib-dynload/_hashlib.cpython-312.so"),
        ];
        assert_eq!(told_of(&frames, true), ("pbkdf2_hmac".into(), "PKCS5_PBKDF2_HMAC".into()));
        let frames = [("unsafe_long_compare", PYTHON), ("list_sort_impl", PYTHON)];
        assert_eq!(told_of(&frames, true), ("list_sort_impl".into(), String::new()));
    }

    #[test]
    fn what_half_of_the_time_shares() {
        let mut tables = Tables::default();
        let mut stack = |functions: &str| {
            let frames = functions.split(' ').map(|function| {
                let (function, module) = (tables.name(function), Some(tables.name(PYTHON)));
                let kind = FrameKind::Native;
                tables.frame(Frame { kind, function, file: None, line: None, module })
            });
            let frames = frames.collect();
            tables.stack(Stack { frames, truncated: None })
        };
        let looks = [
            (stack("memcpy list dict dumps"), Nanos(3)),
            (stack("list dict dumps"), Nanos(3)),
            (stack("escape str dict dumps"), Nanos(5)),
            (stack("other"), Nanos(1)),
        ];
        let names = |looks: &[(StackId, Nanos)]| -> Vec<String> {
            let frames = shared(&tables, looks);
            let name = |id: FrameId| tables.text(tables.get_frame(id).unwrap().function).to_owned();
            frames.into_iter().map(name).collect()
        };
        assert_eq!(names(&looks), ["list", "dict", "dumps"]);
        assert_eq!(names(&looks[..1]), ["memcpy", "list", "dict", "dumps"]);
        assert_eq!(names(&looks[2..]), ["escape", "str", "dict", "dumps"]);
        assert!(names(&[]).is_empty());
    }

    #[test]
    fn what_has_no_name_is_not_named() {
        assert_eq!(told(&[("libc.so.6+0x9cefe", LIBC)]), (String::new(), String::new()));
        let frames = [("libc.so.6+0x9cefe", LIBC), ("_PySemaphore_Wait", PYTHON)];
        assert_eq!(told(&frames), ("_PySemaphore_Wait".into(), String::new()));
        assert_eq!(told(&[]), (String::new(), String::new()));
    }
}
