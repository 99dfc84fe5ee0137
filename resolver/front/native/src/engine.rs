//! What all connections of a front share: the cache, the flights, the numbers. Owned by the front's one thread.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rustls::ServerConfig;
use slab::Slab;
use tokio::sync::Notify;

use crate::answers::{Answer, Message, Status, framed, put_head};
use crate::cache::{Cache, CacheBounds, Frame, Part};
use crate::crossing::{Body, Command, Crossing, Peer, Question, Reply, Said, Token};
use crate::flights::{CallId, Flight, Flights, Seat, Waiter};
use crate::framing::{Budget, HEAD};
use crate::request;
use crate::settings::{Kind, Refusal, Settings};
use crate::stats::{Snapshot, Stats};
use crate::tallies::Tallies;

/// What comes back to a call that waited.
#[derive(Debug)]
pub enum Settled {
    Ended(Answer),
    /// Answers for those identifiers of a batch that were missing.
    Parts(Vec<(u32, Part)>),
}

/// What is to be done with a request.
pub enum Decision {
    Answer(Answer),
    Refuse(Refusal),
    One(Bytes),
    /// A batch of which some are there.
    Batch {
        parts: Vec<Option<Part>>,
        missing: Vec<(u32, Bytes)>,
    },
    Whole,
}

struct SeatState {
    generation: u32,
    inbox: Vec<(CallId, Settled)>,
    waker: Option<Waker>,
    calls: usize,
}

/// How far the front is with ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    Open,
    /// Connections are told to go; what is in flight is finished.
    Draining,
    /// Connections end at once.
    Closed,
}

/// A drain that somebody waits for.
pub struct Drain {
    pub grace: Duration,
    pub done: Sender<()>,
}

/// The shared part of a front.
pub struct Engine {
    pub settings: Arc<Settings>,
    pub methods: hashbrown::HashMap<String, u32>,
    pub crossing: Arc<Crossing>,
    pub cache: Cache,
    pub tallies: Tallies,
    pub flights: Flights,
    pub stats: Stats,
    pub budget: Budget,
    pub tls: Option<Arc<ServerConfig>>,
    pub ending: Ending,
    /// The thread ends.
    pub is_over: bool,
    pub drains: Vec<Drain>,
    pub peers: HashMap<IpAddr, usize>,
    pub connections: usize,
    /// Rings when the last connection has ended.
    pub emptied: Arc<Notify>,
    seats: Slab<SeatState>,
    seat_generation: u32,
    health: HashMap<String, bool>,
    outgoing: Vec<Question>,
}

impl Engine {
    pub fn new(settings: Arc<Settings>, crossing: Arc<Crossing>, tls: Option<Arc<ServerConfig>>, now: Instant) -> Self {
        let bounds = CacheBounds {
            found_octets: settings.cache_bytes,
            absent_octets: settings.absent_bytes,
            entry_octets: settings.entry_bytes,
            spellings: settings.spellings,
        };
        let methods = settings.methods.iter().zip(0..).map(|(method, number)| (method.path.clone(), number)).collect();
        Self {
            methods,
            crossing,
            cache: Cache::new(bounds, now),
            tallies: Tallies::default(),
            flights: Flights::new(settings.flights),
            stats: Stats::new(settings.methods.len(), settings.latency_bounds.clone()),
            budget: Budget::new(settings.buffered_bytes),
            tls,
            ending: Ending::Open,
            is_over: false,
            drains: Vec::new(),
            peers: HashMap::new(),
            connections: 0,
            emptied: Arc::new(Notify::new()),
            seats: Slab::new(),
            seat_generation: 0,
            health: HashMap::new(),
            outgoing: Vec::new(),
            settings,
        }
    }

    /// Gives a connection its place.
    pub fn sit(&mut self) -> Seat {
        self.seat_generation = self.seat_generation.wrapping_add(1);
        let generation = self.seat_generation;
        let state = SeatState { generation, inbox: Vec::new(), waker: None, calls: 0 };
        Seat { index: self.seats.insert(state) as u32, generation }
    }

    /// Takes a connection's place back; what was still to come to it goes nowhere.
    pub fn rise(&mut self, seat: Seat) {
        if self.seats.get(seat.index as usize).is_some_and(|state| state.generation == seat.generation) {
            self.seats.remove(seat.index as usize);
        }
    }

    /// Notes how a connection is woken and how many calls it has, and gives what came for it.
    pub fn visit(&mut self, seat: Seat, waker: &Waker, calls: usize, inbox: &mut Vec<(CallId, Settled)>) {
        let Some(state) = self.seats.get_mut(seat.index as usize) else { return };
        state.calls = calls;
        inbox.append(&mut state.inbox);
        match &mut state.waker {
            Some(held) => held.clone_from(waker),
            held => *held = Some(waker.clone()),
        }
    }

    /// Wakes all connections, which then see how far the front is with ending.
    pub fn wake_all(&self) {
        for (_, state) in &self.seats {
            if let Some(waker) = &state.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Does what Python told since the last time.
    pub fn catch_up(&mut self) {
        for command in self.crossing.told() {
            self.obey(command);
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Answer(replies) => {
                for reply in replies {
                    self.settle(reply, now);
                }
            }
            Command::Abandon(tokens) => {
                for token in tokens {
                    let refusal = Answer::Status(self.settings.refusals.of(Refusal::Deadline).clone());
                    if let Some(flight) = self.flights.end(token) {
                        self.deliver(&flight, || Settled::Ended(refusal.clone()));
                    }
                }
            }
            Command::Drop(keys, index) => {
                self.flights.changed();
                self.cache.drop_keys(&keys, index);
            }
            Command::Changed(prefixes, sequence) => {
                self.flights.changed();
                self.cache.prefixes_changed(&prefixes, sequence);
            }
            Command::Clear(index) => {
                self.flights.changed();
                self.cache.clear(index);
            }
            Command::CurrentUntil(until) => self.cache.current_until = until,
            Command::SetHealth(services) => self.health = services,
            Command::ReplaceTls(config) => self.tls = Some(config),
            // Whoever asked may have given up.
            Command::TakeCounts(sender) => drop(sender.send(self.tallies.take())),
            Command::TakeStats(sender) => drop(sender.send(self.snapshot())),
            Command::Drain(grace, done) => {
                self.ending = self.ending.max(Ending::Draining);
                self.drains.push(Drain { grace, done });
                self.wake_all();
            }
            Command::Close => {
                (self.ending, self.is_over) = (Ending::Closed, true);
                self.wake_all();
            }
        }
    }

    /// Decides what a request wants. `is_plain_call`: nothing beside the message matters to anybody.
    pub fn decide(&mut self, method: u32, is_plain_call: bool, message: &Bytes, now: Instant) -> Decision {
        let Some(kind) = self.settings.methods.get(method as usize).map(|method| method.kind) else {
            return Decision::Refuse(Refusal::UnknownMethod);
        };
        match kind {
            Kind::One if is_plain_call => {
                let Some(identifier) = request::plain_one(message) else { return Decision::Whole };
                match self.cache.find(identifier, now) {
                    Some(part) => {
                        self.stats.answered(part, 1);
                        if let Some(tally) = &part.tally {
                            self.tallies.add(tally, 1);
                        }
                        Decision::Answer(Answer::Message(Message::plain(part.wire.clone())))
                    }
                    None => Decision::One(message.slice_ref(identifier)),
                }
            }
            Kind::Batch if is_plain_call => match request::plain_batch(message, self.settings.batch_identifiers) {
                Some(ranges) => self.decide_batch(message, ranges, now),
                None => Decision::Whole,
            },
            Kind::One | Kind::Batch | Kind::Other => Decision::Whole,
            Kind::Refer => Decision::Refuse(Refusal::Elsewhere),
            Kind::Health => self.health(message),
        }
    }

    fn decide_batch(&mut self, message: &Bytes, ranges: Vec<Range<usize>>, now: Instant) -> Decision {
        let mut missing = Vec::new();
        let mut parts = Vec::with_capacity(ranges.len());
        for (range, position) in ranges.into_iter().zip(0..) {
            let part = self.cache.find(&message[range.clone()], now).cloned();
            if part.is_none() {
                missing.push((position, message.slice(range)));
            }
            parts.push(part);
        }
        if !missing.is_empty() {
            return Decision::Batch { parts, missing };
        }
        match self.join(&parts) {
            Some(Ok(answer)) => Decision::Answer(answer),
            // Python has the rule for what does not fit.
            _ => Decision::Whole,
        }
    }

    /// Joins the parts of a batch and counts them. `None`: not all are there; an error: they are too large together.
    pub fn join(&mut self, parts: &[Option<Part>]) -> Option<Result<Answer, TooLarge>> {
        let mut length = 0;
        for part in parts {
            let body = part.as_ref()?.wire.len() - HEAD;
            length += body + request::frame_head(body);
        }
        if length > self.settings.answer_bytes {
            return Some(Err(TooLarge));
        }
        let mut wire = BytesMut::with_capacity(HEAD + length);
        put_head(&mut wire, length);
        for part in parts.iter().flatten() {
            let body = &part.wire[HEAD..];
            request::put_frame_head(&mut wire, body.len());
            wire.extend_from_slice(body);
            self.stats.answered(part, 1);
            if let Some(tally) = &part.tally {
                self.tallies.add(tally, 1);
            }
        }
        Some(Ok(Answer::Message(Message::plain(wire.freeze()))))
    }

    /// Asks Python for one identifier, unless somebody has asked the same.
    pub fn ask_one(
        &mut self,
        method: u32,
        identifier: Bytes,
        waiter: Waiter,
        peer: &Arc<Peer>,
        now: Instant,
    ) -> Result<Token, Refusal> {
        if let Some(token) = self.flights.join(&identifier, peer, waiter, now) {
            self.stats.joined += 1;
            return Ok(token);
        }
        // Not the caller's own time: others may come to wait for the same.
        let due = now + self.settings.deadline;
        self.ask_identifiers(method, vec![(0, identifier)], false, waiter, peer, due, now)
    }

    /// Asks Python for these identifiers of a batch or of a single request.
    #[expect(clippy::too_many_arguments, reason = "all of what a question is made of")]
    pub fn ask_identifiers(
        &mut self,
        method: u32,
        identifiers: Vec<(u32, Bytes)>,
        is_batch: bool,
        waiter: Waiter,
        peer: &Arc<Peer>,
        due: Instant,
        now: Instant,
    ) -> Result<Token, Refusal> {
        let token = self.flights.begin(&identifiers, is_batch, waiter, peer, due, now).map_err(|_| Refusal::Busy)?;
        let (body, peer) = (Body::Identifiers(identifiers), Arc::clone(peer));
        self.outgoing.push(Question { token, method, body, due, peer, metadata: Vec::new() });
        Ok(token)
    }

    /// Hands a request to Python as it is.
    #[expect(clippy::too_many_arguments, reason = "all of what a question is made of")]
    pub fn ask_whole(
        &mut self,
        method: u32,
        message: Bytes,
        metadata: Vec<(String, Vec<u8>)>,
        waiter: Waiter,
        peer: &Arc<Peer>,
        due: Instant,
        now: Instant,
    ) -> Result<Token, Refusal> {
        let token = self.flights.begin(&[], true, waiter, peer, due, now).map_err(|_| Refusal::Busy)?;
        let (body, peer) = (Body::Whole(message), Arc::clone(peer));
        self.outgoing.push(Question { token, method, body, due, peer, metadata });
        Ok(token)
    }

    /// Hands on what was asked since the last time: once for all requests of a burst.
    pub fn hand_on(&mut self) {
        if !self.outgoing.is_empty() {
            self.crossing.ask(&mut self.outgoing);
        }
    }

    fn settle(&mut self, reply: Reply, now: Instant) {
        let Some(flight) = self.flights.end(reply.token) else { return };
        match reply.said {
            Said::Whole(answer) => self.deliver(&flight, || Settled::Ended(answer.clone())),
            Said::Frames(frames) => {
                let parts = self.keep(&flight, frames, now);
                if flight.is_batch {
                    self.deliver(&flight, || Settled::Parts(parts.clone()));
                    return;
                }
                let answer = match parts.first() {
                    Some((_, part)) => {
                        let waiters = flight.waiters.len() as u64;
                        self.stats.answered(part, waiters);
                        if let Some(tally) = part.tally.as_ref().filter(|_| waiters > 0) {
                            self.tallies.add(tally, waiters);
                        }
                        Answer::Message(Message::plain(part.wire.clone()))
                    }
                    None => no_answer(),
                };
                self.deliver(&flight, || Settled::Ended(answer.clone()));
            }
        }
    }

    fn keep(&mut self, flight: &Flight, frames: Vec<(u32, Frame)>, now: Instant) -> Vec<(u32, Part)> {
        let mut asked = flight.identifiers.iter();
        let mut parts = Vec::with_capacity(frames.len());
        for (position, frame) in frames {
            // Nearly always in the order in which they were asked for.
            let identifier = match asked.next() {
                Some((at, identifier)) if *at == position => Some(identifier),
                _ => flight.identifiers.iter().find(|(at, _)| *at == position).map(|(_, identifier)| identifier),
            };
            if let Some(identifier) = identifier {
                self.cache.keep(Some(identifier), &frame, &mut self.tallies, now);
            }
            let tally = self.tallies.tally(&frame.tag);
            parts.push((position, Part { wire: frame.wire, outcome: frame.outcome, tally }));
        }
        parts
    }

    fn deliver(&mut self, flight: &Flight, settled: impl Fn() -> Settled) {
        for waiter in &flight.waiters {
            let Some(state) = self.seats.get_mut(waiter.seat.index as usize) else { continue };
            if state.generation != waiter.seat.generation {
                continue;
            }
            if state.inbox.is_empty()
                && let Some(waker) = &state.waker
            {
                waker.wake_by_ref();
            }
            state.inbox.push((waiter.call, settled()));
        }
    }

    fn health(&self, message: &Bytes) -> Decision {
        let Some(service) = request::health_service(message) else {
            return Decision::Refuse(Refusal::MalformedFrame);
        };
        match self.health.get(service) {
            // HealthCheckResponse: the field `status`, SERVING or NOT_SERVING.
            Some(true) => Decision::Answer(Answer::Message(Message::plain(framed(&[b"\x08\x01"])))),
            Some(false) => Decision::Answer(Answer::Message(Message::plain(framed(&[b"\x08\x02"])))),
            None => Decision::Refuse(Refusal::HealthUnknown),
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            stats: self.stats.clone(),
            cache: self.cache.counts,
            cache_octets: self.cache.octets(),
            cache_entries: self.cache.len(),
            cache_evicted: self.cache.evicted(),
            connections: self.connections,
            calls: self.seats.iter().map(|(_, state)| state.calls).sum(),
            buffered_octets: self.budget.taken(),
            flights: self.flights.len(),
        }
    }
}

/// The parts of a batch are larger together than an answer may be.
#[derive(Debug)]
pub struct TooLarge;

/// What a caller is told whose question got no answer to what it asked.
pub fn no_answer() -> Answer {
    Answer::Status(Status::new(13, "The node made a mistake.", &[]))
}
