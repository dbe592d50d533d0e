//! One open perf event: opened, pointed at a ring, filtered, switched on and off, closed.

#![allow(unsafe_code)] // system calls that take pointers; each says why it is sound

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use perf_event_open_sys::bindings::PERF_FLAG_FD_CLOEXEC;
use perf_event_open_sys::{ioctls, perf_event_open};

use super::attr::Attr;
use crate::units::Tid;

/// An open perf event. Closing one that watches a tracepoint takes the kernel some 30 ms (it waits
/// for an RCU grace period), so whoever must not wait lets another thread do it.
#[derive(Debug)]
pub(super) struct Event {
    fd: OwnedFd,
    /// What its records are marked with.
    pub(super) id: u64,
}

impl Event {
    /// Opens an event on one thread, on whichever CPU it runs; `Tid(0)` is our own.
    ///
    /// # Errors
    /// What the kernel says: `EACCES` or `EPERM` without the right to, `ESRCH` for a thread that
    /// has ended.
    pub(super) fn open(mut attr: Attr, tid: Tid) -> Result<Event, Errno> {
        const ANY_CPU: i32 = -1;
        const NO_GROUP: i32 = -1;
        // SAFETY: `attr` is a whole `perf_event_attr` that lives through the call, its `size` says
        // how large it is, and all events it can ask for (attr.rs) only observe.
        let fd = unsafe {
            perf_event_open(&raw mut attr, tid.0, ANY_CPU, NO_GROUP, PERF_FLAG_FD_CLOEXEC.into())
        };
        let fd = Errno::result(fd)?;
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut id = 0u64;
        // SAFETY: PERF_EVENT_IOC_ID writes one u64, which lives through the call.
        Errno::result(unsafe { ioctls::ID(fd.as_raw_fd(), &raw mut id) })?;
        Ok(Event { fd, id })
    }

    /// From now on its records go to the ring of `owner`.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn send_to(&self, owner: &Event) -> Result<(), Errno> {
        // SAFETY: takes a number, and both descriptors are open.
        let done = unsafe { ioctls::SET_OUTPUT(self.raw(), owner.raw()) };
        Errno::result(done).map(drop)
    }

    /// Only what `filter` accepts is recorded (Documentation/trace/events.rst, "Event filtering").
    ///
    /// # Errors
    /// `EINVAL` where the event has no such field: it is not the one we took it for.
    pub(super) fn set_filter(&self, filter: &CStr) -> Result<(), Errno> {
        // SAFETY: the kernel copies a string that ends with a zero byte and does not write to it,
        // though the wrapper's type says otherwise (`strndup_user`, kernel/events/core.c).
        let done = unsafe { ioctls::SET_FILTER(self.raw(), filter.as_ptr().cast_mut()) };
        Errno::result(done).map(drop)
    }

    /// Switches it on or off.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn switch(&self, on: bool) -> Result<(), Errno> {
        // SAFETY: takes numbers only.
        let done = unsafe {
            if on { ioctls::ENABLE(self.raw(), 0) } else { ioctls::DISABLE(self.raw(), 0) }
        };
        Errno::result(done).map(drop)
    }

    /// How much there must be between two records, in what the event counts.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn set_period(&self, mut period: u64) -> Result<(), Errno> {
        let place = (&raw mut period).expose_provenance();
        // SAFETY: the kernel takes an address, though the wrapper's type says a number
        // (`perf_event_period`, kernel/events/core.c), and reads one u64, which lives through the call.
        let done = unsafe { ioctls::PERIOD(self.raw(), place as u64) };
        Errno::result(done).map(drop)
    }

    pub(super) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
