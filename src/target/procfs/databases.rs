//! `SQLite` databases that a process has open, by its descriptors.
//!
//! Knows how such files are named and begin (<https://www.sqlite.org/fileformat2.html#the_database_header>),
//! and the files `-journal` and `-wal` beside them (<https://www.sqlite.org/tempfiles.html>). Reads
//! the first bytes of files so named, and nothing else of them. To open one and close it again
//! takes no lock of the target's away: those belong to processes (fcntl(2)).

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use super::{ProcError, ProcFs, SMALL, numbers};
use crate::units::{Nanos, Pid};

/// How their names end by custom.
const ENDINGS: [&str; 4] = [".db", ".sqlite", ".sqlite3", ".db3"];
/// Files beside one that are open while it is written to.
const BESIDE: [&str; 2] = ["-journal", "-wal"];
/// What one begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// A database that a process has open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDatabase {
    /// Its path, as the target sees it.
    pub path: String,
    /// When it, or a file beside it, was last written to, since 1970.
    pub written: Option<Nanos>,
}

impl ProcFs {
    /// The databases that a process has open for writing; at most `limit` of its descriptors are looked at.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn databases(&self, pid: Pid, limit: usize) -> Result<Vec<OpenDatabase>, ProcError> {
        let entries =
            fs::read_dir(self.path(pid, "fd")).map_err(|error| self.explain(pid, "fd", error))?;
        let mut found: Vec<OpenDatabase> = Vec::new();
        for fd in numbers(entries).take(limit) {
            let Ok(link) = self.fd_link(pid, fd) else { continue };
            let path = self.as_target_sees(pid, &link).to_string_lossy().into_owned();
            let beside = BESIDE.iter().find_map(|ending| path.strip_suffix(ending));
            let name = beside.unwrap_or(&path);
            if !ENDINGS.iter().any(|ending| name.ends_with(ending)) || !self.writes(pid, fd) {
                continue;
            }
            if beside.is_none() && !self.begins_as_database(pid, fd) {
                continue;
            }
            let written = self.written(pid, fd);
            match found.iter_mut().find(|one| one.path == name) {
                Some(known) => known.written = known.written.max(written),
                None => found.push(OpenDatabase { path: name.to_owned(), written }),
            }
        }
        Ok(found)
    }

    /// Whether a descriptor may be written to (`flags` in octal, proc_pid_fdinfo(5)).
    fn writes(&self, pid: Pid, fd: i32) -> bool {
        let Ok(bytes) = self.bytes(pid, &format!("fdinfo/{fd}"), SMALL) else { return false };
        let text = String::from_utf8_lossy(&bytes);
        let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        flags.is_some_and(|flags| flags & nix::libc::O_ACCMODE != nix::libc::O_RDONLY)
    }

    fn begins_as_database(&self, pid: Pid, fd: i32) -> bool {
        let path = self.path(pid, format!("fd/{fd}"));
        if !fs::metadata(&path).is_ok_and(|data| data.is_file()) {
            return false;
        }
        let mut options = OpenOptions::new();
        // What was a file a moment ago is not waited for, whatever it is now.
        let opened = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(&path);
        let mut bytes = [0; MAGIC.len()];
        opened.and_then(|mut file: File| file.read_exact(&mut bytes)).is_ok() && &bytes == MAGIC
    }

    fn written(&self, pid: Pid, fd: i32) -> Option<Nanos> {
        let data = fs::metadata(self.path(pid, format!("fd/{fd}"))).ok()?;
        let since = data.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(since.as_nanos()).ok().map(Nanos)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn databases_are_known_by_name_and_begin_and_only_those_that_are_written() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        fs::create_dir_all(at.join("7/fd")).unwrap();
        fs::create_dir_all(at.join("7/fdinfo")).unwrap();
        let files: [(&str, &[u8], &str); 6] = [
            ("app.db", b"SQLite format 3\0more", "0100002"),
            ("app.db-wal", b"wal", "0100002"),
            ("other.db", b"something else that is long", "0100002"),
            ("read.sqlite3", b"SQLite format 3\0", "0100000"),
            ("new.sqlite", b"SQLite format 3\0", "02"),
            ("notes.txt", b"SQLite format 3\0", "02"),
        ];
        for (fd, (name, bytes, flags)) in files.iter().enumerate() {
            fs::write(at.join(name), bytes).unwrap();
            symlink(at.join(name), at.join(format!("7/fd/{fd}"))).unwrap();
            fs::write(at.join(format!("7/fdinfo/{fd}")), format!("pos:\t0\nflags:\t{flags}\n"))
                .unwrap();
        }
        let mut found = ProcFs::at(at).databases(Pid(7), 100).unwrap();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let names: Vec<&str> = found.iter().filter_map(|one| one.path.rsplit('/').next()).collect();
        assert_eq!(names, ["app.db", "new.sqlite"]);
        assert!(found.iter().all(|one| one.written.is_some()));
        assert!(ProcFs::at(at).databases(Pid(8), 100).is_err());
    }
}
