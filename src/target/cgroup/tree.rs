//! A `/proc` and control groups that are made up, for tests.

use std::fs;

use crate::target::procfs::ProcFs;

/// A folder that holds both.
pub(super) struct Tree(pub(super) tempfile::TempDir);

impl Tree {
    /// Process 7 is in these groups.
    pub(super) fn new(cgroup: &str) -> Tree {
        let tree = Tree(tempfile::tempdir().unwrap());
        tree.put("proc/7/cgroup", cgroup);
        fs::create_dir_all(tree.0.path().join("proc/self")).unwrap();
        tree
    }

    /// The same with a hierarchy mounted at `cg`, with these files in it.
    pub(super) fn mounted(cgroup: &str, mount: &str, files: &[(&str, &str)]) -> Tree {
        let tree = Tree::new(cgroup);
        let point = tree.0.path().join("cg");
        let text = format!("31 23 0:28 / {} rw - {mount}\n", point.display());
        tree.put("proc/self/mountinfo", &text);
        files.iter().for_each(|(name, text)| tree.put(&format!("cg/{name}"), text));
        tree
    }

    pub(super) fn put(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A mount of ours, at `point` in the tree.
    pub(super) fn mount(&self, root: &str, point: &str, kind: &str, options: &str) {
        let point = self.0.path().join(point);
        let text = format!("31 23 0:28 {root} {} rw - {kind} {kind} {options}\n", point.display());
        self.put("proc/self/mountinfo", &text);
    }

    pub(super) fn procfs(&self) -> ProcFs {
        ProcFs::at(self.0.path().join("proc"))
    }
}
