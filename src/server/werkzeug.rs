//! Flask's development server, which is werkzeug's: `flask run`, `app.run()`, under its reloader or
//! not. <https://github.com/pallets/werkzeug/blob/3.0.0/src/werkzeug/_reloader.py>

use super::{Facts, Probe, Recognised, under_reloader};
use crate::model::{Role, WorkerClass};

const SERVING: &str = "/werkzeug/serving.py";
const RELOADER: &str = "/werkzeug/_reloader.py";
/// What a reloader's child does: it watches files, from before it serves
/// (<https://github.com/pallets/werkzeug/blob/3.0.0/src/werkzeug/_reloader.py#L239>); before 2.0 without
/// the first.
const WATCHES: [&str; 2] = ["__enter__", "run"];

/// The probe for werkzeug's development server.
#[derive(Debug, Clone, Copy)]
pub struct Werkzeug;

impl Probe for Werkzeug {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        // Both the reloader and its child begin in this function.
        let begins = facts.frame(RELOADER, "run_with_reloader").is_some();
        let under_reloader =
            WATCHES.iter().find_map(|function| under_reloader(facts, RELOADER, function));
        let is_serving = facts.frame(SERVING, "serve_forever").is_some();
        if !begins && !is_serving && facts.frame(SERVING, "run_simple").is_none() {
            return None;
        }
        let role = under_reloader.unwrap_or(Role::Single);
        let version = facts.version("werkzeug");
        let found = Recognised::new("werkzeug", version, role, WorkerClass::ThreadPerRequest);
        let found = found.for_development();
        // Until it serves, a reloader may begin.
        let is_certain = under_reloader.is_some() || (is_serving && !begins);
        Some(if is_certain { found } else { found.unsettled() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    #[test]
    fn the_reloader_its_child_and_neither() {
        let ask = |stack: &[&str]| {
            let found = with("flask run", "", stack, |facts| Werkzeug.recognise(facts))?;
            assert!(found.topology.development);
            Some((found.topology.role, found.is_settled))
        };
        let root = ["werkzeug/_reloader.py:run_with_reloader", "werkzeug/serving.py:run_simple"];
        let parent = [&["werkzeug/_reloader.py:restart_with_reloader"], &root[..]].concat();
        assert_eq!(ask(&parent), Some((Role::Master, true)));
        assert_eq!(ask(&root), Some((Role::Single, false)), "either of the two");
        for watching in ["werkzeug/_reloader.py:__enter__", "werkzeug/_reloader.py:run"] {
            let child = [&["werkzeug/_reloader.py:run_step", watching], &root[..]].concat();
            assert_eq!(ask(&child), Some((Role::Worker, true)));
        }
        let plain = ["socketserver.py:serve_forever", "werkzeug/serving.py:serve_forever"];
        assert_eq!(ask(&plain), Some((Role::Single, true)));
        let starting = ["werkzeug/serving.py:run_simple"];
        assert_eq!(ask(&starting), Some((Role::Single, false)), "a reloader may begin");
        assert_eq!(ask(&["werkzeug/wsgi.py:get_input_stream"]), None);
    }
}
