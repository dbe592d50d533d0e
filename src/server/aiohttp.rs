//! aiohttp's own programs: `web.run_app()`.
//! <https://github.com/aio-libs/aiohttp/blob/v3.9.0/aiohttp/web.py>

use super::{Facts, Probe, Recognised};
use crate::model::{Role, WorkerClass};

/// The probe for aiohttp.
#[derive(Debug, Clone, Copy)]
pub struct Aiohttp;

impl Probe for Aiohttp {
    fn recognise(&self, facts: &Facts<'_>) -> Option<Recognised> {
        // A program with a loop of its own that serves by `AppRunner` shows these while it serves.
        let serves = facts.has_file("/aiohttp/web_protocol.py");
        if facts.frame("/aiohttp/web.py", "run_app").is_none() && !serves {
            return None;
        }
        let version = facts.version("aiohttp");
        Some(Recognised::new("aiohttp", version, Role::Single, WorkerClass::Asyncio))
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::with;
    use super::*;

    #[test]
    fn a_server_is_told_from_a_client() {
        let ask = |stack: &[&str]| {
            with("python x.py", "", stack, |facts| Aiohttp.recognise(facts)).is_some()
        };
        assert!(ask(&["aiohttp/web.py:run_app"]));
        assert!(ask(&["../../x.py:hello", "aiohttp/web_protocol.py:_handle_request"]));
        assert!(!ask(&["aiohttp/client.py:_request"]));
        assert!(!ask(&["aiohttp/web_protocol.py:<module>", "aiohttp/web.py:<module>"]), "imported");
    }
}
