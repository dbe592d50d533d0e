//! Sockets as JSON.

use serde::Serialize;

use crate::model::{ConnectionInfo, ListenerInfo};

/// A listening socket.
#[derive(Serialize)]
pub(super) struct ListenerOut<'a> {
    address: &'a str,
    inode: u64,
    limit: Option<u32>,
    looks: u64,
    queue_mean: Option<f64>,
    queue_max: Option<u32>,
    waiting_fraction: Option<f64>,
}

/// Connections to one peer.
#[derive(Serialize)]
pub(super) struct ConnectionOut<'a> {
    peer: Option<&'a str>,
    incoming: bool,
    looks: u64,
    open_mean: Option<f64>,
    open_max: Option<u32>,
    opened_seen: u64,
    fresh_fraction: Option<f64>,
}

pub(super) fn listener(info: &ListenerInfo) -> ListenerOut<'_> {
    ListenerOut {
        address: &info.address,
        inode: info.inode,
        limit: info.limit,
        looks: info.queue.looks,
        queue_mean: info.queue.mean(),
        queue_max: info.queue.most(),
        waiting_fraction: info.waiting_share(),
    }
}

pub(super) fn connection(info: &ConnectionInfo) -> ConnectionOut<'_> {
    ConnectionOut {
        peer: info.peer.as_deref(),
        incoming: info.peer.is_none(),
        looks: info.open.looks,
        open_mean: info.open.mean(),
        open_max: info.open.most(),
        opened_seen: info.fresh,
        fresh_fraction: info.fresh_share(),
    }
}
