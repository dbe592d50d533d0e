//! What lives in a process, as JSON.

use serde::Serialize;

use crate::model::Resident;
use crate::units::Nanos;

/// One thing that lives in a process, or several of a kind at the same place.
#[derive(Serialize)]
pub(super) struct ResidentOut<'a> {
    kind: &'static str,
    name: &'a str,
    count: u32,
    /// How long it sleeps each time; `null` is not known.
    period_ns: Option<Nanos>,
    file: Option<&'a str>,
    line: Option<u32>,
    function: Option<&'a str>,
}

pub(super) fn new(resident: &Resident) -> ResidentOut<'_> {
    let place = resident.place.as_ref();
    ResidentOut {
        kind: resident.kind.name(),
        name: &resident.name,
        count: resident.count,
        period_ns: resident.period,
        file: place.map(|place| place.file.as_str()),
        line: place.and_then(|place| place.line),
        function: place.map(|place| place.function.as_str()),
    }
}
