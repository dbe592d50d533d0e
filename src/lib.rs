//! stallspy finds every moment at which a Python web server's event loop was blocked, and names
//! what blocked it, from outside the process, without stopping or changing it.
//!
//! ```text
//!  running server                                              what you read
//!  target ──► python ──► event_loop, server ──► sampler ──► RECORDING ──► stall ──► attribution
//!   bytes     frames      its own clock           looks      (model)                    │
//!   /proc     objects                                                   diagnosis ◄─────┘
//!  layout: struct layouts as data                                           │
//!  ──────────── touches a process ─────────────│──────── pure ────────► export
//! ```
//!
//! Left of the recording everything observes and concludes nothing; right of it everything
//! concludes and observes nothing. `docs/ARCHITECTURE.md` tells the story of one run.

pub mod attribution;
pub mod cli;
pub mod conclusion;
pub mod diagnosis;
pub mod doctor;
pub mod error;
pub mod event_loop;
pub mod export;
pub mod gate;
pub mod layout;
pub mod load;
pub mod model;
pub mod native;
pub mod printable;
pub mod python;
pub mod recording;
pub mod sampler;
pub mod server;
pub mod session;
pub mod sizing;
pub mod stall;
pub mod target;
pub mod units;
pub mod values;
