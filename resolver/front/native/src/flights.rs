//! What Python was asked and has not answered. Equal plain questions share one flight.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashMap;
use slab::Slab;

use crate::crossing::{Peer, Token};
use crate::engine::Course;
use crate::framing::Charge;
use crate::room::Reserve;

/// A connection's place in the front; a place is given again, its generation is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    pub index: u32,
    pub generation: u32,
}

/// A call of one connection, likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId {
    pub generation: u32,
    pub index: u32,
}

/// Who waits for a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    pub seat: Seat,
    pub call: CallId,
}

/// One question that is out.
#[derive(Debug)]
pub struct Flight {
    generation: u32,
    /// The identifiers of a plain question with their positions.
    pub identifiers: Vec<(u32, Bytes)>,
    pub course: Course,
    pub is_batch: bool,
    pub waiters: Vec<Waiter>,
    peer: Arc<Peer>,
    due: Instant,
    era: u64,
    /// Room for what it brings: kept until it has, whoever still waits for it.
    pub reserve: Option<Reserve>,
    /// Room that what it brought takes, on its way to its first waiter.
    pub charge: Option<Charge>,
}

impl Flight {
    /// Gives the identifier under which others may join it.
    fn shared(&self) -> Option<&Bytes> {
        match &self.identifiers[..] {
            [(_, identifier)] if !self.is_batch && self.course.is_usual() => Some(identifier),
            _ => None,
        }
    }

    /// Is what it brings the same for everybody?
    pub fn is_public(&self) -> bool {
        self.peer.identity.is_none()
    }
}

/// All flights.
pub struct Flights {
    flights: Slab<Flight>,
    shared: HashMap<Bytes, Token>,
    most: usize,
    generation: u32,
    /// Grows with each change: a question that was out before one is not shared after it.
    era: u64,
    swept: Option<Instant>,
}

/// Too many flights are out.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// Overdue flights are looked for no more often than this while there is no room.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// How long after its time an answer is still waited for, since it may still be kept.
const OVERDUE: Duration = Duration::from_secs(10);

impl Flights {
    pub fn new(most: usize) -> Self {
        Self { flights: Slab::new(), shared: HashMap::new(), most, generation: 0, era: 0, swept: None }
    }

    pub fn len(&self) -> usize {
        self.flights.len()
    }

    /// Notes that something changed.
    pub fn changed(&mut self) {
        self.era += 1;
    }

    /// Joins the flight that an equal question of an equally known caller has begun, if it is worth waiting for.
    pub fn join(&mut self, identifier: &[u8], peer: &Peer, waiter: Waiter, now: Instant) -> Option<Token> {
        let token = *self.shared.get(identifier)?;
        let flight = self.flights.get_mut(index_of(token))?;
        if flight.era != self.era || flight.due <= now || flight.peer.identity != peer.identity {
            return None;
        }
        flight.waiters.push(waiter);
        Some(token)
    }

    /// Begins a flight. One that asks for a single identifier, in the usual way, is shared from now on.
    #[expect(clippy::too_many_arguments, reason = "all of what a question is made of")]
    pub fn begin(
        &mut self,
        identifiers: Vec<(u32, Bytes)>,
        course: Course,
        is_batch: bool,
        waiter: Waiter,
        peer: &Arc<Peer>,
        due: Instant,
        now: Instant,
    ) -> Result<Token, Full> {
        if self.flights.len() >= self.most {
            self.sweep(now);
            if self.flights.len() >= self.most {
                return Err(Full);
            }
        }
        self.generation = self.generation.wrapping_add(1);
        let flight = Flight {
            generation: self.generation,
            identifiers,
            course,
            is_batch,
            waiters: vec![waiter],
            peer: Arc::clone(peer),
            due,
            era: self.era,
            reserve: None,
            charge: None,
        };
        let shared = flight.shared().cloned();
        let token = u64::from(self.generation) << 32 | self.flights.insert(flight) as u64;
        if let Some(identifier) = shared {
            self.shared.insert(identifier, token);
        }
        Ok(token)
    }

    /// Ends a flight; `None` where it is not out any more.
    pub fn end(&mut self, token: Token) -> Option<Flight> {
        let index = index_of(token);
        if self.flights.get(index)?.generation != (token >> 32) as u32 {
            return None;
        }
        let flight = self.flights.remove(index);
        if let Some(identifier) = flight.shared()
            && let Some((identifier, other)) = self.shared.remove_entry(identifier)
            && other != token
        {
            // Another one is out for it, begun after a change.
            self.shared.insert(identifier, other);
        }
        Some(flight)
    }

    /// Keeps room for what a flight brings. It is brought once, for all who wait for it: the first one's room is kept.
    pub fn keep_room(&mut self, token: Token, reserve: impl FnOnce() -> Reserve) {
        if let Some(flight) = self.flights.get_mut(index_of(token))
            && flight.generation == (token >> 32) as u32
        {
            flight.reserve.get_or_insert_with(reserve);
        }
    }

    /// Takes a waiter off a flight, which goes on.
    pub fn leave(&mut self, token: Token, waiter: Waiter) {
        let Some(flight) = self.flights.get_mut(index_of(token)) else { return };
        if flight.generation == (token >> 32) as u32
            && let Some(at) = flight.waiters.iter().rposition(|held| *held == waiter)
        {
            flight.waiters.swap_remove(at);
        }
    }

    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now < swept + SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        let overdue: Vec<Token> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.due + OVERDUE <= now)
            .map(|(index, flight)| u64::from(flight.generation) << 32 | index as u64)
            .collect();
        for token in overdue {
            self.end(token);
        }
    }
}

fn index_of(token: Token) -> usize {
    (token & u64::from(u32::MAX)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::Budget;
    use crate::room::{Answers, Breadth, Lack, Room};

    struct Bench {
        flights: Flights,
        peer: Arc<Peer>,
        now: Instant,
    }

    impl Bench {
        fn new(most: usize) -> Self {
            let peer = Arc::new(Peer { address: "ipv4:127.0.0.1:1".into(), identity: None });
            Self { flights: Flights::new(most), peer, now: Instant::now() }
        }

        fn begin(&mut self, identifier: &'static str, number: u32) -> Result<Token, Full> {
            let identifiers = vec![(0, Bytes::from_static(identifier.as_bytes()))];
            let due = self.now + Duration::from_secs(5);
            self.flights.begin(identifiers, Course::default(), false, waiter(number), &self.peer, due, self.now)
        }

        fn join(&mut self, identifier: &str, number: u32) -> Option<Token> {
            self.flights.join(identifier.as_bytes(), &self.peer, waiter(number), self.now)
        }
    }

    fn waiter(number: u32) -> Waiter {
        Waiter { seat: Seat { index: 0, generation: 0 }, call: CallId { generation: number, index: number } }
    }

    #[test]
    fn equal_questions_share_a_flight_until_it_ends() {
        let mut bench = Bench::new(9);
        let token = bench.begin("88.1/a", 1).expect("room");
        assert_eq!(bench.join("88.1/a", 2), Some(token));
        assert_eq!(bench.join("88.1/b", 3), None);
        bench.flights.leave(token, waiter(1));
        assert_eq!(bench.flights.end(token).map(|flight| flight.waiters), Some(vec![waiter(2)]));
        assert!(bench.flights.end(token).is_none());
        assert_eq!(bench.join("88.1/a", 4), None);
    }

    #[test]
    fn room_is_kept_until_a_flight_ends_whoever_waits_for_it() {
        let mut bench = Bench::new(9);
        let (room, answers) = (Room::default(), Answers::new(Budget::new(1 << 20), 1 << 10));
        let lack = || room.lack(Breadth::Many, &answers, false);
        let token = bench.begin("88.1/a", 1).expect("room");
        bench.flights.keep_room(token, || room.reserve(Breadth::Many, 1, &answers));
        bench.flights.keep_room(token, || unreachable!("it is kept once"));
        bench.flights.leave(token, waiter(1));
        assert_eq!(lack(), Some(Lack::Own));
        drop(bench.flights.end(token));
        assert_eq!(lack(), None);
    }

    #[test]
    fn what_was_asked_before_a_change_is_not_shared_after_it() {
        let mut bench = Bench::new(9);
        let before = bench.begin("88.1/a", 1).expect("room");
        bench.flights.changed();
        assert_eq!(bench.join("88.1/a", 2), None);
        let after = bench.begin("88.1/a", 2).expect("room");
        assert!(bench.flights.end(before).is_some());
        assert_eq!(bench.join("88.1/a", 3), Some(after));
    }

    #[test]
    fn callers_who_are_known_otherwise_do_not_share() {
        let mut bench = Bench::new(9);
        bench.begin("88.1/a", 1).expect("room");
        bench.peer = Arc::new(Peer { address: String::new(), identity: Some(b"operator".to_vec()) });
        assert_eq!(bench.join("88.1/a", 2), None);
    }

    #[test]
    fn there_are_only_so_many_and_overdue_ones_make_room() {
        let mut bench = Bench::new(1);
        let lost = bench.begin("88.1/a", 1).expect("room");
        assert_eq!(bench.begin("88.1/b", 2), Err(Full));
        bench.now += Duration::from_secs(6);
        assert_eq!(bench.join("88.1/a", 3), None, "its time is over");
        bench.now += OVERDUE;
        let next = bench.begin("88.1/b", 2).expect("room");
        assert_eq!(index_of(lost), index_of(next));
        assert!(bench.flights.end(lost).is_none());
    }
}
