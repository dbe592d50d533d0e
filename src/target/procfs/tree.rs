//! Who is whose child.
//!
//! Knows `task/TID/children` (proc_tid_children(5)) and what to do on kernels built without it.
//! Gives direct children only; [`crate::target::Descendants`] follows them.

use std::collections::HashMap;

use super::{ProcError, ProcFs, SMALL, decimal};
use crate::units::{Pid, Tid};

impl ProcFs {
    /// The children of a process, in ascending order, also those that have ended and wait to be
    /// collected.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn children(&self, pid: Pid) -> Result<Vec<Pid>, ProcError> {
        if !self.lists_children(pid)? {
            return Ok(self.children_by_parent()?.remove(&pid).unwrap_or_default());
        }
        let mut children = Vec::new();
        // A child belongs to the thread that forked it, and to another thread when that one ends.
        for tid in self.tids(pid)? {
            children.extend(self.children_of_thread(pid, tid)?);
        }
        children.sort_unstable();
        children.dedup();
        Ok(children)
    }

    /// Whether this kernel has `task/TID/children` (`CONFIG_PROC_CHILDREN`).
    ///
    /// # Errors
    /// [`ProcError::NoSuchProcess`].
    pub(in crate::target) fn lists_children(&self, pid: Pid) -> Result<bool, ProcError> {
        if !self.path(pid, "").exists() {
            return Err(ProcError::NoSuchProcess(pid));
        }
        Ok(self.path(pid, format!("task/{pid}/children")).exists())
    }

    /// Every process by its parent, from every `stat` there is: the slow way.
    ///
    /// # Errors
    /// [`ProcError::Io`] where the root is no `/proc`.
    pub(in crate::target) fn children_by_parent(
        &self,
    ) -> Result<HashMap<Pid, Vec<Pid>>, ProcError> {
        let mut children: HashMap<Pid, Vec<Pid>> = HashMap::new();
        for pid in self.pids()? {
            // One that ended meanwhile is nobody's child any more.
            if let Ok(stat) = self.stat(pid) {
                children.entry(stat.ppid).or_default().push(pid);
            }
        }
        Ok(children)
    }

    fn children_of_thread(&self, pid: Pid, tid: Tid) -> Result<Vec<Pid>, ProcError> {
        match self.bytes(pid, &format!("task/{tid}/children"), SMALL) {
            Ok(text) => Ok(text
                .split(u8::is_ascii_whitespace)
                .filter_map(|word| i32::try_from(decimal(word)?).ok())
                .map(Pid)
                .collect()),
            // The thread ended meanwhile; its children are another thread's now, or will be seen
            // at the next look.
            Err(ProcError::Io { .. } | ProcError::NoSuchProcess(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}
