//! How finely the kernel's clocks are read. Reads no clock.

use nix::time::{ClockId, clock_getres};

use crate::units::Nanos;

/// The step of `CLOCK_MONOTONIC_COARSE`: a tick of the kernel, 1 to 10 ms (clock_getres(2)).
#[must_use]
pub fn coarse_step() -> Nanos {
    let step = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE);
    let nanos = step.ok().and_then(|step| u64::try_from(step.tv_nsec()).ok());
    // A second or more is no clock's step: as if there were none.
    nanos.map_or(Nanos(u64::MAX), Nanos)
}
