//! `/proc/sys`: settings of the kernel, for sentences that say what is in the way.

use super::ProcFs;

impl ProcFs {
    /// A kernel setting by its path, `kernel/yama/ptrace_scope`; `None` where this kernel has none.
    #[must_use]
    pub fn setting(&self, name: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join("sys").join(name)).ok()?;
        Some(text.trim().to_owned())
    }
}
