//! Reads objects of running interpreters (see `common/interpreters.rs`) and compares them with what
//! these say they are.

// A test that panics has failed, which is what it is for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(clippy::disallowed_methods, unreachable_pub)]

#[path = "common/interpreters.rs"]
mod interpreters;

use std::collections::BTreeMap;
use std::path::Path;

use interpreters::{Python, interpreters};
use serde::Deserialize;
use serde_json::{Value, json};
use stallspy::layout::{self, DEBUG_OFFSETS_LEN, Layout};
use stallspy::python::objects::{Objects, ReprLimits};
use stallspy::target::live::LiveMemory;
use stallspy::target::{RemoteMemory, RemoteMemoryExt};
use stallspy::units::{Addr, Pid};

#[derive(Deserialize)]
struct Told {
    hexversion: u32,
    runtime: u64,
    sysdict: u64,
    modules: u64,
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    kind: String,
    addr: u64,
    value: Value,
    #[serde(rename = "type")]
    type_name: String,
    #[serde(default)]
    key: String,
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/targets/objects.py");
const LIMIT: usize = 100_000;

#[test]
fn every_object_reads_as_what_it_is() {
    for python in interpreters() {
        let script = python.start(Path::new(SCRIPT));
        let told: Told = serde_json::from_str(&script.line).expect("the script tells");
        let memory = LiveMemory::new(Pid(script.pid()));
        let layout = layout_of(&python, &memory, Addr(told.runtime));
        check_interpreter(&python, &memory, &layout, &told);
        let before = memory.counts();
        let mut wrong = Vec::new();
        for object in &told.objects {
            // A new one each time: nothing may depend on what was read before.
            let objects = Objects::new(&memory, &layout);
            let read = read(&objects, object);
            if read != object.value {
                let (read, said) = (read.to_string(), object.value.to_string());
                wrong.push(format!(
                    "{} {} {}: {read:.80} instead of {said:.80}",
                    object.kind, object.type_name, object.key
                ));
            }
            let name = objects.type_name(Addr(object.addr)).unwrap();
            assert_eq!(name.rsplit('.').next(), Some(object.type_name.as_str()));
        }
        assert!(wrong.is_empty(), "Python {}:\n{}", python.version, wrong.join("\n"));
        let counts = memory.counts();
        let (reads, failed) = (counts.reads - before.reads, counts.failed - before.failed);
        eprintln!(
            "Python {}: {} objects, {reads} spans read, {failed} of them not mapped",
            python.version,
            told.objects.len()
        );
    }
}

fn layout_of(python: &Python, memory: &dyn RemoteMemory, runtime: Addr) -> Layout {
    if python.minor() < 13 {
        let known = |layout: &&&Layout| layout.version == (3, python.minor());
        return **layout::tables().iter().find(known).expect("a version we know");
    }
    let words = memory.read_vec(runtime, DEBUG_OFFSETS_LEN).unwrap();
    let (layout, version) = layout::from_debug_offsets(&words).unwrap();
    assert!(version.starts_with(&python.version), "{version}");
    layout
}

/// The way from `_PyRuntime` to `sys.hexversion`, which proves a layout.
fn check_interpreter(python: &Python, memory: &dyn RemoteMemory, layout: &Layout, told: &Told) {
    let offsets = &layout.offsets;
    let at = |addr: Addr, offset| memory.read_pointer(addr.at(offset)).unwrap();
    let interpreter = at(Addr(told.runtime), offsets.runtime.interpreters_head);
    assert_eq!(at(interpreter, offsets.interpreter.sysdict), Addr(told.sysdict));
    assert_eq!(at(interpreter, offsets.interpreter.modules), Addr(told.modules));
    assert_eq!(at(interpreter, offsets.interpreter.next), Addr(0));
    let thread = at(interpreter, offsets.interpreter.threads_head);
    assert_eq!(at(thread, offsets.thread.interp), interpreter);
    assert_eq!(at(thread, offsets.thread.next), Addr(0));

    let objects = Objects::new(memory, layout);
    let hexversion = objects.dict_get(Addr(told.sysdict), "hexversion").unwrap().unwrap();
    assert_eq!(objects.int(hexversion), Ok(told.hexversion.into()));
    assert!(layout::version_name(told.hexversion).starts_with(&python.version));
    assert!(objects.dict_get(Addr(told.modules), "ctypes").unwrap().is_some());
}

fn addresses(items: &[Addr]) -> Value {
    items.iter().map(|item| item.0).collect()
}

fn optional(addr: Option<Addr>) -> Value {
    addr.map_or(Value::Null, |addr| addr.0.into())
}

fn read(objects: &Objects<'_>, object: &Object) -> Value {
    let addr = Addr(object.addr);
    let key = object.key.as_str();
    match object.kind.as_str() {
        "str" => objects.str(addr).unwrap().into(),
        "int" => objects.int(addr).ok().into(),
        "float" => objects.float(addr).unwrap().into(),
        "bytes" => objects.bytes(addr, LIMIT).unwrap().into(),
        "tuple" => addresses(&objects.tuple_items(addr, LIMIT).unwrap()),
        "list" => addresses(&objects.list_items(addr, LIMIT).unwrap()),
        "deque" => {
            let items = objects.deque_items(addr, LIMIT).unwrap();
            assert_eq!(objects.deque_len(addr), Ok(items.len()));
            addresses(&items)
        }
        "dict" => {
            let items = objects.dict_items(addr, LIMIT).unwrap();
            items.iter().map(|(key, value)| json!([key.0, value.0])).collect()
        }
        "set" => {
            let mut items = objects.set_items(addr, LIMIT).unwrap();
            items.sort_unstable();
            addresses(&items)
        }
        "get" => optional(objects.dict_get(addr, key).unwrap()),
        "attributes" => {
            let attributes = objects.attributes(addr, LIMIT).unwrap();
            for (name, value) in &attributes {
                assert_eq!(objects.attribute(addr, name), Ok(Some(*value)), "{name}");
            }
            let named: BTreeMap<_, _> =
                attributes.into_iter().map(|(name, value)| (name, value.0)).collect();
            json!(named)
        }
        "attribute" => optional(objects.attribute(addr, key).unwrap()),
        "cell" => objects.cell_contents(addr).unwrap().0.into(),
        "repr" => objects.repr(addr, ReprLimits::default()).unwrap().into(),
        other => panic!("{other}"),
    }
}
