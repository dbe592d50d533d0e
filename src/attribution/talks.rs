//! By which libraries a process talks to its peers.
//!
//! Takes samples and stalls whose thread waited for a peer, and the lines that connect; puts the packages and C
//! libraries between the application and the system call to the process's connections to that peer. A greenlet's or
//! a task's wait is not seen in a system call: of a process with one peer alone, whatever its lines call is taken to talk
//! to that one.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::Attribution;
use super::application::origin_of;
use crate::model::origin::Origin;
use crate::model::{Connecting, CpuState, FrameId, FrameKind, NameId, Recording, Stall, WaitId};
use crate::units::Pid;

/// By process and peer; without one, all that lines of the application were seen to call.
type Libraries = BTreeMap<(Pid, Option<NameId>), BTreeSet<String>>;

/// Finds the libraries of each connection's peer.
pub fn place(recording: &mut Recording, stalls: &[Stall], connecting: &[Connecting]) {
    let mut all = of_samples(recording);
    for stall in stalls {
        let Some(culprit) = &stall.culprit else { continue };
        let Some(peer) = culprit.wait.and_then(|wait| remote(recording, wait)) else { continue };
        let pid = stall.pid;
        let frames = [culprit.library, culprit.native, culprit.native_library];
        let names = frames.into_iter().flatten().filter_map(|id| library(recording, pid, id));
        all.entry((pid, Some(peer))).or_default().extend(names);
    }
    let tables = &recording.tables;
    let mut talkers: BTreeMap<(Pid, Option<&str>), BTreeSet<String>> = BTreeMap::new();
    for ((pid, peer), names) in all {
        talkers.entry((pid, peer.map(|peer| tables.text(peer)))).or_default().extend(names);
    }
    for process in &mut recording.processes {
        let peers = process.connections.iter().filter(|row| row.peer.is_some()).count();
        for row in &mut process.connections {
            let Some(peer) = row.peer.as_deref() else { continue };
            let met = talkers.get(&(process.pid, Some(peer))).into_iter().flatten().cloned();
            let only = talkers.get(&(process.pid, None)).filter(|_| peers == 1);
            let connects = connecting
                .iter()
                .filter(|one| one.peer.is_some_and(|name| tables.text(name) == peer))
                .map(|one| one.library.clone());
            let names: BTreeSet<String> =
                met.chain(connects).chain(only.into_iter().flatten().cloned()).collect();
            row.libraries = names.into_iter().collect();
        }
    }
}

fn of_samples(recording: &Recording) -> Libraries {
    let mut all = Libraries::new();
    let (mut sites, mut seen) = (Attribution::new(recording), HashSet::new());
    for sample in &recording.samples {
        let peer = match sample.cpu {
            CpuState::Blocked { wait: Some(wait) } => remote(recording, wait),
            _ => None,
        };
        if !seen.insert((sample.pid, sample.stack, peer)) {
            continue;
        }
        let Some(site) = sites.site(sample.pid, sample.stack) else { continue };
        let below = recording.tables.frames_of(sample.stack).map(|(id, _)| id);
        let below = below.take_while(|id| *id != site.culprit);
        let names = below.filter_map(|id| library(recording, sample.pid, id));
        all.entry((sample.pid, peer)).or_default().extend(names);
    }
    all
}

fn remote(recording: &Recording, wait: WaitId) -> Option<NameId> {
    recording.tables.get_wait(wait)?.remote()
}

/// A package by its import name, a C library by its file's name.
fn library(recording: &Recording, pid: Pid, id: FrameId) -> Option<String> {
    let tables = &recording.tables;
    let frame = tables.get_frame(id)?;
    if frame.kind == FrameKind::Native {
        return frame.module.map(|name| {
            let path = tables.text(name);
            path.rsplit('/').next().unwrap_or(path).to_owned()
        });
    }
    let stdlib = recording.get_process(pid).and_then(|one| one.stdlib.as_deref());
    match origin_of(tables, stdlib, frame) {
        Origin::Package(name) => Some(name.to_owned()),
        _ => None,
    }
}
