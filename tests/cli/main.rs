//! The command line's contract: help texts, exit codes, sentences, and what goes where. Needs no
//! Python; what takes a live server is in `../live`.

#[path = "../common/profiler.rs"]
mod profiler;
#[path = "../story/mod.rs"]
mod story;

mod errors;
mod help;
mod outputs;
mod recordings;
mod streams;
