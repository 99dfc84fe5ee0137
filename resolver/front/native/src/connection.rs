//! One HTTP/2 connection, from its first request to its end.
//!
//! A future with a loop, not a task for each call: everything that one read brings is accepted first, then all of it is
//! answered, then all answers are written at once. With a flush for each answer a call costs nearly three times as
//! much.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Method, Request, StatusCode};
use slab::Slab;

use crate::alarms::Alarms;
use crate::answers::{Answer, not_grpc, ok_response};
use crate::call::{Arriving, Call, Held, Sending, Stage};
use crate::crossing::{Peer, Token};
use crate::engine::{Decision, Delivery, Ending, Engine, Settled, fill, no_answer};
use crate::flights::{CallId, Seat, Waiter};
use crate::framing::{Budget, Encoding, Gathering};
use crate::metadata;
use crate::room::{AT_ONCE, Breadth, Lack, Room, SMALL};
use crate::settings::{Kind, Refusal, Settings};
use crate::stats::Tier;
use crate::transport::{Meter, Transport};
use crate::turns::Turn;
use crate::upkeep::{Upkeep, Verdict};

/// How often calls that were cancelled are looked for, while others come.
const SWEPT_EVERY: Duration = Duration::from_millis(250);

/// A connection that has had so long leaves the rest to its next turn. By the clock, as what a round takes is not only
/// ours: on a core that Python shares with us it runs as soon as it is asked, and its answer makes work for one more.
const TIME_A_TURN: Duration = Duration::from_micros(50);

/// What is unpacked of compressed messages in one turn.
const UNPACKED_A_TURN: usize = 64 * 1024;

/// A client's frames are no larger: we do not say that they may be.
const FRAME: usize = 16 * 1024;

/// This part of the room for requests may be taken by those of one connection that wait for room for their answers.
const PARKED_PART: usize = 4;

/// A connection that is served until it ends.
pub struct Connection {
    h2: h2::server::Connection<Transport, Bytes>,
    engine: Rc<RefCell<Engine>>,
    seat: Seat,
    peer: Arc<Peer>,
    /// Calls that could not be answered at once; those of `arriving` and `sending` are looked at in each round.
    calls: Slab<Held>,
    arriving: Vec<u32>,
    sending: Vec<u32>,
    /// Calls that wait for room, by breadth, the oldest first. Some may have ended.
    parked: [VecDeque<CallId>; Breadth::ALL.len()],
    parking: Budget,
    room: Room,
    generation: u32,
    arrivals: Vec<(Call, Arriving)>,
    inbox: Vec<Delivery>,
    alarms: Alarms,
    upkeep: Upkeep,
    meter: Rc<RefCell<Meter>>,
    turn: Turn,
    /// What may still be unpacked in this turn.
    unpackable: usize,
    /// Something was answered on it: until then it comes last.
    has_answered: bool,
    is_ending: bool,
    /// Calls that were answered in this round.
    answered: u32,
    /// The time of this round: asked for once and not for each call.
    now: Instant,
    /// When calls that were cancelled are looked for next.
    sweep_at: Instant,
}

impl Connection {
    /// Takes a connection over after its handshakes.
    pub fn new(
        mut h2: h2::server::Connection<Transport, Bytes>,
        meter: Rc<RefCell<Meter>>,
        engine: Rc<RefCell<Engine>>,
        peer: Arc<Peer>,
    ) -> Self {
        let (seat, upkeep, parking) = {
            let mut shared = engine.borrow_mut();
            let parking = Budget::new(shared.settings.buffered_bytes / PARKED_PART);
            (shared.sit(), Upkeep::new(&shared.settings, Rc::clone(&meter), h2.ping_pong(), Instant::now()), parking)
        };
        Self {
            h2,
            engine,
            seat,
            peer,
            calls: Slab::new(),
            arriving: Vec::new(),
            sending: Vec::new(),
            parked: Default::default(),
            parking,
            room: Room::default(),
            generation: 0,
            // Of four there would be room at once, and most connections make one call at a time.
            arrivals: Vec::with_capacity(1),
            inbox: Vec::new(),
            alarms: Alarms::new(upkeep.next()),
            upkeep,
            meter,
            turn: Turn::default(),
            unpackable: 0,
            has_answered: false,
            is_ending: false,
            answered: 0,
            now: Instant::now(),
            sweep_at: Instant::now() + SWEPT_EVERY,
        }
    }

    fn poll_rounds(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = Rc::clone(&self.engine);
        if !self.has_answered || self.turn.is_awaited() {
            ready!(self.turn.poll(cx, &mut shared.borrow_mut().turns));
        }
        self.meter.borrow_mut().begin_turn();
        self.unpackable = UNPACKED_A_TURN;
        self.now = Instant::now();
        let until = self.now + TIME_A_TURN;
        while self.now <= until {
            let mut worked = false;
            {
                let mut engine = shared.borrow_mut();
                // Before anything is looked up: what Python told holds for every request that is read from now on.
                engine.catch_up();
                let mut inbox = std::mem::take(&mut self.inbox);
                engine.visit(self.seat, cx.waker(), &mut inbox);
                for (call, settled, reserve, charge) in inbox.drain(..) {
                    drop((reserve, charge));
                    self.settle(call, settled, &mut engine);
                }
                self.inbox = inbox;
                if self.attend(cx, &mut engine).is_ready() {
                    return Poll::Ready(());
                }
            }
            // Writes, too, whatever was answered since it was last called.
            let began = self.now;
            loop {
                match self.h2.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        worked = true;
                        self.accept(request, respond, began, &mut shared.borrow_mut());
                    }
                    // The end of the connection, or an error that ends it.
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            if self.is_ending {
                return Poll::Ready(());
            }
            let mut engine = shared.borrow_mut();
            self.upkeep.note_unread(self.room.unread(), began);
            worked |= self.take_up(&mut engine);
            worked |= self.read(cx, &mut engine);
            worked |= self.send_on(cx, &mut engine, began);
            worked |= self.calm(began, &mut engine);
            engine.hand_on();
            if !worked {
                self.pass_on(&mut engine);
                if self.unpackable == 0 || self.meter.borrow().is_short() {
                    let _ = self.turn.poll(cx, &mut engine.turns);
                }
                return Poll::Pending;
            }
            drop(engine);
            self.now = Instant::now();
        }
        let mut engine = shared.borrow_mut();
        self.pass_on(&mut engine);
        // The rest when others have had their turn.
        let _ = self.turn.poll(cx, &mut engine.turns);
        Poll::Pending
    }

    /// Leaves the rest to others, and to when there is more to do.
    fn pass_on(&mut self, engine: &mut Engine) {
        engine.pass_on(self.seat, self.calls.len(), self.room.unread());
        if let Some(at) = self.stuck_at(engine) {
            self.alarms.wake_by(at);
        }
    }

    /// Begins a call by its headers.
    fn accept(
        &mut self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        began: Instant,
        engine: &mut Engine,
    ) {
        let settings = Arc::clone(&engine.settings);
        let heading = match Heading::read(&request, &settings) {
            Ok(heading) => heading,
            Err(status) => return drop(respond.send_response(not_grpc(status), true)),
        };
        let path = request.uri().path();
        // What has a query is no path of ours.
        let known = if request.uri().query().is_none() { engine.methods.get(path) } else { None };
        let Some(&method) = known else {
            engine.stats.refused(Refusal::UnknownMethod);
            let status = settings.refusals.of(Refusal::UnknownMethod);
            return drop(respond.send_response(status.response(), true));
        };
        if settings.planted_panic.as_deref() == Some(path) {
            panic!("a panic was planted at this path");
        }
        let Heading { timeout, has_bad_timeout, encoding, metadata } = heading;
        let due = began + timeout.map_or(settings.deadline, |timeout| timeout.min(settings.deadline));
        let kind = settings.methods.get(method as usize).map_or(Kind::Refer, |method| method.kind);
        let call = Call { respond, method, breadth: Breadth::of(kind), began, due, encoding, metadata };
        if kind == Kind::Refer {
            return self.refuse(call, Refusal::Elsewhere, engine);
        }
        if has_bad_timeout {
            return self.refuse(call, Refusal::MalformedTimeout, engine);
        }
        self.arrivals
            .push((call, Arriving { body: request.into_body(), gathering: Gathering::default(), packed: None }));
    }

    /// Reads the messages of calls, and answers or asks what is all there. Tells whether anything was done.
    fn read(&mut self, cx: &mut Context<'_>, engine: &mut Engine) -> bool {
        if self.arrivals.is_empty() && self.arriving.is_empty() {
            return false;
        }
        let settings = Arc::clone(&engine.settings);
        self.now = Instant::now();
        let now = self.now;
        let mut worked = false;
        let mut at = 0;
        while let Some(&index) = self.arriving.get(at) {
            let Some(Held { stage: Stage::Arriving(arriving), call, .. }) = self.calls.get_mut(index as usize) else {
                self.arriving.swap_remove(at);
                continue;
            };
            let most = settings.most_of(call.method);
            let Poll::Ready(message) = arriving.poll(cx, call.encoding, most, &engine.budget, &mut self.unpackable)
            else {
                at += 1;
                continue;
            };
            worked = true;
            self.arriving.swap_remove(at);
            let call = self.calls.remove(index as usize).call;
            self.arrived(call, message, engine, now);
        }
        let mut arrivals = std::mem::take(&mut self.arrivals);
        for (call, mut arriving) in arrivals.drain(..) {
            let most = settings.most_of(call.method);
            match arriving.poll(cx, call.encoding, most, &engine.budget, &mut self.unpackable) {
                Poll::Ready(message) => {
                    worked = true;
                    self.arrived(call, message, engine, now);
                }
                Poll::Pending => {
                    let due = call.body_due(settings.body_timeout);
                    let id = self.next_id();
                    self.hold(id, call, Stage::Arriving(arriving), due);
                    self.arriving.push(id.index);
                }
            }
        }
        self.arrivals = arrivals;
        // Nobody tells us of calls that are cancelled: those are looked for now and then, and when there are more than a
        // client may have, so that some must be; also of what has just come, if its end came with it.
        if now >= self.sweep_at || self.calls.len() > settings.streams as usize {
            self.sweep_at = now + SWEPT_EVERY;
            self.let_go_of_cancelled(cx, engine);
        }
        worked
    }

    /// Answers or asks what is all there, or has it wait for room behind those that do.
    fn arrived(&mut self, call: Call, message: Option<Result<Bytes, Refusal>>, engine: &mut Engine, now: Instant) {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(refusal)) => return self.refuse(call, refusal, engine),
            None => return engine.stats.cancelled(call.method),
        };
        if call.due <= now {
            return self.refuse(call, Refusal::Deadline, engine);
        }
        if self.parked[call.breadth as usize].is_empty() && self.has_room(call.breadth, engine) {
            self.decide(call, message, engine, now);
        } else {
            self.park(call, message, engine);
        }
    }

    /// Tells whether a call can be taken up. Where the room of all is lacking, this connection is woken when it is not.
    fn has_room(&self, breadth: Breadth, engine: &mut Engine) -> bool {
        match self.room.lack(breadth, &engine.answers, engine.is_behind(self.seat)) {
            None => true,
            Some(Lack::Own) => false,
            Some(Lack::Everybodys) => {
                engine.wait_for_room(self.seat);
                false
            }
        }
    }

    fn park(&mut self, call: Call, message: Bytes, engine: &mut Engine) {
        let (of_all, own) = (engine.budget.charge(message.len()), self.parking.charge(message.len()));
        let (Some(of_all), Some(own)) = (of_all, own) else { return self.refuse(call, Refusal::Busy, engine) };
        engine.stats.parked += 1;
        // A copy: what came in one frame would keep everything that was read together with it.
        let message = if message.len() > FRAME { message } else { Bytes::copy_from_slice(&message) };
        let (id, due) = (self.next_id(), call.due);
        self.parked[call.breadth as usize].push_back(id);
        self.hold(id, call, Stage::Parked { message, charges: [of_all, own] }, due);
    }

    /// Takes up calls that waited for room. Tells whether there were any.
    fn take_up(&mut self, engine: &mut Engine) -> bool {
        let mut worked = false;
        for breadth in Breadth::ALL {
            while let Some(&id) = self.parked[breadth as usize].front() {
                let is_waiting = self.calls.get(id.index as usize).is_some_and(|held| held.generation == id.generation);
                if is_waiting && !self.has_room(breadth, engine) {
                    break;
                }
                self.parked[breadth as usize].pop_front();
                if let Some(Held { call, stage: Stage::Parked { message, charges }, .. }) = self.release(id) {
                    drop(charges);
                    worked = true;
                    self.decide(call, message, engine, self.now);
                }
            }
        }
        worked
    }

    /// Answers a request out of the cache or asks Python.
    fn decide(&mut self, call: Call, message: Bytes, engine: &mut Engine, now: Instant) {
        // Who has proven an identity may be shown more than the public, and only Python knows what.
        let is_public = self.peer.identity.is_none();
        match engine.decide(call.method, call.metadata.is_empty(), is_public, &message, now) {
            Decision::Answer(answer) => self.answer(call, answer, Tier::Front, engine),
            Decision::Refuse(refusal) => self.refuse(call, refusal, engine),
            Decision::One(identifier, course) => self.ask(call, 1, engine, |call, engine, waiter, peer| {
                let token = engine.ask_one(call.method, identifier, course, waiter, peer, call.due, now)?;
                Ok((token, Stage::Asked { token, _charge: None }))
            }),
            Decision::Batch { parts, missing, repeats, course } => {
                self.ask(call, missing.len(), engine, |call, engine, waiter, peer| {
                    let charge = engine.budget.charge(message.len()).ok_or(Refusal::Busy)?;
                    let (is_recursive, due) = (course.is_recursive, call.due);
                    let token = engine.ask_identifiers(call.method, missing, course, waiter, peer, due, now)?;
                    Ok((token, Stage::Joining { token, parts, repeats, is_recursive, message, _charge: charge }))
                });
            }
            Decision::Whole => self.ask_whole(call, message, engine, now),
        }
    }

    fn ask_whole(&mut self, call: Call, message: Bytes, engine: &mut Engine, now: Instant) {
        // How many identifiers it has only Python knows.
        let identifiers = if call.breadth == Breadth::One { 1 } else { engine.settings.batch_identifiers };
        self.ask(call, identifiers, engine, |call, engine, waiter, peer| {
            let charge = engine.budget.charge(message.len()).ok_or(Refusal::Busy)?;
            let metadata = std::mem::take(&mut call.metadata);
            let token = engine.ask_whole(call.method, message, metadata, waiter, peer, call.due, now)?;
            Ok((token, Stage::Asked { token, _charge: Some(charge) }))
        });
    }

    /// Keeps a call for which Python is asked something, and room for what comes of it.
    fn ask(
        &mut self,
        mut call: Call,
        identifiers: usize,
        engine: &mut Engine,
        ask: impl FnOnce(&mut Call, &mut Engine, Waiter, &Arc<Peer>) -> Result<(Token, Stage), Refusal>,
    ) {
        let id = self.next_id();
        match ask(&mut call, engine, Waiter { seat: self.seat, call: id }, &self.peer) {
            Ok((token, stage)) => {
                let Engine { flights, answers, .. } = engine;
                flights.keep_room(token, || self.room.reserve(call.breadth, identifiers, answers));
                let due = call.due;
                self.hold(id, call, stage, due);
            }
            Err(refusal) => self.refuse(call, refusal, engine),
        }
    }

    /// Gives a call what it waited for.
    fn settle(&mut self, id: CallId, settled: Settled, engine: &mut Engine) {
        let Some(Held { call, stage, .. }) = self.release(id) else { return };
        match (settled, stage) {
            (Settled::Ended(answer), _) => self.answer(call, answer, Tier::Python, engine),
            (Settled::Parts(came), Stage::Joining { mut parts, repeats, is_recursive, message, .. }) => {
                if !fill(&mut parts, came, &repeats) {
                    return self.ask_whole(call, message, engine, Instant::now());
                }
                let octets = parts.iter().flatten().map(|part| part.wire.len()).sum();
                if octets > AT_ONCE && octets <= engine.settings.answer_bytes && !engine.answers.have_room_for(octets) {
                    drop(parts);
                    return self.ask_again(call, message, octets, engine);
                }
                match engine.join(&mut parts, is_recursive) {
                    Some(Ok(answer)) => self.answer(call, answer, Tier::Python, engine),
                    // Python has the rule for what does not fit.
                    Some(Err(_)) => self.ask_whole(call, message, engine, Instant::now()),
                    None => self.answer(call, no_answer(), Tier::Python, engine),
                }
            }
            (Settled::TooMuch(octets), Stage::Joining { message, .. }) => {
                self.ask_again(call, message, octets, engine);
            }
            (Settled::Parts(_) | Settled::TooMuch(_), _) => self.answer(call, no_answer(), Tier::Python, engine),
        }
    }

    /// Has Python asked again for that for which there was no room: when there is some, or in a way that takes less.
    fn ask_again(&mut self, call: Call, message: Bytes, octets: usize, engine: &mut Engine) {
        if octets > engine.settings.answer_bytes {
            return self.ask_whole(call, message, engine, Instant::now());
        }
        self.room.learn(call.breadth, octets, &mut engine.answers);
        self.park(call, message, engine);
    }

    fn refuse(&mut self, call: Call, refusal: Refusal, engine: &mut Engine) {
        engine.stats.refused(refusal);
        let status = engine.settings.status_of(call.method, refusal).clone();
        self.answer(call, Answer::Status(status), Tier::Front, engine);
    }

    /// Ends a call. What cannot be sent was cancelled: there is nobody left to be told.
    fn answer(&mut self, mut call: Call, answer: Answer, tier: Tier, engine: &mut Engine) {
        self.answered = self.answered.saturating_add(1);
        engine.stats.ended(call.method, answer.code(), tier, self.now.saturating_duration_since(call.began));
        let message = match answer {
            Answer::Status(status) => return drop(call.respond.send_response(status.response(), true)),
            Answer::Message(message) => message,
        };
        let octets = message.octets();
        self.room.learn(call.breadth, octets, &mut engine.answers);
        let Ok(mut stream) = call.respond.send_response(ok_response(), false) else { return };
        let trailers = message.trailers();
        if octets <= AT_ONCE {
            if stream.send_data(self.room.hold(message.wire, &engine.answers), false).is_ok() {
                let _ = stream.send_trailers(trailers);
            }
            return;
        }
        if !engine.answers.have_room_for(octets) {
            engine.stats.refused(Refusal::Busy);
            return drop(stream.send_trailers(engine.settings.refusals.of(Refusal::Busy).trailers()));
        }
        let pieces = std::iter::once(message.wire).chain(message.rest);
        let pieces = pieces.map(|piece| self.room.hold(piece, &engine.answers)).collect();
        let stage = Stage::Sending(Sending { stream, pieces, trailers, moved: Instant::now() });
        let id = self.next_id();
        self.calls.insert(Held { call, generation: id.generation, stage });
        self.sending.push(id.index);
    }

    /// Sends on what goes as clients take it. Tells whether anything was sent.
    fn send_on(&mut self, cx: &mut Context<'_>, engine: &mut Engine, now: Instant) -> bool {
        let mut worked = false;
        let mut at = 0;
        while let Some(&index) = self.sending.get(at) {
            let Some(Held { stage: Stage::Sending(sending), .. }) = self.calls.get_mut(index as usize) else {
                self.sending.swap_remove(at);
                continue;
            };
            let mut has_sent = false;
            let mut is_over = sending.poll(cx, &mut has_sent).is_ready();
            if is_over || has_sent {
                sending.moved = now;
                worked = true;
            } else if now >= sending.moved + engine.settings.keepalive_timeout {
                engine.stats.stalled += 1;
                sending.stream.send_reset(Reason::CANCEL);
                (is_over, worked) = (true, true);
            }
            if is_over {
                self.sending.swap_remove(at);
                self.calls.remove(index as usize);
            } else {
                at += 1;
            }
        }
        worked
    }

    /// Does what its time has come for. Ready: the connection ends.
    fn attend(&mut self, cx: &mut Context<'_>, engine: &mut Engine) -> Poll<()> {
        match engine.ending {
            Ending::Open => {}
            Ending::Draining => {
                if self.upkeep.leave(None) {
                    self.h2.graceful_shutdown();
                }
            }
            Ending::Closed => self.take_leave(engine),
        }
        if self.stuck_at(engine).is_some_and(|at| at <= self.now) {
            engine.stats.stalled += 1;
            return Poll::Ready(());
        }
        while self.alarms.poll(cx).is_ready() {
            let now = Instant::now();
            while let Some(id) = self.alarms.next_due(now) {
                self.expire(id, now, engine);
            }
            if now >= self.upkeep.next() {
                self.let_go_of_cancelled(cx, engine);
                let is_idle = self.calls.is_empty() && self.h2.has_streams();
                match self.upkeep.look(cx, &engine.settings, now, is_idle) {
                    Verdict::Stay => {}
                    Verdict::Leave => self.h2.graceful_shutdown(),
                    Verdict::Stalled => {
                        engine.stats.stalled += 1;
                        return Poll::Ready(());
                    }
                    Verdict::End => self.take_leave(engine),
                }
            }
            self.alarms.set_anew(self.upkeep.next());
        }
        Poll::Pending
    }

    /// Tells when this connection ends unless its client reads. While others wait for room that is soon, for whoever
    /// keeps more of it than everybody may.
    fn stuck_at(&self, engine: &Engine) -> Option<Instant> {
        self.upkeep.stuck_at(&engine.settings, engine.is_pressed() && self.room.unread() > SMALL)
    }

    /// Tells those who still wait that the connection ends, which it does once that is written.
    fn take_leave(&mut self, engine: &mut Engine) {
        self.is_ending = true;
        for (index, held) in std::mem::take(&mut self.calls) {
            self.leave(&held, CallId { generation: held.generation, index: index as u32 }, engine);
            if !matches!(held.stage, Stage::Sending(_)) {
                self.refuse(held.call, Refusal::Draining, engine);
            }
        }
    }

    /// Ends a call whose time is over.
    fn expire(&mut self, id: CallId, now: Instant, engine: &mut Engine) {
        let is_waiting = |held: &Held| !matches!(held.stage, Stage::Sending(_));
        if !self.calls.get(id.index as usize).is_some_and(|held| held.generation == id.generation && is_waiting(held)) {
            return;
        }
        let Some(held) = self.release(id) else { return };
        self.leave(&held, id, engine);
        let refusal = if now < held.call.due { Refusal::BodyTimeout } else { Refusal::Deadline };
        self.refuse(held.call, refusal, engine);
    }

    /// Sends a client away that does nothing but keep us busy. Tells whether there is something to be written.
    fn calm(&mut self, now: Instant, engine: &mut Engine) -> bool {
        let answered = std::mem::take(&mut self.answered);
        self.has_answered |= answered > 0;
        if self.upkeep.is_calm(answered, engine.settings.ping_interval, now) {
            return false;
        }
        engine.stats.calmed += 1;
        self.h2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        true
    }

    fn next_id(&mut self) -> CallId {
        self.generation = self.generation.wrapping_add(1);
        CallId { generation: self.generation, index: self.calls.vacant_key() as u32 }
    }

    /// Keeps a call, and looks at it again when it is due.
    fn hold(&mut self, id: CallId, call: Call, stage: Stage, due: Instant) {
        self.calls.insert(Held { call, generation: id.generation, stage });
        self.alarms.set(due, id);
        let calls = &self.calls;
        self.alarms.thin_out(calls.len(), |id| {
            calls.get(id.index as usize).is_some_and(|held| held.generation == id.generation)
        });
    }

    fn release(&mut self, id: CallId) -> Option<Held> {
        self.calls.get(id.index as usize).filter(|held| held.generation == id.generation)?;
        self.calls.try_remove(id.index as usize)
    }

    fn leave(&self, held: &Held, id: CallId, engine: &mut Engine) {
        if let Some(token) = held.stage.token() {
            engine.flights.leave(token, Waiter { seat: self.seat, call: id });
        }
    }

    fn let_go_of_cancelled(&mut self, cx: &mut Context<'_>, engine: &mut Engine) {
        let seat = self.seat;
        self.calls.retain(|index, held| {
            let reset = match &mut held.stage {
                Stage::Sending(sending) => sending.stream.poll_reset(cx),
                _ => held.call.respond.poll_reset(cx),
            };
            if reset.is_ready() {
                engine.stats.cancelled(held.call.method);
                if let Some(token) = held.stage.token() {
                    let call = CallId { generation: held.generation, index: index as u32 };
                    engine.flights.leave(token, Waiter { seat, call });
                }
            }
            reset.is_pending()
        });
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Not while it is lent: a second panic would end the process.
        let Ok(mut engine) = self.engine.try_borrow_mut() else { return };
        for (index, held) in &self.calls {
            engine.stats.cancelled(held.call.method);
            self.leave(held, CallId { generation: held.generation, index: index as u32 }, &mut engine);
        }
        engine.rise(self.seat);
    }
}

/// A connection whose panics end it and nothing else.
pub struct Contained {
    connection: Option<Pin<Box<Connection>>>,
    engine: Rc<RefCell<Engine>>,
}

impl Contained {
    pub fn new(connection: Connection) -> Self {
        let engine = Rc::clone(&connection.engine);
        Self { connection: Some(Box::pin(connection)), engine }
    }
}

impl Future for Contained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = &mut self.connection else { return Poll::Ready(()) };
        match catch_unwind(AssertUnwindSafe(|| connection.poll_rounds(cx))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(_) => self.engine.borrow_mut().stats.panics += 1,
        }
        let connection = self.connection.take();
        if catch_unwind(AssertUnwindSafe(|| drop(connection))).is_err() {
            self.engine.borrow_mut().stats.panics += 1;
        }
        // What its client had not read is gone with it.
        self.engine.borrow_mut().offer_room();
        Poll::Ready(())
    }
}

/// What a request's headers say.
struct Heading {
    /// `None` where the caller sets no deadline.
    timeout: Option<Duration>,
    has_bad_timeout: bool,
    encoding: Encoding,
    metadata: Vec<(String, Vec<u8>)>,
}

impl Heading {
    /// Reads headers, each once: looking one up costs more than passing over it. What is not gRPC is refused in plain
    /// HTTP.
    fn read(request: &Request<RecvStream>, settings: &Settings) -> Result<Self, StatusCode> {
        if request.method() != Method::POST {
            return Err(StatusCode::METHOD_NOT_ALLOWED);
        }
        let mut is_grpc = false;
        let mut heading =
            Self { timeout: None, has_bad_timeout: false, encoding: Encoding::Identity, metadata: Vec::new() };
        for (name, value) in request.headers() {
            let value = value.as_bytes();
            match name.as_str() {
                "content-type" => is_grpc = value.starts_with(b"application/grpc"),
                "grpc-timeout" => {
                    heading.timeout = metadata::timeout(value);
                    heading.has_bad_timeout = heading.timeout.is_none();
                }
                "grpc-encoding" => heading.encoding = Encoding::read(value),
                key if settings.python_keys.contains(name) => {
                    let values = metadata::values_of(key, value).into_iter();
                    heading.metadata.extend(values.map(|value| (key.to_owned(), value)));
                }
                _ => {}
            }
        }
        if is_grpc { Ok(heading) } else { Err(StatusCode::UNSUPPORTED_MEDIA_TYPE) }
    }
}
