//! What to change at a line that blocks a hub of greenlets.
//!
//! Knows what gevent and eventlet can make cooperative and what they cannot. Takes a blamed line's
//! client and module as `remedy.rs` does, and what was patched; gives the sentence to put there:
//! asyncio's would be no help. Never decides whether to recommend.

use crate::model::{LoopKind, Patches};

/// What to say of one library's hub.
#[derive(Debug, PartialEq, Eq)]
pub struct Hub {
    /// Clients that wait in C code, which monkey-patching as such cannot reach, and what helps.
    in_c: &'static [(&'static str, &'static str)],
    /// Off the hub: its own thread pool.
    pub thread: &'static str,
    /// For calls of modules in Python.
    patch: &'static str,
    /// For Python code that computes.
    pub for_cpu: &'static str,
}

/// gevent's.
const GEVENT: Hub = Hub {
    in_c: &[
        ("psycopg2", PSYCOPG2),
        // What waits in there is psycopg2's: psycopg 3 waits in Python.
        ("libpq", PSYCOPG2),
        ("MySQLdb", "use PyMySQL, which `monkey.patch_all()` makes cooperative"),
        ("grpc", "begin with `grpc.experimental.gevent.init_gevent()`"),
    ],
    thread: "`gevent.get_hub().threadpool.apply(…)`",
    patch: "call `gevent.monkey.patch_all()` before anything else is imported",
    for_cpu: "run it in another process, or in workers of their own (gunicorn's `gthread`); or split \
        it with `gevent.sleep(0)` between the parts",
};
const PSYCOPG2: &str = "make psycopg2 wait for the hub: `psycogreen.gevent.patch_psycopg()`";

/// eventlet's. `monkey_patch()` makes psycopg2 wait for the hub, too (`eventlet/patcher.py`, v0.36.1).
const EVENTLET: Hub = Hub {
    in_c: &[
        ("psycopg2", EVENTLET_PSYCOPG2),
        ("libpq", EVENTLET_PSYCOPG2),
        ("MySQLdb", "use PyMySQL, which `eventlet.monkey_patch()` makes cooperative"),
    ],
    thread: "`eventlet.tpool.execute(…)`",
    patch: "call `eventlet.monkey_patch()` before anything else is imported",
    for_cpu: "run it in another process, or in workers of their own (gunicorn's `gthread`); or split \
        it with `eventlet.sleep(0)` between the parts",
};
const EVENTLET_PSYCOPG2: &str =
    "make psycopg2 wait for the hub: `eventlet.monkey_patch(psycopg=True)`";

/// Where neither a patch nor the thread pool is wanted.
pub const OTHER_WORKERS: &str = "workers of their own (gunicorn's `gthread`)";

/// For C code that computes and holds the interpreter lock.
pub const FOR_HOLDING: &str = "run it in another process, or in workers of their own";

impl Hub {
    /// The hub that a loop of this kind is, if it is one.
    #[must_use]
    pub fn of(kind: LoopKind) -> Option<&'static Hub> {
        match kind {
            LoopKind::Gevent => Some(&GEVENT),
            LoopKind::Eventlet => Some(&EVENTLET),
            _ => None,
        }
    }

    /// Whether a frame's file or its C module's is of a client that waits in C code; what to do then.
    #[must_use]
    pub fn for_client<'a>(&self, paths: impl Iterator<Item = &'a str>) -> Option<&'static str> {
        let mut steps = paths.flat_map(|path| path.split('/'));
        steps.find_map(|step| {
            let step = step.strip_prefix('_').unwrap_or(step);
            let name = step.split(['.', '-']).next().unwrap_or(step);
            self.in_c.iter().find(|(client, _)| name == *client).map(|(_, advice)| *advice)
        })
    }

    /// For a call that waits: `client` is what helps with a client in C, `module` the one of the standard
    /// library whose call it is, `patches` what the process had patched. Each `None` where it is not known.
    #[must_use]
    pub fn for_call(
        &self,
        client: Option<&str>,
        module: Option<&str>,
        patches: Option<&Patches>,
    ) -> String {
        let Hub { thread, patch, .. } = self;
        match (client, module, patches) {
            (Some(advice), ..) => format!("{advice}; or {thread}"),
            (_, _, None) => format!("{patch}; if it waits in C code, {thread}"),
            (_, _, Some(patches)) if patches.modules.is_empty() => {
                format!("nothing is patched: {patch}; if it waits in C code, {thread}")
            }
            (_, Some(module), Some(patches)) if !patches.has(module) => {
                format!("`{module}` is not patched: {patch}")
            }
            (_, Some(module), Some(_)) => format!(
                "`{module}` is patched, so this is the original, taken before (patch first), or C code \
                 that no patch reaches: use a client in Python, {thread}, or {OTHER_WORKERS}"
            ),
            (_, None, Some(_)) => format!(
                "the process is patched, so it waits in C code: use a client in Python, {thread}, or \
                 {OTHER_WORKERS}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_in_c_are_known_by_their_files() {
        let advice = |path: &str| GEVENT.for_client(std::iter::once(path)).is_some();
        assert!(advice("/lib/site-packages/psycopg2/_psycopg.cpython-312-x86_64-linux-gnu.so"));
        assert!(advice("/lib/site-packages/MySQLdb/_mysql.so"));
        assert!(advice("/lib/psycopg2_binary.libs/libpq-a17e3caa.so.5.17"));
        assert!(!advice("/lib/site-packages/psycopg2x/a.py") && !advice("/srv/app/views.py"));
    }

    #[test]
    fn a_call_without_a_known_client_is_to_be_patched_or_taken_off() {
        let call = GEVENT.for_call(None, None, None);
        assert!(call.contains("patch_all") && call.contains("threadpool"), "{call}");
        assert!(GEVENT.for_call(Some("use another"), None, None).starts_with("use another; or"));
        let call = EVENTLET.for_call(None, None, None);
        assert!(call.contains("eventlet.monkey_patch") && call.contains("tpool"), "{call}");
    }

    #[test]
    fn whether_the_module_is_patched_decides() {
        let patches = |modules: &[&str]| Patches {
            by: "gevent".to_owned(),
            modules: modules.iter().map(|&one| one.to_owned()).collect(),
        };
        let of = |module, patches: &Patches| GEVENT.for_call(None, module, Some(patches));
        let (none, socket) = (patches(&[]), patches(&["socket"]));
        assert!(of(Some("time"), &none).starts_with("nothing is patched: call `gevent.monkey."));
        assert!(of(Some("time"), &socket).starts_with("`time` is not patched: call `gevent."));
        let patched = of(Some("socket"), &socket);
        assert!(!patched.contains("patch_all") && patched.contains("gthread"), "{patched}");
        assert!(of(None, &socket).contains("it waits in C code"));
        // A client in C is one, whatever is patched.
        let client = GEVENT.for_call(Some("use another"), Some("socket"), Some(&socket));
        assert!(client.starts_with("use another"), "{client}");
    }
}
