//! A small file that remembers the tracepoints of this kernel, for who may not read tracefs.
//!
//! `$XDG_CACHE_HOME/stallspy/tracepoints` (XDG Base Directory Specification), or `~/.cache`, or a
//! directory of the user's own in `/tmp`. Its first line names the kernel; another kernel's file is
//! no file. Read and written only if the directory and the file are the user's own and nobody else
//! can write to them: the names in `/tmp` are everybody's. Failing costs a quarter of a second.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::{Uid, geteuid};

const FILE: &str = "tracepoints";
/// Longest file taken; we write some 300 bytes.
const LONGEST: u64 = 4096;
/// Writable by group or others.
const FOREIGN_WRITE: u32 = 0o022;

/// What was stored for this kernel.
pub(super) fn load() -> Option<String> {
    load_from(&directory()?, &kernel()?)
}

/// Stores what was found out for this kernel, if there is a place.
pub(super) fn store(text: &str) {
    if let (Some(dir), Some(kernel)) = (directory(), kernel()) {
        // Not having a cache is no failure.
        let _ = store_in(&dir, &kernel, text);
    }
}

/// `uname -r -v`: a kernel built anew numbers anew.
fn kernel() -> Option<String> {
    let names = nix::sys::utsname::uname().ok()?;
    let line = format!("{} {}", names.release().to_str()?, names.version().to_str()?);
    (!line.contains('\n')).then_some(line)
}

fn directory() -> Option<PathBuf> {
    // Only absolute ones count, says the specification.
    let given = |name| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = || given("HOME").map(|home| home.join(".cache"));
    let caches = given("XDG_CACHE_HOME").or_else(home).filter(|dir| is_own(dir, geteuid()));
    Some(match caches {
        Some(caches) => caches.join("stallspy"),
        None => PathBuf::from(format!("/tmp/stallspy-{}", geteuid())),
    })
}

fn load_from(dir: &Path, kernel: &str) -> Option<String> {
    if !is_own(dir, geteuid()) {
        return None;
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(dir.join(FILE))
        .ok()?;
    let facts = file.metadata().ok()?;
    let trusted = facts.is_file()
        && facts.uid() == geteuid().as_raw()
        && facts.mode() & FOREIGN_WRITE == 0
        && facts.len() <= LONGEST;
    if !trusted {
        return None;
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    let (first, rest) = text.split_once('\n')?;
    (first == kernel).then(|| rest.to_owned())
}

fn store_in(dir: &Path, kernel: &str, text: &str) -> std::io::Result<()> {
    // Exists already, mostly.
    let _ = DirBuilder::new().mode(0o700).create(dir);
    if !is_own(dir, geteuid()) {
        return Err(std::io::ErrorKind::PermissionDenied.into());
    }
    let part = dir.join(format!("{FILE}.{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&part)?;
    write!(file, "{kernel}\n{text}")?;
    drop::<File>(file);
    fs::rename(&part, dir.join(FILE))
}

/// A directory, not a link to one, that is `owner`'s and that nobody else can write to.
fn is_own(dir: &Path, owner: Uid) -> bool {
    fs::symlink_metadata(dir).is_ok_and(|facts| {
        facts.is_dir() && facts.uid() == owner.as_raw() && facts.mode() & FOREIGN_WRITE == 0
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_stored_is_loaded_for_the_same_kernel_only() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("stallspy");
        assert_eq!(load_from(&dir, "6.1 #1"), None);
        store_in(&dir, "6.1 #1", "poll 1 2\n").unwrap();
        assert_eq!(load_from(&dir, "6.1 #1").as_deref(), Some("poll 1 2\n"));
        assert_eq!(load_from(&dir, "6.1 #2"), None);
    }

    #[test]
    fn what_others_could_have_written_is_not_believed() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("stallspy");
        store_in(&dir, "k", "poll 1 2\n").unwrap();
        let file = dir.join(FILE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(load_from(&dir, "k"), None);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(load_from(&dir, "k").is_some());
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(load_from(&dir, "k"), None);
        assert!(store_in(&dir, "k", "").is_err());
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        let elsewhere = home.path().join("elsewhere");
        fs::rename(&file, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        assert_eq!(load_from(&dir, "k"), None);
    }
}
