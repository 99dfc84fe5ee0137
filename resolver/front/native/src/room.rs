//! Room for answers. What has been encoded exists until its client takes it: how much of that there may be is judged
//! here, for one connection and for all of them.
//!
//! Nothing that exists is thrown away for it. A call waits before it is looked up or asked of Python, and what is at
//! Python counts as what it will most likely be: by the answers that its connection got before.

use bytes::Bytes;

use crate::framing::{Budget, Charge};
use crate::settings::Kind;

/// While a connection has so much that its client has not taken, or is to get that much, its calls wait.
pub const UNREAD: usize = 4 * 1024 * 1024;

/// What is smaller is not counted: the stream on which it goes costs more, and streams are bounded by their number.
const COUNTED_FROM: usize = 1024;

/// At least this is expected of an identifier that Python is asked for, and at most this of a call that has had no large
/// answers: whoever has had small ones can still be given large ones to as many calls as Python then has.
const EXPECTED_OF_ONE: usize = 32 * 1024;
const EXPECTED_OF_MANY: usize = 512 * 1024;

/// An answer of this size is handed over at once, whatever the client has room for: there is one at most for each of
/// its calls. A larger one goes as the client takes it.
pub const AT_ONCE: usize = 16 * 1024;

/// Whose answers are no larger never waits for what others do not take.
pub const SMALL: usize = 16 * 1024;

/// What a call can bring: the answer of one identifier, or as much as an answer can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Breadth {
    One,
    Many,
}

impl Breadth {
    pub const ALL: [Self; 2] = [Self::One, Self::Many];

    pub fn of(kind: Kind) -> Self {
        match kind {
            Kind::Batch | Kind::Other => Self::Many,
            Kind::One | Kind::Refer | Kind::Health => Self::One,
        }
    }
}

/// Whose room is lacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The connection's own: its client has to take what it has asked for.
    Own,
    /// That of all connections.
    Everybodys,
}

/// The answers of all connections.
pub struct Answers {
    held: Budget,
    /// What a broad call brings these days; of a connection that has had none nothing else is known. At first nothing
    /// is: it is as much as it can be.
    usual: usize,
}

impl Answers {
    pub fn new(held: Budget, answer_octets: usize) -> Self {
        Self { held, usual: answer_octets }
    }

    /// May more be asked for? Half of the room is for what comes larger than it was expected.
    pub fn have_room(&self) -> bool {
        self.held.taken() <= self.held.most() / 2
    }

    /// May so much exist beside all others, now that it does?
    pub fn have_room_for(&self, octets: usize) -> bool {
        self.held.taken() + octets <= self.held.most()
    }

    pub fn octets(&self) -> usize {
        self.held.taken()
    }
}

/// The answers of one connection: those that its client has not taken, and those that Python is asked for.
pub struct Room {
    unread: Budget,
    asked: [Budget; Breadth::ALL.len()],
    /// What its calls bring; `None`: it has had no such answer.
    expected: [Option<usize>; Breadth::ALL.len()],
}

/// Kept for what Python was asked for.
#[derive(Debug)]
pub struct Reserve {
    _own: Charge,
    _all: Charge,
}

impl Default for Room {
    fn default() -> Self {
        // One identifier brings little until the contrary is seen. What many bring nobody knows.
        Self {
            unread: Budget::new(UNREAD),
            asked: [Budget::new(UNREAD), Budget::new(UNREAD)],
            expected: [Some(0), None],
        }
    }
}

impl Room {
    pub fn unread(&self) -> usize {
        self.unread.taken()
    }

    /// Tells why no call of this breadth can be taken up now. `is_behind`: others have waited longer for the room of all.
    pub fn lack(&self, breadth: Breadth, answers: &Answers, is_behind: bool) -> Option<Lack> {
        let unread = self.unread.taken();
        if unread + self.asked[breadth as usize].taken() >= UNREAD {
            return Some(Lack::Own);
        }
        let is_small = unread.max(self.expected[breadth as usize].unwrap_or(answers.usual)) <= SMALL;
        (!is_small && (is_behind || !answers.have_room())).then_some(Lack::Everybodys)
    }

    /// Keeps room for what Python is asked for, until it has answered: also when its caller goes away before.
    pub fn reserve(&self, breadth: Breadth, identifiers: usize, answers: &Answers) -> Reserve {
        let least = identifiers.saturating_mul(EXPECTED_OF_ONE).min(EXPECTED_OF_MANY);
        let expected = self.expected[breadth as usize];
        // The first broad answer of a connection is waited for: it tells how many there may be at once.
        let own = expected.map_or(UNREAD, |expected| expected.max(least));
        Reserve {
            _own: self.asked[breadth as usize].charge_anyway(own),
            _all: answers.held.charge_anyway(expected.unwrap_or(answers.usual)),
        }
    }

    /// Learns from an answer what is to be expected: a large one is forgotten slowly.
    pub fn learn(&mut self, breadth: Breadth, octets: usize, answers: &mut Answers) {
        let expected = &mut self.expected[breadth as usize];
        *expected = Some(fading(expected.unwrap_or(0), octets));
        if breadth == Breadth::Many {
            answers.usual = fading(answers.usual, octets);
        }
    }

    /// Counts an answer as unread until nobody holds it any more: h2 lets go of it when it has written it, and when
    /// its stream is reset.
    pub fn hold(&self, wire: Bytes, answers: &Answers) -> Bytes {
        if wire.len() < COUNTED_FROM {
            return wire;
        }
        let (own, all) = (self.unread.charge_anyway(wire.len()), answers.held.charge_anyway(wire.len()));
        Bytes::from_owner(Unread { wire, _own: own, _all: all })
    }
}

/// An answer that is counted.
struct Unread {
    wire: Bytes,
    _own: Charge,
    _all: Charge,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.wire
    }
}

/// The largest of late: a smaller one takes an eighth off.
fn fading(before: usize, now: usize) -> usize {
    now.max(before - before / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: Breadth = Breadth::Many;

    #[test]
    fn what_is_not_taken_keeps_calls_waiting_until_it_is() {
        let (room, answers) = (Room::default(), Answers::new(Budget::new(64 << 20), 3 << 20));
        let held: Vec<Bytes> = (0..2).map(|_| room.hold(Bytes::from(vec![7; UNREAD / 2]), &answers)).collect();
        assert_eq!((room.unread(), answers.octets()), (UNREAD, UNREAD));
        assert_eq!(Breadth::ALL.map(|breadth| room.lack(breadth, &answers, false)), [Some(Lack::Own); 2]);
        let mut rest = held.into_iter().next().expect("two");
        let piece = rest.split_to(10);
        drop(rest);
        assert_eq!(room.unread(), UNREAD / 2, "all of it is there as long as a piece is");
        drop(piece);
        assert_eq!((room.unread(), answers.octets(), room.lack(MANY, &answers, false)), (0, 0, None));
    }

    #[test]
    fn what_is_smaller_than_its_stream_is_not_counted() {
        let (room, answers) = (Room::default(), Answers::new(Budget::new(64 << 20), 3 << 20));
        let _held = room.hold(Bytes::from(vec![7; COUNTED_FROM - 1]), &answers);
        assert_eq!((room.unread(), answers.octets()), (0, 0));
    }

    #[test]
    fn a_first_broad_answer_is_waited_for_and_tells_how_many_there_may_be() {
        let (mut room, mut answers) = (Room::default(), Answers::new(Budget::new(64 << 20), 3 << 20));
        let at_once = |room: &Room, answers: &Answers, breadth, identifiers| {
            let mut reserves = Vec::new();
            while room.lack(breadth, answers, false).is_none() {
                reserves.push(room.reserve(breadth, identifiers, answers));
            }
            reserves.len()
        };
        assert_eq!(at_once(&room, &answers, MANY, 14), 1);
        assert_eq!(at_once(&room, &answers, Breadth::One, 1), 128);
        room.learn(MANY, 100, &mut answers);
        assert_eq!([1, 10, 1_000].map(|identifiers| at_once(&room, &answers, MANY, identifiers)), [128, 13, 8]);
        room.learn(MANY, 2_700_000, &mut answers);
        assert_eq!(at_once(&room, &answers, MANY, 14), 2);
        for _ in 0..50 {
            room.learn(MANY, 100, &mut answers);
        }
        assert_eq!(at_once(&room, &answers, MANY, 1_000), 8);
        assert_eq!(answers.octets(), 0);
    }

    #[test]
    fn when_there_is_no_room_for_all_whoever_gets_small_answers_does_not_wait() {
        let mut answers = Answers::new(Budget::new(8 << 20), 3 << 20);
        let (mut large, mut small, fresh) = (Room::default(), Room::default(), Room::default());
        large.learn(MANY, 3 << 20, &mut answers);
        small.learn(MANY, 300, &mut answers);
        let held: Vec<Bytes> = (0..3).map(|_| large.hold(Bytes::from(vec![7; 2 << 20]), &answers)).collect();
        let lacks = |breadth| [&large, &small, &fresh].map(|room| room.lack(breadth, &answers, false));
        assert_eq!(lacks(MANY), [Some(Lack::Own), None, Some(Lack::Everybodys)]);
        assert_eq!(lacks(Breadth::One), [Some(Lack::Own), None, None]);
        assert!(answers.have_room_for(2 << 20) && !answers.have_room_for((2 << 20) + 1));
        drop(held);
        assert_eq!(lacks(MANY), [None; 3]);
        let behind = [&large, &small, &fresh].map(|room| room.lack(MANY, &answers, true));
        assert_eq!(behind, [Some(Lack::Everybodys), None, Some(Lack::Everybodys)]);
    }
}
