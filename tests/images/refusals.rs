//! What an image is not: another version's, and its objects of another kind.

use stallspy::python::code_objects::CodeCache;
use stallspy::python::frames::{Walker, local};
use stallspy::python::interpreters::interpreters;
use stallspy::python::locate::locate_at;
use stallspy::python::objects::Objects;
use stallspy::python::threads::threads;
use stallspy::target::{ImageMemory, RemoteMemoryExt};
use stallspy::units::Addr;

use crate::images::images;

#[test]
fn an_interpreter_that_says_another_version_is_refused() {
    for image in images() {
        let located = locate_at(&image.memory, image.known.runtime).unwrap();
        let python = located.view(&image.memory);
        let (objects, offsets) = (python.objects(), &located.layout.offsets);
        let interpreter = interpreters(&python).unwrap()[0];
        let sysdict = interpreter.at(offsets.interpreter.sysdict);
        let sysdict = image.memory.read_pointer(sysdict).unwrap();
        let version = objects.dict_get(sysdict, "hexversion").unwrap().unwrap();
        let mut memory = image.memory.clone();
        memory.insert(version.at(offsets.object.int_digits), &0x0307_00f0_u32.to_le_bytes());
        assert!(locate_at(&memory, image.known.runtime).is_err(), "{}", image.name);
    }
}

/// A name that goes on in memory that cannot be read is no name, rather than its beginning.
#[test]
fn a_type_whose_name_is_cut_off_has_none() {
    const KIND: Addr = Addr(0x1_0000);
    for image in images().iter().filter(|image| image.case() == "idle") {
        let layout = locate_at(&image.memory, image.known.runtime).unwrap().layout;
        let mut memory = ImageMemory::new();
        memory.insert(KIND, &[0; 1024]);
        let name_at = |memory: &mut ImageMemory, place: u64, text: &[u8]| {
            memory.insert(KIND.at(layout.offsets.object.tp_name), &place.to_le_bytes());
            memory.insert(Addr(place), text);
        };
        name_at(&mut memory, 0x2_0ffc, b"set\0");
        assert_eq!(Objects::new(&memory, &layout).name_of_type(KIND).as_deref(), Ok("set"));
        name_at(&mut memory, 0x3_0ffc, b"froz");
        assert!(Objects::new(&memory, &layout).name_of_type(KIND).is_err());
    }
}

/// Which readers take an object.
fn taken_as(objects: &Objects<'_>, object: Addr) -> Vec<&'static str> {
    let readers = [
        ("str", objects.str(object).is_ok()),
        ("bytes", objects.bytes(object, 100).is_ok()),
        ("int", objects.int(object).is_ok()),
        ("float", objects.float(object).is_ok()),
        ("tuple", objects.tuple_items(object, 100).is_ok()),
        ("list", objects.list_items(object, 100).is_ok()),
        ("set", objects.set_items(object, 100).is_ok()),
        ("deque", objects.deque_len(object).is_ok()),
        ("dict", objects.dict_items(object, 100).is_ok()),
        ("cell", objects.cell_contents(object).is_ok()),
    ];
    readers.into_iter().filter(|(_, ok)| *ok).map(|(kind, _)| kind).collect()
}

/// No object is read as what it is not: a stale address must not give a plausible value.
#[test]
fn objects_are_read_as_what_they_are_and_nothing_else() {
    for image in images().iter().filter(|image| image.case() == "request") {
        let located = locate_at(&image.memory, image.known.runtime).unwrap();
        let python = located.view(&image.memory);
        let thread = *threads(&python).unwrap().last().unwrap();
        let frame = Walker::default().walk(&python, &thread).unwrap().frames[1];
        let code = CodeCache::default().get(&python, frame.code, image.known.now).unwrap();
        assert_eq!(code.name, "query_stock");
        for (name, kind) in
            [("warehouse", "str"), ("limit", "int"), ("rows", "list"), ("share", "float")]
        {
            let object = local(&python, frame.addr, code.local_index(name).unwrap()).unwrap();
            assert_eq!(taken_as(&python.objects(), object), [kind], "{}: {name}", image.name);
        }
    }
}
