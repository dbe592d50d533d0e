//! `/proc/PID/maps`: what is mapped where.
//!
//! Knows the line format (Documentation/filesystems/proc.rst, "maps"); gives mappings in address
//! order. Never opens the files that are named in it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::{ProcError, ProcFs};
use crate::units::{Addr, Pid};

/// Largest `maps` we take. A line is about 100 bytes and the kernel's default limit is 65,530
/// mappings (`vm.max_map_count`), so 16 MiB holds every ordinary process twice over.
const MAPS: u64 = 16 * 1024 * 1024;

/// What the kernel appends to the name of a file that has been unlinked.
pub(super) const DELETED: &[u8] = b" (deleted)";

/// What a process may do with a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Perms {
    /// `r`
    pub read: bool,
    /// `w`
    pub write: bool,
    /// `x`
    pub execute: bool,
    /// `s`: writes reach the file and other processes.
    pub shared: bool,
}

/// One line of `maps`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// First byte.
    pub start: Addr,
    /// One past the last byte.
    pub end: Addr,
    /// What the process may do with it.
    pub perms: Perms,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// The file system's device, major and minor. Not always what `stat` says for the same file:
    /// btrfs and overlayfs number devices for `stat` alone.
    pub dev: (u32, u32),
    /// The file's inode; 0 where no file is mapped.
    pub inode: u64,
    /// The file as the target sees it, or a name such as `[heap]`; shared by the lines of one file.
    pub path: Option<Arc<Path>>,
    /// Whether the file has been unlinked or replaced since.
    pub deleted: bool,
}

impl Mapping {
    /// Whether a file is mapped, and not a name the kernel made up.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.inode != 0 && self.path.as_ref().is_some_and(|path| path.is_absolute())
    }

    /// Whether `addr` lies in it.
    #[must_use]
    pub fn contains(&self, addr: Addr) -> bool {
        self.start <= addr && addr < self.end
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }
}

impl ProcFs {
    /// Everything mapped in a process, in ascending order. Reads up to 16 MiB.
    ///
    /// # Errors
    /// Any [`ProcError`].
    pub fn maps(&self, pid: Pid) -> Result<Vec<Mapping>, ProcError> {
        let bytes = self.bytes(pid, "maps", MAPS)?;
        parse(&bytes).ok_or_else(|| self.malformed(pid, "maps", "a line is not a mapping"))
    }
}

fn parse(bytes: &[u8]) -> Option<Vec<Mapping>> {
    let mut maps: Vec<Mapping> = Vec::new();
    for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let mapping = parse_line(line, maps.last())?;
        maps.push(mapping);
    }
    Some(maps)
}

/// One line; `before` lends its path when it is of the same file, as most lines are.
fn parse_line(line: &[u8], before: Option<&Mapping>) -> Option<Mapping> {
    let mut fields = line.splitn(6, |b| *b == b' ');
    let (start, end) = pair(fields.next()?, b'-')?;
    let perms = parse_perms(fields.next()?)?;
    let offset = hex(fields.next()?)?;
    let (major, minor) = pair(fields.next()?, b':')?;
    let inode = super::decimal(fields.next()?)?;
    let name = fields.next().unwrap_or_default().trim_ascii_start();
    let deleted = name.ends_with(DELETED);
    let name = name.strip_suffix(DELETED).unwrap_or(name);
    Some(Mapping {
        start: Addr(start),
        end: Addr(end),
        perms,
        offset,
        dev: (u32::try_from(major).ok()?, u32::try_from(minor).ok()?),
        inode,
        path: parse_path(name, before),
        deleted,
    })
}

fn parse_path(name: &[u8], before: Option<&Mapping>) -> Option<Arc<Path>> {
    if name.is_empty() {
        return None;
    }
    // A newline in a name is the one byte the kernel escapes, as `\012` (show_map_vma, seq_path).
    let unescaped;
    let name = if name.windows(4).any(|four| four == br"\012") {
        unescaped = String::from_utf8_lossy(name).replace(r"\012", "\n");
        unescaped.as_bytes()
    } else {
        name
    };
    let path = Path::new(OsStr::from_bytes(name));
    match before.and_then(|mapping| mapping.path.as_ref()) {
        Some(shared) if **shared == *path => Some(Arc::clone(shared)),
        _ => Some(Arc::from(path)),
    }
}

fn parse_perms(field: &[u8]) -> Option<Perms> {
    let &[r, w, x, s] = field else { return None };
    Some(Perms { read: r == b'r', write: w == b'w', execute: x == b'x', shared: s == b's' })
}

fn pair(field: &[u8], separator: u8) -> Option<(u64, u64)> {
    let mut halves = field.splitn(2, |b| *b == separator);
    Some((hex(halves.next()?)?, hex(halves.next()?)?))
}

fn hex(field: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(field).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_with_spaces_that_was_deleted() {
        let line =
            b"7f0aea77c000-7f0aea8d1000 r-xp 00028000 103:0a 247030   /opt/a b/x.so (deleted)";
        let mapping = parse_line(line, None).unwrap();
        assert_eq!((mapping.start, mapping.end), (Addr(0x7f0a_ea77_c000), Addr(0x7f0a_ea8d_1000)));
        assert_eq!(mapping.perms, Perms { read: true, write: false, execute: true, shared: false });
        assert_eq!((mapping.offset, mapping.dev, mapping.inode), (0x28000, (0x103, 10), 247_030));
        assert_eq!(mapping.path.as_deref(), Some(Path::new("/opt/a b/x.so")));
        assert!(mapping.deleted && mapping.is_file());
        assert_eq!(mapping.size(), 0x15_5000);
    }

    #[test]
    fn nameless_and_made_up_names_are_no_files() {
        let text = b"1000-2000 rw-p 00000000 00:00 0 \n\
                     2000-3000 rw-p 00000000 00:00 0                          [heap]\n\
                     3000-4000 rw-s 00000000 00:01 5 /a\\012b\n\
                     4000-5000 rw-s 00001000 00:01 5 /a\\012b\n";
        let maps = parse(text).unwrap();
        assert_eq!(maps[0].path, None);
        assert_eq!(maps[1].path.as_deref(), Some(Path::new("[heap]")));
        assert!(!maps[1].is_file());
        assert_eq!(maps[2].path.as_deref(), Some(Path::new("/a\nb")));
        assert!(Arc::ptr_eq(maps[2].path.as_ref().unwrap(), maps[3].path.as_ref().unwrap()));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn nearly_right_lines_never_panic(line in "[0-9a-f]{0,20}-?[0-9a-f]{0,20} [rwxps-]{0,5} [0-9a-f]{0,20} [0-9a-f:]{0,12} [0-9]{0,22} ?.{0,20}") {
            let _ = parse(line.as_bytes());
        }
    }
}
