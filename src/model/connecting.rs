//! Lines that connect to somebody.

use super::{FrameId, NameId};

/// A line of the application that was seen connecting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connecting {
    /// The line.
    pub frame: FrameId,
    /// The library that it called for that, by its import name: `psycopg2`, `urllib3`, `socket`.
    pub library: String,
    /// Whom the thread waited for; `None` where it ran, or where that was not seen.
    pub peer: Option<NameId>,
    /// Looks that saw it.
    pub looks: u64,
}
