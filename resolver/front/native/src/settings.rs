//! What a front is given when it is made.

use std::collections::HashMap;
use std::time::Duration;

use crate::answers::Status;

/// What is done with the calls of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One identifier, answered out of the cache where it can be.
    One,
    /// Many identifiers, each answered out of the cache where it can be.
    Batch,
    /// Always handed on whole.
    Other,
    /// Served elsewhere: callers are told where.
    Refer,
    /// The standard health check, answered here.
    Health,
}

impl Kind {
    /// Reads a kind as it is written in the table of paths.
    pub fn read(word: &str) -> Option<Self> {
        Some(match word {
            "one" => Self::One,
            "batch" => Self::Batch,
            "other" => Self::Other,
            "refer" => Self::Refer,
            _ => return None,
        })
    }
}

/// The path of the standard health check.
pub const HEALTH_PATH: &str = "/grpc.health.v1.Health/Check";

/// Names of services are not long.
pub const HEALTH_BYTES: usize = 4 * 1024;

/// One served method.
pub struct Method {
    pub path: String,
    pub kind: Kind,
    /// Bytes of a request at most, compressed or not.
    pub most: usize,
    /// What a caller is told whose request has more; `None`: as of any method.
    pub too_large: Option<Status>,
}

/// Why a call is refused without anybody being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Refusal {
    TooLarge,
    Deadline,
    Busy,
    BodyTimeout,
    Compressed,
    MalformedFrame,
    MalformedTimeout,
    Draining,
    HealthUnknown,
    UnknownMethod,
    Elsewhere,
}

impl Refusal {
    pub const ALL: [Self; 11] = [
        Self::TooLarge,
        Self::Deadline,
        Self::Busy,
        Self::BodyTimeout,
        Self::Compressed,
        Self::MalformedFrame,
        Self::MalformedTimeout,
        Self::Draining,
        Self::HealthUnknown,
        Self::UnknownMethod,
        Self::Elsewhere,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Deadline => "deadline",
            Self::Busy => "busy",
            Self::BodyTimeout => "body_timeout",
            Self::Compressed => "compressed",
            Self::MalformedFrame => "malformed_frame",
            Self::MalformedTimeout => "malformed_timeout",
            Self::Draining => "draining",
            Self::HealthUnknown => "health_unknown",
            Self::UnknownMethod => "unknown_method",
            Self::Elsewhere => "elsewhere",
        }
    }

    /// The code and the message that are given where none were set.
    fn standard(self) -> (u16, &'static str) {
        match self {
            Self::TooLarge => (8, "The request is larger than it may be."),
            Self::Deadline => (4, "The deadline has passed."),
            Self::Busy => (8, "Too much is in flight."),
            Self::BodyTimeout => (4, "The request did not arrive in time."),
            Self::Compressed => (12, "Messages are taken plain or compressed with gzip."),
            Self::MalformedFrame => (13, "The request is not one message as gRPC frames it."),
            Self::MalformedTimeout => (13, "The deadline is not written as gRPC writes one."),
            Self::Draining => (14, "The node is going away."),
            Self::HealthUnknown => (5, "There is no such service."),
            Self::UnknownMethod => (12, "Method not found!"),
            Self::Elsewhere => (12, "The method is served elsewhere."),
        }
    }
}

/// The ready status of each refusal.
pub struct Refusals([Status; Refusal::ALL.len()]);

/// A refusal as Python gives it: code, message, `google.rpc.Status` bytes (empty: none).
pub type GivenRefusal = (u16, String, Vec<u8>);

impl Refusals {
    /// Makes the statuses; the message of a method that is served elsewhere is `refer`.
    pub fn new(given: &HashMap<String, GivenRefusal>, refer: &str) -> Self {
        Self(Refusal::ALL.map(|refusal| {
            if let Some(given) = given.get(refusal.name()) {
                return status(given);
            }
            let (code, message) = refusal.standard();
            let is_told = refusal == Refusal::Elsewhere && !refer.is_empty();
            let accepted = [("grpc-accept-encoding", &b"identity, gzip"[..])];
            let trailers = if refusal == Refusal::Compressed { &accepted[..] } else { &[] };
            Status::new(code, if is_told { refer } else { message }, trailers)
        }))
    }

    pub fn of(&self, refusal: Refusal) -> &Status {
        &self.0[refusal as usize]
    }
}

/// Makes the status that Python gives.
pub fn status((code, message, details): &GivenRefusal) -> Status {
    let trailers = [("grpc-status-details-bin", details.as_slice())];
    Status::new(*code, message, if details.is_empty() { &[] } else { &trailers })
}

/// Bounds in time and room; what they mean stands in `topnode_front.pyi`.
pub struct Settings {
    pub methods: Vec<Method>,
    pub python_keys: Vec<http::HeaderName>,
    pub refusals: Refusals,
    pub batch_identifiers: usize,
    pub answer_bytes: usize,
    pub streams: u32,
    pub connections: usize,
    pub connections_per_peer: usize,
    pub flights: usize,
    pub buffered_bytes: usize,
    pub body_timeout: Duration,
    pub deadline: Duration,
    pub connection_age: Duration,
    pub connection_grace: Duration,
    pub keepalive: Duration,
    pub keepalive_timeout: Duration,
    pub ping_interval: Duration,
    pub cache_bytes: usize,
    pub absent_bytes: usize,
    pub entry_bytes: usize,
    pub spellings: usize,
    pub latency_bounds: Vec<Duration>,
    /// The path whose calls panic: planted by tests to see that only their connection ends.
    pub planted_panic: Option<String>,
}

impl Settings {
    /// Bytes that a request of this method has at most.
    pub fn most_of(&self, method: u32) -> usize {
        self.methods.get(method as usize).map_or(0, |method| method.most)
    }

    /// What a caller of this method is told.
    pub fn status_of(&self, method: u32, refusal: Refusal) -> &Status {
        let own = self.methods.get(method as usize).and_then(|method| method.too_large.as_ref());
        own.filter(|_| refusal == Refusal::TooLarge).unwrap_or_else(|| self.refusals.of(refusal))
    }
}
