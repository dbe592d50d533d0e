//! Control groups of a test's own, where this machine lets us make one: root outside of most containers.

use std::path::{Path, PathBuf};

/// A control group of our own; gone when dropped.
pub struct Group(PathBuf);

impl Group {
    /// A group in which a controller limits what cgroup v1's files say, or v2's.
    pub fn make(
        name: &str,
        controller: &str,
        v1: &[(&str, String)],
        v2: &[(&str, String)],
    ) -> Option<Group> {
        let above = Path::new("/sys/fs/cgroup").join(controller);
        let is_v1 = above.join(v1.first()?.0).exists();
        let above = if is_v1 { above } else { PathBuf::from("/sys/fs/cgroup") };
        if !is_v1 {
            std::fs::read_to_string(above.join("cgroup.controllers")).ok()?;
        }
        let folder = above.join(format!("stallspy-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).ok()?;
        let group = Group(folder);
        for (file, limit) in if is_v1 { v1 } else { v2 } {
            std::fs::write(group.0.join(file), limit).ok()?;
        }
        Some(group)
    }

    /// Takes a process in.
    pub fn take(&self, pid: i32) -> bool {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).is_ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process may still be on its way out.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
