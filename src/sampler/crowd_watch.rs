//! Servers as a whole: whether every thread of every worker is held, and who waits for one, at the
//! same moment.
//!
//! Workers that accept from the same sockets serve one line: that one of them is held says nothing
//! while another is free. Takes what each process knows of itself, asks for the line before their
//! sockets, and counts both as one look. Where the number of threads of one of them is not known (it is
//! still starting, or makes a thread for each connection), the look says nothing and is not counted.

use super::notes::Notes;
use super::pace::{POOL_LOOK, now};
use super::process_watch::ProcessWatch;
use crate::model::CrowdLook;
use crate::target::ProcFs;
use crate::target::net_tables::Listener;
use crate::units::Timestamp;

/// What one process adds to its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The inodes of the sockets it accepts from, in order.
    pub inodes: Vec<u64>,
    /// How many of its threads may serve requests; `None` if that is not known.
    pub threads: Option<u32>,
    /// How many of them are held.
    pub held: u32,
    /// Requests it has taken in that no thread has begun yet.
    pub queued: u32,
}

/// When servers are looked at as a whole.
#[derive(Debug, Default)]
pub struct CrowdWatch {
    next: Timestamp,
}

impl CrowdWatch {
    /// Looks, if it is time.
    pub fn see(&mut self, procfs: &ProcFs, processes: &mut [ProcessWatch], notes: &mut Notes) {
        let at = now();
        if at < self.next {
            return;
        }
        self.next = at + POOL_LOOK;
        let parts: Vec<(usize, Part)> = processes
            .iter()
            .enumerate()
            .filter_map(|(index, watch)| Some((index, watch.part_of_crowd()?)))
            .collect();
        for group in groups(&parts) {
            let Some((first, part)) = group.first() else { continue };
            let pid = processes.get(*first).map(|watch| watch.pid);
            let Some(pid) = pid else { continue };
            let Some(all) = notes.sockets.listeners_now(procfs, pid, at) else { continue };
            let Some(line) = line(&all, &part.inodes) else { continue };
            let Some(look) = together(group.iter().map(|(_, part)| part), line) else { continue };
            for (index, _) in group {
                if let Some(watch) = processes.get_mut(*index) {
                    watch.see_crowd(look);
                }
            }
        }
    }
}

/// The parts that accept from the same sockets.
fn groups(parts: &[(usize, Part)]) -> Vec<Vec<&(usize, Part)>> {
    let mut groups: Vec<Vec<&(usize, Part)>> = Vec::new();
    for part in parts {
        let same = |group: &&mut Vec<&(usize, Part)>| {
            group.first().is_some_and(|first| first.1.inodes == part.1.inodes)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(part),
            None => groups.push(vec![part]),
        }
    }
    groups
}

/// How many wait to be accepted at these sockets; `None` if that is not known of each.
fn line(all: &[Listener], inodes: &[u64]) -> Option<u32> {
    inodes.iter().try_fold(0_u32, |sum, inode| {
        let queue = all.iter().find(|one| one.inode == *inode)?.queue?;
        Some(sum.saturating_add(queue))
    })
}

/// One look at all parts; `None` where one of them does not know how many threads it may have.
fn together<'a>(mut parts: impl Iterator<Item = &'a Part>, line: u32) -> Option<CrowdLook> {
    let mut sum = parts.try_fold(CrowdLook::default(), |sum, part| {
        let threads = part.threads?;
        // What a process has taken in no other can serve.
        let queued = if part.held >= threads { part.queued } else { 0 };
        Some(CrowdLook {
            threads: sum.threads.saturating_add(threads),
            // More than there may be is a thread that is about to end.
            held: sum.held.saturating_add(part.held.min(threads)),
            waiting: sum.waiting.saturating_add(queued),
        })
    })?;
    if sum.threads > 0 && sum.held >= sum.threads {
        sum.waiting = sum.waiting.saturating_add(line);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(inodes: &[u64], threads: Option<u32>, held: u32, queued: u32) -> Part {
        Part { inodes: inodes.to_vec(), threads, held, queued }
    }

    fn listener(inode: u64, queue: Option<u32>) -> Listener {
        Listener { inode, address: String::new(), port: None, queue, limit: None }
    }

    #[test]
    fn workers_of_one_socket_are_one_server() {
        let parts = [
            (0, part(&[7], Some(1), 1, 0)),
            (1, part(&[8], Some(1), 0, 0)),
            (2, part(&[7], Some(1), 1, 0)),
        ];
        let groups = groups(&parts);
        let places: Vec<Vec<usize>> =
            groups.iter().map(|group| group.iter().map(|one| one.0).collect()).collect();
        assert_eq!(places, [vec![0, 2], vec![1]]);
        let look = together(groups[0].iter().map(|one| &one.1), 5);
        assert_eq!(look, Some(CrowdLook { threads: 2, held: 2, waiting: 5 }));
    }

    #[test]
    fn a_pools_own_line_waits_for_its_own_threads() {
        // More held than there may be are no more than that.
        let mut parts = [part(&[7], Some(3), 4, 6), part(&[7], Some(3), 2, 2)];
        let look = together(parts.iter(), 1);
        assert_eq!(look, Some(CrowdLook { threads: 6, held: 5, waiting: 6 }));
        parts[1].held = 3;
        let look = together(parts.iter(), 1);
        assert_eq!(look, Some(CrowdLook { threads: 6, held: 6, waiting: 9 }));
        assert_eq!(together([].iter(), 4), Some(CrowdLook::default()));
    }

    #[test]
    fn what_is_not_known_of_one_is_not_known_of_all() {
        let parts = [part(&[7], Some(1), 1, 0), part(&[7], None, 0, 0)];
        assert_eq!(together(parts.iter(), 1), None);
        let all = [listener(7, Some(3)), listener(8, None)];
        assert_eq!(line(&all, &[7]), Some(3));
        assert_eq!((line(&all, &[7, 8]), line(&all, &[9])), (None, None));
    }
}
