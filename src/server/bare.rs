//! A program that runs its own loop: no server probe recognised it.

use crate::model::{Role, WorkerClass, WorkerTopology};

/// The name under which such a program is reported.
pub const NAME: &str = "none";

/// What such a process is.
#[must_use]
pub fn topology() -> WorkerTopology {
    WorkerTopology {
        server: NAME.to_owned(),
        server_version: None,
        role: Role::Single,
        class: WorkerClass::Bare,
    }
}
