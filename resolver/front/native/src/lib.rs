//! The native gRPC front of topnode, and its native client.
//!
//! It knows TLS, HTTP/2, gRPC's framing, a table of paths, deadlines, limits, a cache of ready answers and numbers.
//! What an identifier means, and everything that can be wrong with a request, is known in Python. Apart from both, `usual`
//! makes of answers from below what Python would, where they are as nearly all are.

#![forbid(unsafe_code)]
// Tests and fuzzing are of what knows nothing of Python: they need no interpreter to be linked with.
#![cfg_attr(any(test, fuzzing), allow(dead_code, reason = "what only the side of Python uses is idle there"))]

mod alarms;
mod answers;
mod cache;
mod call;
mod client;
mod connection;
mod crossing;
mod engine;
mod flights;
mod framing;
#[cfg(not(any(test, fuzzing)))]
mod front;
mod identity;
mod listener;
mod marks;
mod metadata;
mod queues;
#[cfg(not(any(test, fuzzing)))]
mod replies;
mod request;
mod room;
mod settings;
mod stats;
mod tallies;
mod thread;
mod tls;
mod transport;
mod turns;
mod upkeep;
mod usual;

/// What is fuzzed: the crate in `fuzz/` is this one with an engine instead of Python. Its seeds are tests here.
#[cfg(any(test, fuzzing))]
#[path = "../fuzz/targets/mod.rs"]
pub mod targets;

#[cfg(not(any(test, fuzzing)))]
use pyo3::prelude::*;

/// A gRPC front that answers out of its own cache and hands everything else to Python; and a gRPC client.
#[cfg(not(any(test, fuzzing)))]
#[pymodule]
mod topnode_front {
    #[pymodule_export]
    use crate::client::python::Client;
    #[pymodule_export]
    use crate::front::Front;
    #[pymodule_export]
    use crate::usual::python::{batch_answers, usual_answers};
}
