//! The numbers the kernel gave to the entry and exit of the calls an event loop polls with.
//!
//! They differ from kernel to kernel. Where tracefs may be read they are there; elsewhere a cache
//! has them, or they are found by trying (`calibrate.rs`). Nothing is ever mounted.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Once, OnceLock};

use super::{EdgesError, cache, calibrate};

/// The calls, by the kernel's names. Every one takes at least three arguments.
pub(super) const POLL_CALLS: [&str; 7] =
    ["epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6"];
/// Where tracefs is mounted (Documentation/trace/ftrace.rst).
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// Set, it keeps us from using perf events at all.
const UNWANTED: &str = "STALLSPY_NO_PERF";
/// Longest `id` file; the kernel writes a number.
const LONGEST_ID: u64 = 32;

/// Whether the user wants no perf events.
pub(super) fn is_unwanted() -> bool {
    std::env::var_os(UNWANTED).is_some_and(|value| !value.is_empty())
}

/// The two tracepoints of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallIds {
    /// Of its entry.
    pub enter: u64,
    /// Of its exit.
    pub exit: u64,
}

/// The tracepoints of the calls that this kernel has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tracepoints {
    calls: Vec<(&'static str, CallIds)>,
}

/// Where the numbers are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdSource {
    /// The kernel's own files.
    Tracefs,
    /// What an earlier run found by trying.
    Cache,
    /// They were tried one by one.
    Trying,
}

impl Tracepoints {
    /// The tracepoints of a call by its name; `None` where this kernel has none.
    #[must_use]
    pub fn of(&self, call: &str) -> Option<CallIds> {
        self.calls.iter().find(|(name, _)| *name == call).map(|(_, ids)| *ids)
    }

    /// What is known on this machine; `None` while it is still being found out. The first call
    /// starts that in a thread of its own, as it may take a quarter of a second.
    pub fn known() -> Option<&'static Result<Tracepoints, EdgesError>> {
        static KNOWN: OnceLock<Result<Tracepoints, EdgesError>> = OnceLock::new();
        static STARTED: Once = Once::new();
        STARTED.call_once(|| {
            let started = std::thread::Builder::new()
                .name("tracepoints".to_owned())
                .spawn(|| _ = KNOWN.set(Tracepoints::learn()));
            if started.is_err() {
                _ = KNOWN.set(Err(EdgesError::NoIds("no thread could be started")));
            }
        });
        KNOWN.get()
    }

    /// Finds them out: tracefs, then the cache, then by trying, which is remembered.
    ///
    /// # Errors
    /// Why none of the ways worked.
    pub fn learn() -> Result<Tracepoints, EdgesError> {
        let (found, source) = Tracepoints::find()?;
        if source == IdSource::Trying {
            cache::store(&found.format());
        }
        Ok(found)
    }

    /// The same, and where they are from; leaves nothing behind.
    ///
    /// # Errors
    /// Why none of the ways worked.
    pub fn find() -> Result<(Tracepoints, IdSource), EdgesError> {
        if is_unwanted() {
            return Err(EdgesError::Unwanted);
        }
        for root in TRACEFS {
            if let Some(found) = Tracepoints::from_tracefs(Path::new(root)) {
                return Ok((found, IdSource::Tracefs));
            }
        }
        if let Some(found) = cache::load().and_then(|text| Tracepoints::parse(&text)) {
            return Ok((found, IdSource::Cache));
        }
        Ok((calibrate::calibrate()?, IdSource::Trying))
    }

    /// Reads them from a tracefs; `None` where it is not to be read, or has none of them.
    #[must_use]
    pub fn from_tracefs(root: &Path) -> Option<Tracepoints> {
        let id = |end: &str, call: &str| {
            let file = root.join(format!("events/syscalls/sys_{end}_{call}/id"));
            let mut text = String::new();
            File::open(file).ok()?.take(LONGEST_ID).read_to_string(&mut text).ok()?;
            text.trim_end().parse().ok()
        };
        let mut found = Tracepoints::default();
        for call in POLL_CALLS {
            if let (Some(enter), Some(exit)) = (id("enter", call), id("exit", call)) {
                found.add(call, CallIds { enter, exit });
            }
        }
        (!found.calls.is_empty()).then_some(found)
    }

    pub(super) fn add(&mut self, call: &'static str, ids: CallIds) {
        self.calls.push((call, ids));
    }

    /// One line a call: `epoll_wait ENTER EXIT`.
    fn format(&self) -> String {
        let line = |(call, ids): &(&str, CallIds)| format!("{call} {} {}\n", ids.enter, ids.exit);
        self.calls.iter().map(line).collect()
    }

    /// The inverse of `format`; `None` for anything else.
    fn parse(text: &str) -> Option<Tracepoints> {
        let mut found = Tracepoints::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let name = words.next()?;
            let call = POLL_CALLS.into_iter().find(|call| *call == name)?;
            let (enter, exit) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            if words.next().is_some() || enter == exit || found.of(call).is_some() {
                return None;
            }
            found.add(call, CallIds { enter, exit });
        }
        (!found.calls.is_empty()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tracefs_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Tracepoints::from_tracefs(dir.path()), None);
        for (name, id) in [("sys_enter_poll", "900\n"), ("sys_exit_poll", "899\n")] {
            let event = dir.path().join("events/syscalls").join(name);
            std::fs::create_dir_all(&event).unwrap();
            std::fs::write(event.join("id"), id).unwrap();
        }
        let found = Tracepoints::from_tracefs(dir.path()).unwrap();
        assert_eq!(found.of("poll"), Some(CallIds { enter: 900, exit: 899 }));
        assert_eq!(found.of("epoll_wait"), None);
        assert_eq!(Tracepoints::parse(&found.format()), Some(found));
    }

    #[test]
    fn what_no_stallspy_wrote_is_refused() {
        for odd in
            ["", "poll 1", "poll 1 1\n", "poll 1 2 3\n", "open 1 2\n", "poll 1 2\npoll 1 2\n"]
        {
            assert_eq!(Tracepoints::parse(odd), None, "{odd:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in any::<String>()) {
            let _ = Tracepoints::parse(&text);
        }
    }
}
