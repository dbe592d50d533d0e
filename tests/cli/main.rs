//! The command line's contract: help texts, exit codes, sentences, and what goes where. Needs no
//! Python; what takes a live server is in `../live`.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "../common/freezes.rs"]
mod freezes;
#[path = "../common/profiler.rs"]
mod profiler;
#[path = "../story/mod.rs"]
mod story;

mod before;
mod errors;
mod help;
mod outputs;
mod recordings;
mod streams;
