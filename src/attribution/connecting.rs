//! Which lines of the application connect to somebody.
//!
//! Takes the background samples of all threads, gives lines below which a library's function that connects
//! was running or waiting. What a greenlet or a task waits for while others run is not in them: its line is seen where it
//! runs for a moment.

use std::collections::BTreeMap;

use super::Attribution;
use super::application::origin_of;
use crate::model::origin::Origin;
use crate::model::{Connecting, CpuState, FrameId, NameId, Recording, StackId, Wait};
use crate::units::Pid;

/// Functions that connect, of drivers and clients and of what these call: `psycopg2.connect`,
/// `Connection.connect` (pymysql, redis, http.client, urllib3), `socket.create_connection`,
/// `asyncio.open_connection`, httpcore's `connect_tcp`, aiohttp's `_create_connection`, gevent's `socket.connect`.
const CONNECTS: [&str; 7] = [
    "connect",
    "_connect",
    "create_connection",
    "_create_connection",
    "open_connection",
    "connect_tcp",
    "sock_connect",
];

/// The lines, the one seen most first.
#[must_use]
pub fn connecting(recording: &Recording) -> Vec<Connecting> {
    let mut sites = Attribution::new(recording);
    let mut known: BTreeMap<(Pid, StackId), Option<(FrameId, &str)>> = BTreeMap::new();
    let mut all: BTreeMap<(FrameId, &str, Option<NameId>), u64> = BTreeMap::new();
    for sample in &recording.samples {
        let (pid, stack) = (sample.pid, sample.stack);
        let line = known.entry((pid, stack)).or_insert_with(|| {
            let site = sites.site(pid, stack).filter(|site| site.is_application)?;
            Some((site.culprit, library(recording, pid, stack, site.culprit)?))
        });
        let Some((frame, library)) = *line else { continue };
        let wait = match sample.cpu {
            CpuState::Blocked { wait } => wait.and_then(|wait| recording.tables.get_wait(wait)),
            _ => None,
        };
        let peer = wait.and_then(Wait::remote);
        let looks = all.entry((frame, library, peer)).or_default();
        *looks = looks.saturating_add(u64::from(sample.count));
    }
    let mut all: Vec<Connecting> = { all.into_iter() }
        .map(|((frame, library, peer), looks)| Connecting {
            frame,
            library: library.to_owned(),
            peer,
            looks,
        })
        .collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.looks));
    all
}

/// The library below a line that is connecting, the one that the application called.
fn library(recording: &Recording, pid: Pid, stack: StackId, line: FrameId) -> Option<&str> {
    let tables = &recording.tables;
    let stdlib = recording.get_process(pid).and_then(|process| process.stdlib.as_deref());
    let below: Vec<_> = tables.frames_of(stack).take_while(|(id, _)| *id != line).collect();
    below.into_iter().rev().find_map(|(_, frame)| {
        let connects = CONNECTS.contains(&tables.text(frame.function));
        match origin_of(tables, stdlib, frame) {
            Origin::Package(name) | Origin::Stdlib(name) if connects => Some(name),
            _ => None,
        }
    })
}
