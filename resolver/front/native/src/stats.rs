//! Numbers for whoever watches.

use std::time::Duration;

use crate::cache::{CacheCounts, OUTCOMES, Part};
use crate::settings::Refusal;

/// Who answered a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Tier {
    /// This front alone.
    Front,
    /// Python, for at least a part of it.
    Python,
}

impl Tier {
    pub const ALL: [Self; 2] = [Self::Front, Self::Python];

    pub fn name(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Python => "python",
        }
    }
}

/// Codes from OK to UNAUTHENTICATED.
pub const CODES: usize = 17;

/// How long the calls of a method took that this tier answered.
#[derive(Clone, Debug)]
pub struct Latency {
    /// One more than there are bounds: the last is what took longer than all of them.
    pub buckets: Vec<u64>,
    pub took: Duration,
}

/// One method's calls.
#[derive(Clone, Debug)]
pub struct MethodStats {
    pub by_code: [u64; CODES],
    /// Calls that ended without an answer, because their callers went away.
    pub cancelled: u64,
    pub latency: [Latency; Tier::ALL.len()],
}

/// What is counted while calls are answered.
#[derive(Clone, Debug)]
pub struct Stats {
    bounds: Vec<Duration>,
    pub methods: Vec<MethodStats>,
    pub refused: [u64; Refusal::ALL.len()],
    pub identifiers: [u64; OUTCOMES],
    pub panics: u64,
    pub accepted: u64,
    pub turned_away: u64,
    pub handshakes_failed: u64,
    pub calmed: u64,
    pub stalled: u64,
    pub parked: u64,
    pub joined: u64,
}

/// All numbers at one time.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub stats: Stats,
    pub cache: CacheCounts,
    pub cache_octets: usize,
    pub cache_entries: usize,
    pub cache_evicted: u64,
    pub connections: usize,
    pub calls: usize,
    pub buffered_octets: usize,
    pub unread_octets: usize,
    pub flights: usize,
}

impl Stats {
    pub fn new(methods: usize, bounds: Vec<Duration>) -> Self {
        let latency = Latency { buckets: vec![0; bounds.len() + 1], took: Duration::ZERO };
        let method = MethodStats { by_code: [0; CODES], cancelled: 0, latency: [latency.clone(), latency] };
        Self {
            bounds,
            methods: vec![method; methods],
            refused: [0; Refusal::ALL.len()],
            identifiers: [0; OUTCOMES],
            panics: 0,
            accepted: 0,
            turned_away: 0,
            handshakes_failed: 0,
            calmed: 0,
            stalled: 0,
            parked: 0,
            joined: 0,
        }
    }

    /// Counts a call that was answered or refused.
    pub fn ended(&mut self, method: u32, code: u16, tier: Tier, took: Duration) {
        let bucket = self.bounds.iter().position(|bound| took <= *bound).unwrap_or(self.bounds.len());
        let Some(method) = self.methods.get_mut(method as usize) else { return };
        method.by_code[usize::from(code).min(CODES - 1)] += 1;
        let latency = &mut method.latency[tier as usize];
        latency.buckets[bucket] += 1;
        latency.took += took;
    }

    pub fn cancelled(&mut self, method: u32) {
        if let Some(method) = self.methods.get_mut(method as usize) {
            method.cancelled += 1;
        }
    }

    pub fn refused(&mut self, refusal: Refusal) {
        self.refused[refusal as usize] += 1;
    }

    pub fn answered(&mut self, part: &Part, count: u64) {
        self.identifiers[usize::from(part.outcome).min(OUTCOMES - 1)] += count;
    }
}
