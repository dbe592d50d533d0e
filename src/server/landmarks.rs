//! What a function is to those who look for requests in stacks, found out once for each.
//!
//! It is asked of every frame of every stack, and to compare the names of files and variables takes longer
//! than to read the frame. Reads nothing of the target.

use super::request_places::Mark;
use super::{asgi, request_objects, twisted_web, wsgi};
use crate::python::Interpreter;
use crate::python::code_objects::CodeObject;
use crate::python::frames::RawFrame;
use crate::target::ReadError;

/// One way to tell which request a stack serves.
#[derive(Debug)]
pub(super) struct Reader {
    /// Whether a function has a variable that tells it.
    pub(super) is_carrier: fn(&CodeObject) -> bool,
    /// `GET /path` by that variable in a frame of such a function; `None` if it holds no request.
    pub(super) tell:
        fn(&Interpreter<'_>, &RawFrame, &CodeObject) -> Result<Option<String>, ReadError>,
}

/// All of them, the most telling first.
pub(super) const READERS: [&Reader; 4] =
    [&asgi::READER, &wsgi::READER, &twisted_web::READER, &request_objects::READER];

/// What a function is.
#[derive(Debug)]
pub(super) struct Landmarks {
    /// To each of [`READERS`], whether it is a carrier.
    pub(super) carries: [bool; READERS.len()],
    /// To who looks for threads that serve requests.
    pub(super) mark: Mark,
}

impl Landmarks {
    /// Those of a function; `None` never, but for a mistake.
    pub(super) fn of(code: &CodeObject) -> Option<&Landmarks> {
        code.known_as(|code| Landmarks {
            carries: READERS.map(|reader| (reader.is_carrier)(code)),
            mark: Mark::of(code),
        })
    }
}
