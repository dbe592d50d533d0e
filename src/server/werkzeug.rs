//! Flask's development server, which is werkzeug's: `flask run`, `app.run()`, under its reloader or
//! not. <https://github.com/pallets/werkzeug/blob/3.0.0/src/werkzeug/_reloader.py>

use super::{Facts, Probe, Recognised, under_reloader};
use crate::model::{Role, WorkerClass};

const SERVING: &str = "/werkzeug/serving.py";
const RELOADER: &str = "/werkzeug/_reloader.py";

/// The probe for werkzeug's development server.
#[derive(Debug, Clone, Copy)]
pub struct Werkzeug;

impl Probe for Werkzeug {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        let is_serving = || {
            let functions = ["run_simple", "serve_forever"];
            functions.iter().any(|function| facts.frame(SERVING, function).is_some())
        };
        let role = under_reloader(facts, RELOADER, "run_with_reloader")
            .or_else(|| is_serving().then_some(Role::Single))?;
        let version = facts.version("werkzeug");
        let found = Recognised::new("werkzeug", version, role, WorkerClass::ThreadPerRequest);
        Some(found.for_development())
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
            Some(found.topology.role)
        };
        let root = ["werkzeug/_reloader.py:run_with_reloader", "werkzeug/serving.py:run_simple"];
        let parent = [&["werkzeug/_reloader.py:restart_with_reloader"], &root[..]].concat();
        assert_eq!(ask(&parent), Some(Role::Master));
        assert_eq!(ask(&root), Some(Role::Worker));
        let plain = ["socketserver.py:serve_forever", "werkzeug/serving.py:serve_forever"];
        assert_eq!(ask(&plain), Some(Role::Single));
        assert_eq!(ask(&["werkzeug/wsgi.py:get_input_stream"]), None);
    }
}
