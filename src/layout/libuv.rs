//! `uv_loop_t` of libuv on Linux, 64 bit: where its clock and its counts lie.
//!
//! Numbers only. Public members (`include/uv.h`, `include/uv/unix.h`) keep their places within libuv's
//! major version 1, which never breaks its binary interface; measured on 1.43.0 and 1.52.1, and the
//! same in uvloop 0.17 to 0.23. <https://github.com/libuv/libuv/blob/v1.48.0/include/uv/unix.h>

/// Offsets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LibuvOffsets {
    /// `data`, for whoever made the loop: uvloop and gevent keep their own loop object here.
    pub data: u64,
    /// `internal_fields`, a pointer.
    pub internal_fields: u64,
    /// `backend_fd`, an `int`: the epoll set.
    pub backend_fd: u64,
    /// `time`, in whole ms on `CLOCK_MONOTONIC`.
    pub time: u64,
    /// In what `internal_fields` points to: `loop_metrics.metrics.loop_count`, from 1.45 on. Before, a
    /// time is kept there that stays 0 unless the program asked for it.
    /// <https://github.com/libuv/libuv/blob/v1.48.0/src/uv-common.h#L402>
    pub loop_count: u64,
}

/// Those of the platform that stallspy is built for. `time` comes after a mutex, which takes 40 bytes
/// with glibc on x86_64 and 48 on aarch64.
pub const LIBUV: LibuvOffsets = LibuvOffsets {
    data: 0,
    internal_fields: 40,
    backend_fd: 64,
    time: if cfg!(target_arch = "aarch64") { 552 } else { 544 },
    loop_count: 8,
};

/// Bytes of a `uv_loop_t` up to the last member used.
pub const LIBUV_SPAN: usize = 560;
