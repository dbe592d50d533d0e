//! Connections of a worker of gunicorn's gthread: how many it has accepted, and how many it accepts.
//!
//! `nr_conns` and `worker_connections` of the `ThreadWorker`
//! (<https://github.com/benoitc/gunicorn/blob/23.0.0/gunicorn/workers/gthread.py#L72>; the same from 19
//! to 27). Its threads are a pool of their own, [`super::executor`]; who is not accepted waits before
//! the listening socket.

use super::{Family, Ground, Pool, plausible};
use crate::model::{PoolKind, PoolReading};
use crate::python::Interpreter;
use crate::python::objects::Objects;
use crate::target::{ReadError, unless_over};
use crate::units::Addr;

/// The worker's class. A class derived from it has another name, and is found by its bases.
const CLASS: &str = "ThreadWorker";

/// The family.
#[derive(Debug)]
pub(super) struct GthreadConnections;

#[derive(Debug)]
struct Connections {
    worker: Addr,
    limit: Option<u32>,
}

impl Family for GthreadConnections {
    fn find(&mut self, ground: &mut Ground<'_>) -> Result<Vec<Box<dyn Pool>>, ReadError> {
        let Some(worker) = ground.worker else { return Ok(Vec::new()) };
        let objects = ground.python.objects();
        let classes = unless_over(objects.class_names(worker))?.unwrap_or_default();
        if !classes.iter().any(|name| name == CLASS) {
            return Ok(Vec::new());
        }
        let limit = unless_over(number(&objects, worker, "worker_connections"))?.flatten();
        Ok(vec![Box::new(Connections { worker, limit })])
    }
}

fn number(objects: &Objects<'_>, object: Addr, name: &str) -> Result<Option<u32>, ReadError> {
    let value = objects.attribute(object, name)?.map(|value| objects.int(value)).transpose()?;
    Ok(value.and_then(|value| plausible(usize::try_from(value).ok()?)))
}

impl Pool for Connections {
    fn kind(&self) -> PoolKind {
        PoolKind::GthreadConnections
    }

    fn name(&self) -> &'static str {
        ""
    }

    fn object(&self) -> Addr {
        self.worker
    }

    fn look(&self, python: &Interpreter<'_>) -> Result<Option<PoolReading>, ReadError> {
        let busy = unless_over(number(&python.objects(), self.worker, "nr_conns"))?.flatten();
        Ok(busy.map(|busy| PoolReading { limit: self.limit, busy: Some(busy), waiting: None }))
    }
}
