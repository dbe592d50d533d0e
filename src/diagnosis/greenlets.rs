//! What to change at a line that blocks a hub of greenlets.
//!
//! Knows what gevent can make cooperative and what it cannot. Takes a blamed line's library and
//! wait as `remedy.rs` does, gives the sentence to put there: asyncio's would be no help. Never
//! decides whether to recommend.

/// Clients that wait in C code, which monkey-patching cannot reach, and what helps.
const IN_C: &[(&str, &str)] = &[
    ("psycopg2", PSYCOPG2),
    // What waits in there is psycopg2's: psycopg 3 waits in Python.
    ("libpq", PSYCOPG2),
    ("MySQLdb", "use PyMySQL, which `monkey.patch_all()` makes cooperative"),
    ("grpc", "begin with `grpc.experimental.gevent.init_gevent()`"),
];
const PSYCOPG2: &str = "make psycopg2 wait for the hub: `psycogreen.gevent.patch_psycopg()`";
/// Off the hub: its own thread pool.
pub const THREAD: &str = "`gevent.get_hub().threadpool.apply(…)`";
/// For calls of modules in Python.
const PATCH: &str = "call `gevent.monkey.patch_all()` before anything else is imported";

/// Whether a frame's file or its C module's is of a client that waits in C code; what to do then.
#[must_use]
pub fn for_client<'a>(paths: impl Iterator<Item = &'a str>) -> Option<&'static str> {
    let mut steps = paths.flat_map(|path| path.split('/'));
    steps.find_map(|step| {
        let step = step.strip_prefix('_').unwrap_or(step);
        let name = step.split(['.', '-']).next().unwrap_or(step);
        IN_C.iter().find(|(client, _)| name == *client).map(|(_, advice)| *advice)
    })
}

/// For a call that waits.
#[must_use]
pub fn for_call(client: Option<&str>) -> String {
    match client {
        Some(advice) => format!("{advice}; or {THREAD}"),
        None => format!("{PATCH}; if it waits in C code, {THREAD}"),
    }
}

/// For Python code that computes.
pub const FOR_CPU: &str = "run it in another process, or in workers of their own (gunicorn's \
     `gthread`); or split it with `gevent.sleep(0)` between the parts";

/// For C code that computes and holds the interpreter lock.
pub const FOR_HOLDING: &str = "run it in another process, or in workers of their own";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_in_c_are_known_by_their_files() {
        let advice = |path: &str| for_client(std::iter::once(path)).is_some();
        assert!(advice("/lib/site-packages/psycopg2/_psycopg.cpython-312-x86_64-linux-gnu.so"));
        assert!(advice("/lib/site-packages/MySQLdb/_mysql.so"));
        assert!(advice("/lib/psycopg2_binary.libs/libpq-a17e3caa.so.5.17"));
        assert!(!advice("/lib/site-packages/psycopg2x/a.py") && !advice("/srv/app/views.py"));
    }

    #[test]
    fn a_call_without_a_known_client_is_to_be_patched_or_taken_off() {
        assert!(for_call(None).contains("patch_all") && for_call(None).contains("threadpool"));
        assert!(for_call(Some("use another")).starts_with("use another; or"));
    }
}
