//! The memory images in `fixtures/images`, and what is known of each beside its memory.

#![allow(dead_code)] // each test uses a part

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stallspy::target::ImageMemory;
use stallspy::units::{Addr, Timestamp};

use crate::survey::Known;

/// Where they are.
pub const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/images");
/// The memory.
const MEMORY: &str = "memory.image";
/// The rest.
const FACTS: &str = "facts.json";

/// The rest, as a file.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    runtime: u64,
    taken_at_ns: u64,
    tids: Vec<i32>,
}

/// One image.
#[derive(Debug)]
pub struct Image {
    /// `3.12.1-asyncio-request`.
    pub name: String,
    pub memory: ImageMemory,
    pub known: Known,
}

impl Image {
    /// What the program was doing: the last word of the name.
    pub fn case(&self) -> &str {
        self.name.rsplit('-').next().unwrap_or_default()
    }

    /// `3.12` of `3.12.1-asyncio-request`.
    pub fn minor(&self) -> &str {
        let version = self.name.split('-').next().unwrap_or_default();
        version.rsplit_once('.').map_or(version, |(minor, _)| minor)
    }

    fn load(directory: &Path) -> Image {
        let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
        let facts = std::fs::read_to_string(directory.join(FACTS)).unwrap();
        let facts: Facts = serde_json::from_str(&facts).unwrap();
        Image {
            name,
            memory: ImageMemory::load(&directory.join(MEMORY)).unwrap(),
            known: Known {
                runtime: Addr(facts.runtime),
                now: Timestamp(facts.taken_at_ns),
                tids: facts.tids,
            },
        }
    }

    /// Writes it to where it is found again.
    pub fn save(&self) {
        let directory = Path::new(DIRECTORY).join(&self.name);
        std::fs::create_dir_all(&directory).unwrap();
        self.memory.save(&directory.join(MEMORY)).unwrap();
        let facts = Facts {
            runtime: self.known.runtime.0,
            taken_at_ns: self.known.now.0,
            tids: self.known.tids.clone(),
        };
        let text = serde_json::to_string(&facts).unwrap() + "\n";
        std::fs::write(directory.join(FACTS), text).unwrap();
    }
}

/// All of them, in the order of their names.
pub fn images() -> Vec<Image> {
    let entries = std::fs::read_dir(DIRECTORY).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.is_dir());
    found.sort();
    found.iter().map(|path| Image::load(path)).collect()
}
