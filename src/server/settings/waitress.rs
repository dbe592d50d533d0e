//! waitress's settings: attributes of its `Adjustments`
//! (<https://github.com/Pylons/waitress/blob/v3.0.0/src/waitress/adjustments.py#L102>), else its options.

use super::Kind::{Number, Switch, Text};
use super::{Known, attributes, declared};
use crate::model::ServerConfig;
use crate::server::{Facts, ServerObjects};

macro_rules! known {
    ($name:literal, $option:literal, $kind:expr) => {
        Known { name: $name, options: &[$option], variable: None, kind: $kind }
    };
}

const KNOWN: &[Known] = &[
    known!("threads", "--threads", Number),
    known!("connection_limit", "--connection-limit", Number),
    known!("backlog", "--backlog", Number),
    known!("channel_timeout", "--channel-timeout", Number),
    known!("cleanup_interval", "--cleanup-interval", Number),
    known!("channel_request_lookahead", "--channel-request-lookahead", Number),
    known!("recv_bytes", "--recv-bytes", Number),
    known!("send_bytes", "--send-bytes", Number),
    known!("inbuf_overflow", "--inbuf-overflow", Number),
    known!("outbuf_high_watermark", "--outbuf-high-watermark", Number),
    known!("max_request_body_size", "--max-request-body-size", Number),
    known!("asyncore_use_poll", "--asyncore-use-poll", Switch),
    known!("host", "--host", Text),
    known!("port", "--port", Number),
    known!("unix_socket", "--unix-socket", Text),
];

pub(super) fn settings(facts: &Facts<'_>, objects: &ServerObjects) -> ServerConfig {
    let mut config = ServerConfig::new();
    if let Some(object) = objects.config {
        attributes(facts, object, KNOWN, &mut config);
    }
    if config.is_empty() { declared(facts, KNOWN) } else { config }
}
