//! libev's `struct ev_loop` as gevent builds it, and gevent's own object around it: where things lie.
//!
//! Numbers only, for x86_64 and aarch64 Linux. The struct's members up to `backend_fd` come before any
//! that a build option adds or leaves out; what follows is placed by `userdata`, which gevent points
//! at the loop itself. Checked in the wheels of gevent 21.12, 22.10.2, 23.9.1, 24.2.1, 25.4.1, 26.7 and
//! 26.9 (`scripts/dump-layout` knows nothing of them). From:
//! * <https://github.com/gevent/gevent/blob/24.2.1/deps/libev/ev_vars.h> (`EV_COMMON` is empty)
//! * <https://github.com/gevent/gevent/blob/24.2.1/src/gevent/libev/corecext.pyx>

/// `ev_rt_now`, a double of seconds on `CLOCK_REALTIME`.
pub const RT_NOW: u64 = 0;
/// `mn_now`, a double of seconds on `CLOCK_MONOTONIC`: when the loop last looked at the clock.
pub const MN_NOW: u64 = 16;
/// `rtmn_diff`, a double: `ev_rt_now - mn_now`, but for a jump of the wall clock.
pub const RTMN_DIFF: u64 = 24;
/// `pendingcnt`, an `int` for each priority: watchers whose callback is still to be called.
pub const PENDING: u64 = 108;
/// How many priorities there are: `EV_MAXPRI - EV_MINPRI + 1`.
pub const PRIORITIES: u64 = 5;
/// `backend`, an `int`.
pub const BACKEND: u64 = 176;
/// `EVBACKEND_EPOLL`.
pub const BACKEND_EPOLL: u32 = 4;
/// `backend_fd`, an `int`: the epoll descriptor.
pub const BACKEND_FD: u64 = 188;
/// `userdata` lies at one of these places: 968 without, 1128 with the backends for `io_uring` and
/// `aio`.
pub const USERDATA: std::ops::Range<u64> = 896..1536;
/// From `userdata` back to `loop_count`, an `unsigned`: raised right before each poll.
pub const COUNT_BEFORE_USERDATA: u64 = 12;
/// From `userdata` back to `loop_depth`, an `unsigned`: how many `ev_run` there are on the stack.
pub const DEPTH_BEFORE_USERDATA: u64 = 8;
/// From `userdata` back to `prepares`, an array of pointers to watchers. gevent's own is the first.
pub const PREPARES_BEFORE_USERDATA: u64 = 448;

/// In gevent's `loop` object: `_prepare`, the watcher that runs the callbacks that are due.
pub const LOOP_PREPARE: u64 = 24;
/// In gevent's `loop` object: `_ptr`, the `struct ev_loop`.
pub const LOOP_PTR: u64 = 168;
/// In gevent's `loop` object: `_callbacks`, a `CallbackFIFO`.
pub const LOOP_CALLBACKS: u64 = 176;
/// In gevent's `loop` object: `starting_timer_may_update_loop_time`, an `int` that is 1 while it runs
/// callbacks that are due, and 0 while it calls those of watchers or polls.
pub const LOOP_CALLING: u64 = 184;
/// In gevent's `CallbackFIFO`: `head`, the callback that runs next, or `None`.
pub const FIFO_HEAD: u64 = 24;
/// In gevent's `callback`: `next` in the queue, or `None`.
pub const CALLBACK_NEXT: u64 = 32;
