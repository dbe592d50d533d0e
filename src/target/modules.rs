//! The programs and libraries mapped in a process.
//!
//! Takes a pid, gives each mapped ELF file with its bias, and finds symbols and sections in them.
//! Finds the file behind a mapping also where the target has another root or the file was deleted
//! or replaced. Opens nothing but regular files, keeps none open, and reads no file it was not sure
//! of.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;

use super::elf::{ElfError, ElfFile, Segment};
use super::procfs::{Mapping, ProcError, ProcFs};
use crate::units::{Addr, Pid};

/// Most files looked into; a large application maps some hundreds.
const MOST: usize = 4096;

/// Every program and library mapped in a process.
#[derive(Debug, Default)]
pub struct Modules {
    modules: Vec<Module>,
    unreadable: Vec<Unreadable>,
}

/// A mapped file that could not be read, and why.
#[derive(Debug)]
pub struct Unreadable {
    /// The file, as the target sees it.
    pub path: String,
    /// What was in the way of the last way in that was tried.
    pub why: ElfError,
}

impl Modules {
    /// Finds every file that a process has mapped to be executed, and reads their headers.
    ///
    /// # Errors
    /// Any [`ProcError`] from reading `maps`; a file that cannot be read is only listed.
    pub fn load(procfs: &ProcFs, pid: Pid) -> Result<Modules, ProcError> {
        let exe = procfs.exe(pid).ok();
        let mut found = Modules::default();
        for mappings in by_file(procfs.maps(pid)?) {
            let Some(path) = mappings.first().and_then(|mapping| mapping.path.clone()) else {
                continue;
            };
            let seen = procfs.as_target_sees(pid, &path);
            let is_exe = exe.as_ref() == Some(&seen);
            let source = Source { procfs: procfs.clone(), pid, path, is_exe };
            let path = seen.to_string_lossy().into_owned();
            match Module::load(source, path.clone(), mappings) {
                Ok(module) => found.modules.push(module),
                Err(why) => found.unreadable.push(Unreadable { path, why }),
            }
        }
        Ok(found)
    }

    /// All of them, in the order of their addresses.
    pub fn iter(&self) -> impl Iterator<Item = &Module> {
        self.modules.iter()
    }

    /// The program itself.
    #[must_use]
    pub fn executable(&self) -> Option<&Module> {
        self.modules.iter().find(|module| module.is_executable)
    }

    /// The one that has `addr` mapped from its file.
    #[must_use]
    pub fn containing(&self, addr: Addr) -> Option<&Module> {
        self.modules.iter().find(|module| module.contains(addr))
    }

    /// Those that could not be read.
    #[must_use]
    pub fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }
}

/// One program or library.
#[derive(Debug)]
pub struct Module {
    /// The file, as the target sees it.
    pub path: String,
    /// What to add to the file's own addresses.
    pub bias: u64,
    /// Whether it is the program itself.
    pub is_executable: bool,
    /// Where it is mapped, in ascending order; memory that is only zeroed (`.bss`) is no mapping
    /// of the file.
    pub mappings: Vec<Mapping>,
    segments: Vec<Segment>,
    source: Source,
}

impl Module {
    fn load(source: Source, path: String, mappings: Vec<Mapping>) -> Result<Module, ElfError> {
        let (_, segments, bias) = source.open(&mappings)?;
        let is_executable = source.is_exe;
        // The file may be mapped a second time as plain data, for someone to read.
        let mappings = mappings.into_iter().filter(|mapping| {
            segments.iter().any(|segment| bias_of(mapping, segment) == Some(bias))
        });
        Ok(Module { path, bias, is_executable, mappings: mappings.collect(), segments, source })
    }

    /// Whether `addr` lies in one of its mappings.
    #[must_use]
    pub fn contains(&self, addr: Addr) -> bool {
        self.mappings.iter().any(|mapping| mapping.contains(addr))
    }

    /// Address and length of everything of it that can be written, with the zeroed memory behind
    /// what the file holds.
    #[must_use]
    pub fn writable_segments(&self) -> Vec<(Addr, u64)> {
        let writable = self.segments.iter().filter(|segment| segment.writable);
        writable.map(|segment| (self.place(segment.address), segment.size)).collect()
    }

    /// Where a symbol lies; `None` also where the file cannot be read any more.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<Addr> {
        self.symbol_span(name).map(|(addr, _)| addr)
    }

    /// Where a symbol lies, and its size in bytes, which may be 0 for "unknown".
    #[must_use]
    pub fn symbol_span(&self, name: &str) -> Option<(Addr, u64)> {
        let (elf, ..) = self.source.open(&self.mappings).ok()?;
        let (value, size) = elf.symbol(name).ok()??;
        Some((self.place(value), size))
    }

    /// Where a loaded section lies, and its length in bytes.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<(Addr, u64)> {
        let (elf, ..) = self.source.open(&self.mappings).ok()?;
        let (address, size) = elf.section(name).ok()??;
        Some((self.place(address), size))
    }

    /// Opens the file, checked again to be what is mapped.
    ///
    /// # Errors
    /// See [`ElfError`].
    pub fn open(&self) -> Result<ElfFile, ElfError> {
        self.source.open(&self.mappings).map(|(elf, ..)| elf)
    }

    /// Opens a regular file by its path as the target sees it.
    pub(super) fn open_beside(&self, path: &Path) -> Result<ElfFile, ElfError> {
        let inside = path.strip_prefix("/").unwrap_or(path);
        let root = self.source.procfs.path(self.source.pid, "root");
        ElfFile::open(open_regular(&root.join(inside), None)?)
    }

    fn place(&self, address: u64) -> Addr {
        Addr(address.wrapping_add(self.bias))
    }
}

/// The mappings of each file that is mapped to be executed, in the order of their addresses.
fn by_file(maps: Vec<Mapping>) -> Vec<Vec<Mapping>> {
    type Key = ((u32, u32), u64, Arc<Path>); // device, inode, path
    let mut places: HashMap<Key, usize> = HashMap::new();
    let mut files: Vec<Vec<Mapping>> = Vec::new();
    for mapping in maps.into_iter().filter(Mapping::is_file) {
        let Some(path) = mapping.path.clone() else { continue };
        let place = *places.entry((mapping.dev, mapping.inode, path)).or_insert(files.len());
        match files.get_mut(place) {
            Some(file) => file.push(mapping),
            None => files.push(vec![mapping]),
        }
    }
    files.retain(|file| file.iter().any(|mapping| mapping.perms.execute));
    files.truncate(MOST);
    files
}

/// The bias by which this mapping is of this segment, if it can be.
///
/// Both ends are rounded to pages, of whichever size; the difference between a mapping's address
/// and its offset is not.
fn bias_of(mapping: &Mapping, segment: &Segment) -> Option<u64> {
    let segment_end = segment.offset.saturating_add(segment.file_size);
    let mapping_end = mapping.offset.saturating_add(mapping.size());
    let overlap = mapping.offset < segment_end && segment.offset < mapping_end;
    let start = mapping.start.0.wrapping_sub(mapping.offset);
    overlap.then(|| start.wrapping_sub(segment.address).wrapping_add(segment.offset))
}

/// The bias by which the mappings are of this file: as its executable part is mapped.
fn bias_of_all(mappings: &[Mapping], segments: &[Segment], is_fixed: bool) -> Option<u64> {
    let code = || segments.iter().filter(|segment| segment.executable);
    let executed = mappings.iter().filter(|mapping| mapping.perms.execute);
    let mut biases = executed.flat_map(|m| code().filter_map(|segment| bias_of(m, segment)));
    if is_fixed { biases.find(|bias| *bias == 0) } else { biases.next() }
}

/// The ways to a mapped file.
#[derive(Debug)]
struct Source {
    procfs: ProcFs,
    pid: Pid,
    /// As `maps` names it: from our root where that is above the target's, else from the target's.
    path: Arc<Path>,
    is_exe: bool,
}

impl Source {
    /// Opens the file that these mappings are of.
    fn open(&self, mappings: &[Mapping]) -> Result<(ElfFile, Vec<Segment>, u64), ElfError> {
        let mut failure = ElfError::Io(io::ErrorKind::NotFound.into());
        let Some(first) = mappings.first() else { return Err(failure) };
        for (path, proof) in self.ways(first) {
            let opened = open_regular(&path, proof.then_some(first.inode));
            let fits = opened.and_then(|file| {
                let elf = ElfFile::open(file)?;
                let segments = elf.segments()?;
                let bias = bias_of_all(mappings, &segments, elf.is_fixed())
                    .ok_or(ElfError::Broken("it is not what is mapped"))?;
                Ok((elf, segments, bias))
            });
            match fits {
                Ok(fits) => return Ok(fits),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Where the file may be found, best first, and whether its inode must prove it.
    fn ways(&self, first: &Mapping) -> Vec<(PathBuf, bool)> {
        let link = |name: &str| self.procfs.path(self.pid, name);
        let inside = self.path.strip_prefix("/").unwrap_or(&self.path);
        let in_root = link("root").join(inside);
        let range = format!("map_files/{:x}-{:x}", first.start.0, first.end.0);
        let mut ways = vec![
            (in_root.clone(), true),
            // The mapping itself: right by construction, but for the privileged alone (proc(5)).
            (link(&range), false),
            (self.path.to_path_buf(), true),
        ];
        if self.is_exe {
            ways.push((link("exe"), false));
        }
        // Overlay file systems may tell `maps` another inode than `stat`. A path that still stands
        // is then all there is, with the check that the file could be what is mapped.
        if !first.deleted {
            ways.push((in_root, false));
        }
        ways
    }
}

/// Opens a regular file, and only that: opening a device or a FIFO can do things, or wait.
fn open_regular(path: &Path, inode: Option<u64>) -> Result<File, ElfError> {
    let is_it =
        |found: &fs::Metadata| found.is_file() && inode.is_none_or(|inode| found.ino() == inode);
    if !is_it(&fs::metadata(path)?) {
        return Err(ElfError::Broken("another file has its name now"));
    }
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if is_it(&file.metadata()?) {
        Ok(file)
    } else {
        Err(ElfError::Broken("another file has its name now"))
    }
}
