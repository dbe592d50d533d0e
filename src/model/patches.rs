//! Which modules of the standard library a library of greenlets has made cooperative in a process.

use serde::{Deserialize, Serialize};

/// What was replaced, by whom. A process of which nothing is known has none of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patches {
    /// `gevent` or `eventlet`.
    pub by: String,
    /// The modules, in the order they were patched in: `socket`, `time`. Empty if it patched none.
    pub modules: Vec<String>,
}

impl Patches {
    /// Whether the module is among them.
    #[must_use]
    pub fn has(&self, module: &str) -> bool {
        self.modules.iter().any(|one| one == module)
    }
}
