//! Variables a process was started with, by name: never all of them, for some are secrets.

use std::fs::File;
use std::io::Read;

use super::ProcFs;
use crate::units::Pid;

/// Largest environment taken; Linux allows 2 MiB for arguments and environment together by default.
const MOST: u64 = 2 * 1024 * 1024;

impl ProcFs {
    /// Those of the variables `names` that the process was started with. None where the kernel does
    /// not show them.
    #[must_use]
    pub fn variables(&self, pid: Pid, names: &[&str]) -> Vec<(String, String)> {
        let mut bytes = Vec::new();
        let opened = File::open(self.path(pid, "environ"));
        if opened.and_then(|file| file.take(MOST).read_to_end(&mut bytes)).is_err() {
            return Vec::new();
        }
        let wanted = |entry: &[u8]| {
            let (name, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
            names.contains(&name).then(|| (name.to_owned(), value.to_owned()))
        };
        bytes.split(|byte| *byte == 0).filter_map(wanted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("7")).unwrap();
        let text = b"PASSWORD=x\0WEB_CONCURRENCY=3\0ODD\0\xff=1\0WEB_CONCURRENCY_X=4\0";
        std::fs::write(dir.path().join("7/environ"), text).unwrap();
        let procfs = ProcFs::at(dir.path());
        let found = procfs.variables(Pid(7), &["WEB_CONCURRENCY", "HOME"]);
        assert_eq!(found, [("WEB_CONCURRENCY".to_owned(), "3".to_owned())]);
        assert!(procfs.variables(Pid(8), &["HOME"]).is_empty());
    }
}
