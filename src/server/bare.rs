//! A program that runs its own loop: no server probe recognised it.

use super::Recognised;
use crate::model::{Role, WorkerClass};

/// The name under which such a program is reported.
pub const NAME: &str = "none";

/// What such a process is. It may still be starting whatever it will be.
#[must_use]
pub fn recognised() -> Recognised {
    Recognised::new(NAME, None, Role::Single, WorkerClass::Bare).unsettled()
}
