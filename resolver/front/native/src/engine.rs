//! What all connections of a front share: the cache, the flights, the numbers. Owned by the front's one thread.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustls::ServerConfig;
use slab::Slab;
use tokio::sync::Notify;

use crate::answers::{Answer, Joining, Message, Status, framed};
use crate::cache::{Cache, CacheBounds, FAULT, Frame, Part};
use crate::crossing::{Body, Command, Crossing, Peer, Question, Reply, Said, Token};
use crate::flights::{CallId, Flight, Flights, Full, Seat, Waiter};
use crate::framing::{Budget, Charge, HEAD};
use crate::request::{self, Way};
use crate::room::{Answers, Reserve, SMALL};
use crate::settings::{Kind, Refusal, Settings};
use crate::stats::{Snapshot, Stats};
use crate::tallies::Tallies;
use crate::turns::Turns;

/// What comes back to a call that waited.
#[derive(Debug)]
pub enum Settled {
    Ended(Answer),
    /// Answers for those identifiers of a batch that were missing.
    Parts(Vec<(u32, Part)>),
    /// So many bytes of them, which stayed where they were.
    TooMuch(usize),
}

/// A position of a batch at which an identifier stands again, and that at which it stood first.
pub type Repeat = (u32, u32);

/// A request's way, apart from the request.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// Empty: the usual one.
    pub options: Bytes,
    pub is_recursive: bool,
}

impl Course {
    fn of(message: &Bytes, way: Way) -> Self {
        Self { options: message.slice(way.options), is_recursive: way.is_recursive }
    }

    pub fn is_usual(&self) -> bool {
        self.options.is_empty()
    }
}

/// What is to be done with a request.
pub enum Decision {
    Answer(Answer),
    Refuse(Refusal),
    One(Bytes, Course),
    /// A batch of which some are there.
    Batch {
        parts: Vec<Option<Part>>,
        missing: Vec<(u32, Bytes)>,
        repeats: Vec<Repeat>,
        course: Course,
    },
    Whole,
}

/// What came for a call, and the room that was kept for it and that it takes now.
pub type Delivery = (CallId, Settled, Option<Reserve>, Option<Charge>);

struct SeatState {
    generation: u32,
    inbox: Vec<Delivery>,
    waker: Option<Waker>,
    calls: usize,
    unread: usize,
    waits_for_room: bool,
    /// It was woken because there is room, and is before all who wait.
    is_next: bool,
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
    pub answers: Answers,
    pub tls: Option<Arc<ServerConfig>>,
    pub ending: Ending,
    /// The thread ends.
    pub is_over: bool,
    pub drains: Vec<Drain>,
    pub peers: HashMap<IpAddr, usize>,
    pub connections: usize,
    /// Rings when the last connection has ended.
    pub emptied: Arc<Notify>,
    pub turns: Turns,
    seats: Slab<SeatState>,
    seat_generation: u32,
    /// Connections whose calls wait until there is room for all, in the order in which they came.
    waiting_for_room: VecDeque<Seat>,
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
            cache: Cache::new(bounds, now),
            tallies: Tallies::default(),
            flights: Flights::new(settings.flights),
            stats: Stats::new(settings.methods.len(), settings.latency_bounds.clone()),
            budget: Budget::new(settings.buffered_bytes),
            answers: Answers::new(crossing.answers.clone(), settings.answer_bytes),
            tls,
            ending: Ending::Open,
            is_over: false,
            drains: Vec::new(),
            peers: HashMap::new(),
            connections: 0,
            emptied: Arc::new(Notify::new()),
            turns: Turns::default(),
            seats: Slab::new(),
            seat_generation: 0,
            waiting_for_room: VecDeque::new(),
            health: HashMap::new(),
            outgoing: Vec::new(),
            crossing,
            settings,
        }
    }

    /// Gives a connection its place.
    pub fn sit(&mut self) -> Seat {
        self.seat_generation = self.seat_generation.wrapping_add(1);
        let generation = self.seat_generation;
        let state = SeatState {
            generation,
            inbox: Vec::new(),
            waker: None,
            calls: 0,
            unread: 0,
            waits_for_room: false,
            is_next: false,
        };
        Seat { index: self.seats.insert(state) as u32, generation }
    }

    /// Takes a connection's place back; what was still to come to it goes nowhere.
    pub fn rise(&mut self, seat: Seat) {
        if self.seats.get(seat.index as usize).is_some_and(|state| state.generation == seat.generation) {
            self.seats.remove(seat.index as usize);
        }
    }

    /// Notes how a connection is woken, and gives what came for it.
    pub fn visit(&mut self, seat: Seat, waker: &Waker, inbox: &mut Vec<Delivery>) {
        let Some(state) = self.seats.get_mut(seat.index as usize) else { return };
        inbox.append(&mut state.inbox);
        match &mut state.waker {
            Some(held) => held.clone_from(waker),
            held => *held = Some(waker.clone()),
        }
    }

    /// Has a connection woken when there is room again for all. From now on whoever keeps some has to move, and is woken
    /// to see that.
    pub fn wait_for_room(&mut self, seat: Seat) {
        let Some(state) = self.seats.get_mut(seat.index as usize) else { return };
        if std::mem::replace(&mut state.waits_for_room, true) {
            return;
        }
        self.waiting_for_room.push_back(seat);
        if self.waiting_for_room.len() == 1 {
            let keeping = self.seats.iter().filter(|(_, state)| state.unread > SMALL);
            keeping.filter_map(|(_, state)| state.waker.as_ref()).for_each(Waker::wake_by_ref);
        }
    }

    /// Does anybody wait for room?
    pub fn is_pressed(&self) -> bool {
        !self.waiting_for_room.is_empty()
    }

    /// Tells whether others come before a connection where there is room for all again.
    pub fn is_behind(&self, seat: Seat) -> bool {
        self.is_pressed() && !self.seats.get(seat.index as usize).is_some_and(|state| state.is_next)
    }

    /// Notes that a connection has done what it can for now, how many calls it has, and how much that is unread.
    pub fn pass_on(&mut self, seat: Seat, calls: usize, unread: usize) {
        if let Some(state) = self.seats.get_mut(seat.index as usize) {
            (state.is_next, state.calls, state.unread) = (false, calls, unread);
        }
        self.offer_room();
    }

    /// Wakes the first that waits for room, if there is some. Called whenever some may have been given back.
    pub fn offer_room(&mut self) {
        while self.is_pressed() && self.answers.have_room() {
            let Some(seat) = self.waiting_for_room.pop_front() else { return };
            let Some(state) = self.seats.get_mut(seat.index as usize) else { continue };
            if state.generation == seat.generation {
                (state.waits_for_room, state.is_next) = (false, true);
                state.waker.as_ref().into_iter().for_each(Waker::wake_by_ref);
                return;
            }
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
        let told = self.crossing.told();
        if told.is_empty() {
            return;
        }
        for command in told {
            self.obey(command);
        }
        // What was asked for and is answered keeps no room any more.
        self.offer_room();
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
                    if let Some(mut flight) = self.flights.end(token) {
                        self.deliver(&mut flight, || Settled::Ended(refusal.clone()));
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

    /// Decides what a request wants. `is_plain_call`: nothing beside the message matters to anybody. `is_public`: its
    /// caller is shown what everybody is shown.
    pub fn decide(
        &mut self,
        method: u32,
        is_plain_call: bool,
        is_public: bool,
        message: &Bytes,
        now: Instant,
    ) -> Decision {
        let Some(kind) = self.settings.methods.get(method as usize).map(|method| method.kind) else {
            return Decision::Refuse(Refusal::UnknownMethod);
        };
        match kind {
            Kind::One if is_plain_call => {
                let Some((identifier, way)) = request::plain_one(message) else { return Decision::Whole };
                let known = if is_public { self.cache.find(identifier, way.is_usual(), now) } else { None };
                match known {
                    Some(part) => {
                        self.stats.answered(part, 1);
                        if let Some(tally) = &part.tally {
                            self.tallies.add(tally, 1, way.is_recursive);
                        }
                        Decision::Answer(Answer::Message(Message::plain(part.wire.clone())))
                    }
                    None => Decision::One(message.slice_ref(identifier), Course::of(message, way)),
                }
            }
            Kind::Batch if is_plain_call => match request::plain_batch(message, self.settings.batch_identifiers) {
                Some((ranges, way)) => self.decide_batch(message, ranges, Course::of(message, way), is_public, now),
                None => Decision::Whole,
            },
            Kind::One | Kind::Batch | Kind::Other => Decision::Whole,
            Kind::Refer => Decision::Refuse(Refusal::Elsewhere),
            Kind::Health => self.health(message),
        }
    }

    fn decide_batch(
        &mut self,
        message: &Bytes,
        ranges: Vec<Range<usize>>,
        course: Course,
        is_public: bool,
        now: Instant,
    ) -> Decision {
        let mut missing = Vec::new();
        let mut repeats = Vec::new();
        let mut firsts = hashbrown::HashMap::new();
        let mut parts = Vec::with_capacity(ranges.len());
        for (range, position) in ranges.into_iter().zip(0..) {
            let identifier = &message[range.clone()];
            let known = if is_public { self.cache.find(identifier, course.is_usual(), now) } else { None };
            let part = known.cloned();
            if part.is_none() {
                let first = *firsts.entry(identifier).or_insert(position);
                if first == position {
                    missing.push((position, message.slice(range)));
                } else {
                    repeats.push((position, first));
                }
            }
            parts.push(part);
        }
        if !missing.is_empty() {
            return Decision::Batch { parts, missing, repeats, course };
        }
        match self.join(&mut parts, course.is_recursive) {
            Some(Ok(answer)) => Decision::Answer(answer),
            // Python has the rule for what does not fit.
            _ => Decision::Whole,
        }
    }

    /// Joins the parts of a batch and counts them. Each goes with its joining, so that little of it is there twice.
    /// `None`: not all are there; an error: they are too large together, and still there.
    pub fn join(&mut self, parts: &mut [Option<Part>], is_recursive: bool) -> Option<Result<Answer, TooLarge>> {
        let mut length = 0;
        for part in &*parts {
            let body = part.as_ref()?.wire.len() - HEAD;
            length += body + request::frame_head(body);
        }
        if length > self.settings.answer_bytes {
            return Some(Err(TooLarge));
        }
        let mut joining = Joining::new(length);
        for part in parts.iter_mut().filter_map(Option::take) {
            joining.add(&part.wire);
            self.stats.answered(&part, 1);
            if let Some(tally) = &part.tally {
                self.tallies.add(tally, 1, is_recursive);
            }
        }
        Some(Ok(Answer::Message(joining.end())))
    }

    /// Asks Python for one identifier, unless somebody has asked the same in the usual way.
    #[expect(clippy::too_many_arguments, reason = "all of what a question is made of")]
    pub fn ask_one(
        &mut self,
        method: u32,
        identifier: Bytes,
        course: Course,
        waiter: Waiter,
        peer: &Arc<Peer>,
        due: Instant,
        now: Instant,
    ) -> Result<Token, Refusal> {
        let mut due = due;
        if course.is_usual() {
            if let Some(token) = self.flights.join(&identifier, peer, waiter, now) {
                self.stats.joined += 1;
                return Ok(token);
            }
            // Not the caller's own time: others may come to wait for the same.
            due = now + self.settings.deadline;
        }
        let identifiers = vec![(0, identifier.clone())];
        let body = Body::One(identifier, course.options.clone());
        let flight = self.flights.begin(identifiers, course, false, waiter, peer, due, now);
        self.ask(method, body, flight, peer, due)
    }

    /// Asks Python for these identifiers of a batch.
    #[expect(clippy::too_many_arguments, reason = "all of what a question is made of")]
    pub fn ask_identifiers(
        &mut self,
        method: u32,
        identifiers: Vec<(u32, Bytes)>,
        course: Course,
        waiter: Waiter,
        peer: &Arc<Peer>,
        due: Instant,
        now: Instant,
    ) -> Result<Token, Refusal> {
        let body = Body::Identifiers(identifiers.clone(), course.options.clone());
        let flight = self.flights.begin(identifiers, course, true, waiter, peer, due, now);
        self.ask(method, body, flight, peer, due)
    }

    fn ask(
        &mut self,
        method: u32,
        body: Body,
        flight: Result<Token, Full>,
        peer: &Arc<Peer>,
        due: Instant,
    ) -> Result<Token, Refusal> {
        let token = flight.map_err(|Full| Refusal::Busy)?;
        self.outgoing.push(Question { token, method, body, due, peer: Arc::clone(peer), metadata: Vec::new() });
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
        let token = self
            .flights
            .begin(Vec::new(), Course::default(), true, waiter, peer, due, now)
            .map_err(|_| Refusal::Busy)?;
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
        let Some(mut flight) = self.flights.end(reply.token) else { return };
        match reply.said {
            Said::Whole(answer) => self.deliver(&mut flight, || Settled::Ended(answer.clone())),
            Said::TooMuch(octets) => self.deliver(&mut flight, || Settled::TooMuch(octets)),
            Said::Frame(frame, charge) => {
                flight.charge = Some(charge);
                let identifier = flight.identifiers.first().map(|(_, identifier)| &**identifier);
                let part = self.keep(&flight, identifier, frame, now);
                if flight.is_batch {
                    self.deliver(&mut flight, || Settled::Parts(vec![(0, part.clone())]));
                } else {
                    self.deliver_part(&mut flight, &part);
                }
            }
            Said::Frames(frames, charge) => {
                flight.charge = Some(charge);
                let parts = self.keep_all(&flight, frames, now);
                if flight.is_batch {
                    self.deliver(&mut flight, || Settled::Parts(parts.clone()));
                    return;
                }
                match parts.first() {
                    Some((_, part)) => self.deliver_part(&mut flight, part),
                    None => self.deliver(&mut flight, || Settled::Ended(no_answer())),
                }
            }
        }
    }

    fn deliver_part(&mut self, flight: &mut Flight, part: &Part) {
        let waiters = flight.waiters.len() as u64;
        self.stats.answered(part, waiters);
        if let Some(tally) = part.tally.as_ref().filter(|_| waiters > 0) {
            self.tallies.add(tally, waiters, flight.course.is_recursive);
        }
        self.deliver(flight, || Settled::Ended(Answer::Message(Message::plain(part.wire.clone()))));
    }

    fn keep_all(&mut self, flight: &Flight, frames: Vec<(u32, Frame)>, now: Instant) -> Vec<(u32, Part)> {
        let mut asked = flight.identifiers.iter();
        let mut parts = Vec::with_capacity(frames.len());
        for (position, frame) in frames {
            // Nearly always in the order in which they were asked for.
            let identifier = match asked.next() {
                Some((at, identifier)) if *at == position => Some(identifier),
                _ => flight.identifiers.iter().find(|(at, _)| *at == position).map(|(_, identifier)| identifier),
            };
            parts.push((position, self.keep(flight, identifier.map(|identifier| &**identifier), frame, now)));
        }
        parts
    }

    /// Keeps what may be kept of an answer, and gives what is sent of it.
    fn keep(&mut self, flight: &Flight, identifier: Option<&[u8]>, frame: Frame, now: Instant) -> Part {
        let (part, terms) = frame.split(&mut self.tallies);
        if let Some(identifier) = identifier
            && flight.is_public()
            // Only this node's own word is the same however far a question goes.
            && (flight.course.is_usual() || part.is_own)
        {
            self.cache.keep(identifier, &part, terms, now);
        }
        part
    }

    fn deliver(&mut self, flight: &mut Flight, settled: impl Fn() -> Settled) {
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
            // Room is kept until what came counts itself.
            state.inbox.push((waiter.call, settled(), flight.reserve.take(), flight.charge.take()));
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
            unread_octets: self.answers.octets(),
            flights: self.flights.len(),
        }
    }
}

/// Puts what came for a batch into its places, and again where an identifier stands again. Tells whether that is all:
/// an error is good for its own position only.
pub fn fill(parts: &mut [Option<Part>], came: Vec<(u32, Part)>, repeats: &[Repeat]) -> bool {
    for (position, part) in came {
        if let Some(place) = parts.get_mut(position as usize) {
            *place = Some(part);
        }
    }
    repeats.iter().all(|(again, first)| {
        let part = parts.get(*first as usize).cloned().flatten();
        let is_good = part.as_ref().is_none_or(|part| part.outcome != FAULT);
        if let Some(place) = parts.get_mut(*again as usize) {
            *place = part;
        }
        is_good
    })
}

/// The parts of a batch are larger together than an answer may be.
#[derive(Debug)]
pub struct TooLarge;

/// What a caller is told whose question got no answer to what it asked.
pub fn no_answer() -> Answer {
    Answer::Status(Status::new(13, "The node made a mistake.", &[]))
}
