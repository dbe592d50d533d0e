//! Where the debug information of a stripped file is kept, apart from it.
//!
//! Takes a module, gives the file that distributions install for debuggers (GDB manual, "Debugging
//! Information in Separate Files"), found where the target would find it. Never takes one that is
//! not of the same build.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::elf::ElfFile;
use super::modules::Module;

/// Where all of them are kept.
const DIRECTORY: &str = "/usr/lib/debug";

impl Module {
    /// The file with the debug information of this one, `elf`, if it is installed.
    #[must_use]
    pub fn debug_file(&self, elf: &ElfFile) -> Option<ElfFile> {
        let id = elf.build_id().filter(|id| id.len() > 1)?;
        let ways = by_id(&id).into_iter().chain(by_link(Path::new(&self.path), elf.debug_link()));
        ways.filter_map(|path| self.open_beside(&path).ok())
            .find(|found| found.build_id().as_ref() == Some(&id))
    }
}

fn by_id(id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first()?;
    let rest = rest.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    Some(Path::new(DIRECTORY).join(format!(".build-id/{first:02x}/{rest}.debug")))
}

fn by_link(path: &Path, link: Option<String>) -> Vec<PathBuf> {
    let (Some(beside), Some(link)) = (path.parent(), link) else { return Vec::new() };
    // A name with a directory in it is not what the tools write.
    if link.contains('/') || link == ".." {
        return Vec::new();
    }
    let apart = Path::new(DIRECTORY).join(beside.strip_prefix("/").unwrap_or(beside));
    vec![beside.join(&link), beside.join(".debug").join(&link), apart.join(&link)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_debuggers_look() {
        let id = Path::new("/usr/lib/debug/.build-id/ab/cd01.debug");
        assert_eq!(by_id(&[0xab, 0xcd, 0x01]).as_deref(), Some(id));
        assert_eq!(by_id(&[]), None);
        let ways = by_link(Path::new("/usr/bin/python3.11"), Some("x.debug".to_owned()));
        let names: Vec<_> = ways.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(
            names,
            ["/usr/bin/x.debug", "/usr/bin/.debug/x.debug", "/usr/lib/debug/usr/bin/x.debug"]
        );
        assert!(by_link(Path::new("/usr/bin/x"), Some("../y".to_owned())).is_empty());
        assert!(by_link(Path::new("/usr/bin/x"), None).is_empty());
    }
}
