//! The native gRPC front of topnode.
//!
//! It knows TLS, HTTP/2, gRPC's framing, a table of paths, deadlines, limits, a cache of ready answers and numbers.
//! What an identifier means, and everything that can be wrong with a request, is known in Python.

#![forbid(unsafe_code)]

mod alarms;
mod answers;
mod cache;
mod call;
mod connection;
mod crossing;
mod engine;
mod flights;
mod framing;
mod front;
mod identity;
mod listener;
mod marks;
mod metadata;
mod queues;
mod replies;
mod request;
mod settings;
mod stats;
mod tallies;
mod thread;
mod tls;
mod transport;
mod upkeep;

use pyo3::prelude::*;

/// A gRPC front that answers out of its own cache and hands everything else to Python.
#[pymodule]
mod topnode_front {
    #[pymodule_export]
    use crate::front::Front;
}
