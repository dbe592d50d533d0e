//! One process's code: which file is mapped where, and where its stacks end.
//!
//! Takes the modules that were found, gives rules and names for addresses. Maps are read again when
//! an address leads outside all that is known (a library loaded later, a new thread's stack), but
//! not more than once a second.

use std::rc::Rc;

use super::binaries::Binaries;
use super::binary::Binary;
use super::call_site::{CALL, ends_in_call};
use super::registers::Registers;
use super::role::Role;
use super::rules::Rule;
use super::unwind::{Code, CodeAddr, StackBytes, Trace, unwind};
use crate::target::{Mapping, Module, Modules, ProcFs, RemoteMemory, RemoteMemoryExt, elf};
use crate::units::{Addr, Nanos, Pid, Timestamp};

/// How often maps are read again at most. A process with thousands of mappings costs some ms.
const RELOAD: Nanos = Nanos::from_secs(1);
/// And how often if that was in vain: code made at run time lies in no file, ever.
const IN_VAIN: Nanos = Nanos::from_secs(60);
/// Largest code of the kernel's own taken; it has 8 KiB (arch/x86/entry/vdso).
const VDSO: u64 = 64 << 10;

/// A process's code.
#[derive(Debug)]
pub struct AddressSpace {
    pid: Pid,
    /// Somewhere in the interpreter's data.
    runtime: Addr,
    modules: Modules,
    /// As many as modules.
    binaries: Vec<Option<Option<Rc<Binary>>>>,
    vdso: Option<Vdso>,
    stacks: Vec<Mapping>,
    loaded: Option<Timestamp>,
    /// When modules were last read again though it taught nothing.
    in_vain: Option<Timestamp>,
}

/// The code that the kernel maps into every process (vdso(7)).
#[derive(Debug)]
struct Vdso {
    at: Mapping,
    binary: Option<Rc<Binary>>,
}

/// A C frame that has been looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeFrame {
    /// The function's name, else the module's and how far into it the function begins:
    /// `libpq.so.5+0x1f2a0`.
    pub function: String,
    /// The file, as the target sees it; `None` for code that lies in none.
    pub module: Option<String>,
    /// What part it has in running Python.
    pub role: Role,
}

impl AddressSpace {
    /// The code of `pid`, of which `modules` were just found and `runtime` is where the
    /// interpreter keeps its state.
    #[must_use]
    pub fn new(pid: Pid, modules: Modules, runtime: Addr) -> AddressSpace {
        let mut space = AddressSpace {
            pid,
            runtime,
            modules: Modules::default(),
            binaries: Vec::new(),
            vdso: None,
            stacks: Vec::new(),
            loaded: None,
            in_vain: None,
        };
        space.take(modules);
        space
    }

    /// Reads the tables of the files that every stack leads into: the interpreter's, the C library's.
    pub fn warm(&mut self, binaries: &mut Binaries) {
        for (module, slot) in self.modules.iter().zip(&mut self.binaries) {
            let file = module.path.rsplit('/').next().unwrap_or_default();
            let is_libc = ["libc.", "libc-", "ld-musl"].iter().any(|name| file.starts_with(name));
            if is_libc || holds(module, self.runtime) {
                let binary = slot.get_or_insert_with(|| binaries.get(module));
                binary.iter().for_each(|binary| binary.warm());
            }
        }
    }

    /// The programs and libraries mapped, as last read.
    #[must_use]
    pub fn modules(&self) -> &Modules {
        &self.modules
    }

    /// Takes its maps as they are now, and reads the modules if others are mapped than last time. Costs
    /// some ms where they are, so not to be done often.
    pub fn update(&mut self, procfs: &ProcFs, maps: Vec<Mapping>, now: Timestamp) {
        let is_new = |mapping: &Mapping| {
            mapping.is_file()
                && mapping.perms.execute
                && self.modules.containing(mapping.start).is_none()
        };
        if !maps.iter().any(is_new) {
            return;
        }
        self.loaded = Some(now);
        if let Ok(modules) = Modules::load(procfs, self.pid) {
            self.note(maps);
            self.take(modules);
        }
    }

    fn take(&mut self, modules: Modules) {
        self.binaries = modules.iter().map(|_| None).collect();
        self.modules = modules;
    }

    /// The end of the mapping that `sp` lies in. Reads maps again where it lies in none.
    #[must_use]
    pub fn stack_end(&mut self, procfs: &ProcFs, sp: Addr, now: Timestamp) -> Option<Addr> {
        let find = |stacks: &[Mapping]| {
            stacks.iter().find(|mapping| mapping.contains(sp)).map(|mapping| mapping.end)
        };
        if let Some(end) = find(&self.stacks) {
            return Some(end);
        }
        if !self.may_reload(now) {
            return None;
        }
        let maps = procfs.maps(self.pid).ok()?;
        self.loaded = Some(now);
        self.note(maps);
        find(&self.stacks)
    }

    /// Notes that the stack at `sp` ends before its mapping does: behind `end` lies another.
    pub fn ends_at(&mut self, sp: Addr, end: Addr) {
        let Some(at) = self.stacks.iter().position(|mapping| mapping.contains(sp)) else { return };
        let Some(whole) = self.stacks.get_mut(at) else { return };
        if end <= sp || end >= whole.end {
            return;
        }
        let behind = Mapping { start: end, ..whole.clone() };
        whole.end = end;
        self.stacks.insert(at.saturating_add(1), behind);
    }

    /// Forgets where stacks end, to find it out again.
    pub fn forget_stacks(&mut self, now: Timestamp) {
        if self.may_reload(now) {
            self.stacks.clear();
        }
    }

    /// Reads the modules again if any of these addresses lies in none. True if that was done: then
    /// a trace may lead further than before.
    pub fn learn(&mut self, procfs: &ProcFs, frames: &[CodeAddr], now: Timestamp) -> bool {
        let knows = |space: &AddressSpace| {
            let mut addresses = frames.iter().map(|frame| frame.lookup());
            addresses.all(|addr| space.modules.containing(addr).is_some() || space.is_vdso(addr))
        };
        let is_vain = self.in_vain.is_some_and(|at| now.since(at) < IN_VAIN);
        if knows(self) || is_vain || !self.may_reload(now) {
            return false;
        }
        self.loaded = Some(now);
        let (Ok(maps), Ok(modules)) = (procfs.maps(self.pid), Modules::load(procfs, self.pid))
        else {
            return false;
        };
        self.note(maps);
        self.take(modules);
        let has_learnt = knows(self);
        self.in_vain = (!has_learnt).then_some(now);
        has_learnt
    }

    fn may_reload(&self, now: Timestamp) -> bool {
        self.loaded.is_none_or(|loaded| now.since(loaded) >= RELOAD)
    }

    fn note(&mut self, maps: Vec<Mapping>) {
        let is_vdso = |mapping: &Mapping| {
            mapping.path.as_deref().is_some_and(|path| path.as_os_str() == "[vdso]")
        };
        let vdso = maps.iter().find(|mapping| is_vdso(mapping) && mapping.size() <= VDSO);
        if self.vdso.as_ref().map(|known| &known.at) != vdso {
            self.vdso = vdso.map(|at| Vdso { at: at.clone(), binary: None });
        }
        self.stacks = maps;
        self.stacks.retain(|mapping| mapping.perms.write && !mapping.is_file());
    }

    fn is_vdso(&self, addr: Addr) -> bool {
        self.vdso.as_ref().is_some_and(|vdso| vdso.at.contains(addr))
    }

    /// Unwinds a stack of this process, of whatever origin, as far as its code is known or can be
    /// learnt now.
    pub fn walk(
        &mut self,
        registers: Registers,
        stack: &StackBytes<'_>,
        procfs: &ProcFs,
        memory: &dyn RemoteMemory,
        binaries: &mut Binaries,
        now: Timestamp,
    ) -> Trace {
        let trace = unwind(registers, stack, &mut self.code(binaries, memory));
        if self.learn(procfs, &trace.frames, now) {
            return unwind(registers, stack, &mut self.code(binaries, memory));
        }
        trace
    }

    /// Rules and calls, read through `memory` where they are in no file.
    pub fn code<'a>(
        &'a mut self,
        binaries: &'a mut Binaries,
        memory: &'a dyn RemoteMemory,
    ) -> impl Code + 'a {
        View { space: self, binaries, memory }
    }

    /// Looks a frame up.
    pub fn frame(&mut self, binaries: &mut Binaries, frame: CodeAddr) -> NativeFrame {
        let addr = frame.lookup();
        if let Some(vdso) = self.vdso.as_ref().filter(|vdso| vdso.at.contains(addr)) {
            let address = addr.0.saturating_sub(vdso.at.start.0);
            let named = vdso.binary.as_ref().and_then(|binary| binary.name(address));
            let function = match named {
                Some(named) => named.as_ref().clone(),
                None => format!("[vdso]+{address:#x}"),
            };
            return NativeFrame {
                function,
                module: Some("[vdso]".to_owned()),
                role: Role::Foreign,
            };
        }
        let runtime = self.runtime;
        let Some((binary, module, address)) = self.place(binaries, addr) else {
            let function = format!("{addr}");
            return NativeFrame { function, module: None, role: Role::Foreign };
        };
        let named = binary.as_ref().and_then(|binary| binary.name(address));
        let name = named.as_ref().map(|named| named.as_str());
        let role = Role::of(name, holds(module, runtime));
        let function = match name {
            Some(name) => name.to_owned(),
            None => {
                let file = module.path.rsplit('/').next().unwrap_or_default();
                // One name for all places of a function.
                let start = binary.and_then(|binary| binary.function_start(address));
                let offset = start.unwrap_or(address);
                format!("{file}+{offset:#x}")
            }
        };
        NativeFrame { function, module: Some(module.path.clone()), role }
    }

    /// The file that `addr` lies in, if it can be read, its module, and the address in it.
    pub fn place(
        &mut self,
        binaries: &mut Binaries,
        addr: Addr,
    ) -> Option<(Option<Rc<Binary>>, &Module, u64)> {
        let index = self.modules.iter().position(|module| module.contains(addr))?;
        let module = self.modules.iter().nth(index)?;
        let slot = self.binaries.get_mut(index)?;
        let binary = slot.get_or_insert_with(|| binaries.get(module)).clone();
        Some((binary, module, addr.0.wrapping_sub(module.bias)))
    }
}

/// Whether the module's data holds `addr`.
fn holds(module: &Module, addr: Addr) -> bool {
    let mut data = module.writable_segments().into_iter();
    data.any(|(start, size)| addr.0.checked_sub(start.0).is_some_and(|offset| offset < size))
}

struct View<'a> {
    space: &'a mut AddressSpace,
    binaries: &'a mut Binaries,
    memory: &'a dyn RemoteMemory,
}

impl Code for View<'_> {
    fn rule(&mut self, addr: Addr) -> Option<Rc<Rule>> {
        if let Some(vdso) = self.space.vdso.as_mut().filter(|vdso| vdso.at.contains(addr)) {
            let start = vdso.at.start;
            if vdso.binary.is_none() {
                let size = usize::try_from(vdso.at.size()).ok()?;
                let elf = elf::in_memory(self.memory.read_vec(start, size).ok()?).ok()?;
                vdso.binary = Some(Rc::new(Binary::new(elf, None)));
            }
            return vdso.binary.as_ref()?.rule(addr.0.checked_sub(start.0)?);
        }
        let (binary, _, address) = self.space.place(self.binaries, addr)?;
        binary?.rule(address)
    }

    fn follows_call(&mut self, addr: Addr) -> bool {
        let Some(module) = self.space.modules.containing(addr) else { return false };
        let is_code = |mapping: &Mapping| mapping.perms.execute && mapping.contains(addr);
        if !module.mappings.iter().any(is_code) {
            return false;
        }
        let mut bytes = [0; CALL];
        let before = Addr(addr.0.wrapping_sub(CALL as u64));
        self.memory.read(before, &mut bytes).is_ok() && ends_in_call(bytes)
    }
}
