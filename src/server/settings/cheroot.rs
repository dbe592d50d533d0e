//! cheroot's settings: attributes of its `HTTPServer` and of the pool of threads in it
//! (<https://github.com/cherrypy/cheroot/blob/v10.0.0/cheroot/server.py#L1481>,
//! <https://github.com/cherrypy/cheroot/blob/v10.0.0/cheroot/workers/threadpool.py#L144>).

use super::Kind::Number;
use super::{Known, attributes};
use crate::model::ServerConfig;
use crate::server::{Facts, ServerObjects};

const fn known(name: &'static str) -> Known {
    Known { name, options: &[], variable: None, kind: Number }
}

const KNOWN: &[Known] = &[
    known("timeout"),
    known("shutdown_timeout"),
    known("request_queue_size"),
    known("keep_alive_conn_limit"),
    known("expiration_interval"),
    known("max_request_header_size"),
    known("max_request_body_size"),
    known("reuse_port"),
];

/// Of the pool: how many threads it begins with, and may have. Without a limit that is an infinite float,
/// which is left out.
const POOL: &[Known] = &[known("min"), known("max")];
/// What these are called where one sets them: `cheroot.wsgi.Server(numthreads=…, max=…)`.
const NAMES: [(&str, &str); 2] = [("min", "numthreads"), ("max", "max")];

pub(super) fn settings(facts: &Facts<'_>, objects: &ServerObjects) -> ServerConfig {
    let mut config = ServerConfig::new();
    let Some(server) = objects.config else { return config };
    attributes(facts, server, KNOWN, &mut config);
    if let Some(pool) = facts.attribute(server, "requests") {
        let mut own = ServerConfig::new();
        attributes(facts, pool, POOL, &mut own);
        for (name, called) in NAMES {
            config.extend(own.remove(name).map(|setting| (called.to_owned(), setting)));
        }
    }
    config
}
