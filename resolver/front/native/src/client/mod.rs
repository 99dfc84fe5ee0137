//! The HTTP/2 of a gRPC client, for unary calls, without a socket: bytes that came go in, bytes to be sent come out.
//!
//! Python's event loop has the socket and TLS. A thread here, as the front has one, would cost a call two switches
//! between threads and two bells, which is more than all of this.

mod ended;
#[cfg(not(any(test, fuzzing)))]
pub mod python;
mod session;
mod wire;

#[cfg(any(test, fuzzing))]
pub use session::{Session, Token};
