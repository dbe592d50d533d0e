//! Callables: the code that calling one runs.
//!
//! Takes a function, a bound method or a `functools.partial`, gives the address of a code object. Where a
//! function keeps its code changed with 3.10; as nothing else at either place is a code object, both are
//! looked at.

use super::Interpreter;
use crate::target::{ReadError, RemoteMemoryExt};
use crate::units::Addr;

/// Where `func_code` lies: right behind the header to 3.9, behind four more words from 3.10 on
/// (Include/funcobject.h, v3.9.18; Include/cpython/funcobject.h, v3.12.1).
const CODE: [u64; 2] = [16, 48];
/// Where a bound method keeps its function, `im_func`, and a `functools.partial` what it calls, `fn`: right
/// behind the header (Include/cpython/classobject.h, Modules/_functoolsmodule.c; the same 3.8 to 3.15).
const CALLS: u64 = 16;
/// Where a bound method keeps its object, `im_self`.
const SELF: u64 = 24;
/// Most callables followed from one to the next it calls.
const MAX_LINKS: usize = 8;

/// What a callable runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Callee {
    /// The code object.
    pub code: Addr,
    /// The object whose method it is.
    pub object: Option<Addr>,
}

/// What calling the object at `callable` runs; `None` for one written in C, or of another class.
///
/// # Errors
/// When no object is there.
pub fn callee(python: &Interpreter<'_>, callable: Addr) -> Result<Option<Callee>, ReadError> {
    let objects = python.objects();
    let (mut next, mut object) = (callable, None);
    for _ in 0..MAX_LINKS {
        match objects.type_name(next)?.as_str() {
            "function" => {
                let places = CODE.map(|at| python.memory.read_pointer(next.at(at)));
                let mut codes = places.into_iter().flatten();
                let is_code =
                    |code: &Addr| objects.type_name(*code).is_ok_and(|name| name == "code");
                return Ok(codes.find(is_code).map(|code| Callee { code, object }));
            }
            "method" => {
                object = Some(python.memory.read_pointer(next.at(SELF))?);
                next = python.memory.read_pointer(next.at(CALLS))?;
            }
            "functools.partial" => next = python.memory.read_pointer(next.at(CALLS))?,
            _ => return Ok(None),
        }
    }
    Ok(None)
}
