//! Answers of nodes below as nearly all are: a record of their own, all of it for everybody.
//!
//! What `resolver/federation/checking.py` makes of such an answer is made here, byte for byte. Whatever is not like that
//! is left to it, what is wrong above all: nothing is refused here.

#[cfg(not(any(test, fuzzing)))]
pub mod python;

use bytes::{BufMut, BytesMut};

use crate::request::{put_frame_head, put_varint};

/// Longer ones are left to Python, which knows how long they may be.
const LONGEST: usize = 64 * 1024;

/// A node's identifier has so many, and is printable; one that is not ASCII is left to Python as well.
const NODE_BYTES: usize = 128;

/// Numbers of the wire: `OUTCOME_FOUND`, `STANDING_AUTHORITATIVE`, `STANDING_CACHED`, `TRUST_NOT_TRUSTED`, and the
/// permission that lets everybody read a value.
const FOUND: u64 = 1;
const AUTHORITATIVE: u64 = 1;
const CACHED: u64 = 3;
const NOT_TRUSTED: u64 = 3;
const PUBLIC_READ: u64 = 2;

/// What was asked for: the canonical key, the folded prefix by whose delegation it was, and its case rule.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub key: &'a [u8],
    pub below: &'a [u8],
    pub is_case_sensitive: bool,
}

/// Who answered, by what and when (Unix time in seconds), what that is worth, and how long it is believed at most.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    pub child: &'a str,
    pub protocol: u64,
    pub now: f64,
    pub positive_for: f64,
    pub trust: u64,
}

/// An answer as this node gives it, framed, and for how many seconds it may be kept (0: not).
#[derive(Debug, PartialEq)]
pub struct Usual {
    pub frame: BytesMut,
    pub keep_for: f64,
}

/// Gives the answers in a `BatchResolveResponse` that has nothing else.
pub fn answers(mut octets: &[u8]) -> Option<Vec<&[u8]>> {
    let mut answers = Vec::new();
    while !octets.is_empty() {
        let (1, Payload::Octets(result)) = field(&mut octets)? else { return None };
        let mut rest = result;
        let (1, Payload::Octets(answer)) = field(&mut rest)? else { return None };
        if !rest.is_empty() {
            return None;
        }
        answers.push(answer);
    }
    Some(answers)
}

/// Makes an answer this node's own, where it is a usual one.
pub fn usual(mut octets: &[u8], wanted: Wanted<'_>, terms: Terms<'_>) -> Option<Usual> {
    if octets.len() > LONGEST {
        return None;
    }
    let (mut record, mut provenance, mut version) = (None, None, 0);
    let (mut outcome, mut standing) = (0, 0);
    // Each once, in any order: a node joins its answers of pieces.
    while !octets.is_empty() {
        match field(&mut octets)? {
            (1, Payload::Number(number)) if outcome == 0 => outcome = number,
            (2, Payload::Octets(part)) if record.is_none() => record = Some(part),
            (4, Payload::Number(number)) if standing == 0 => standing = number,
            (5, Payload::Octets(part)) if provenance.is_none() => provenance = Some(part),
            (7, Payload::Number(number)) if version == 0 => version = number,
            _ => return None,
        }
    }
    if outcome != FOUND || standing != AUTHORITATIVE {
        return None;
    }
    let (record, provenance) = (record?, provenance?);
    let lifetime = lifetime_of_record(record, wanted, terms.now)?;
    let (authority, prefix) = origin(provenance, wanted)?;
    let keep_for = if terms.trust == NOT_TRUSTED { 0.0 } else { lifetime.min(terms.positive_for).max(0.0) };

    let mut hop = BytesMut::new();
    put_octets(&mut hop, 1, terms.child.as_bytes());
    put_number(&mut hop, 2, terms.protocol);
    put_number(&mut hop, 3, (terms.now * 1_000.0).round_ties_even() as u64);
    let mut said = BytesMut::new();
    put_octets(&mut said, 1, authority);
    put_octets(&mut said, 2, prefix);
    put_octets(&mut said, 3, &hop);
    put_number(&mut said, 4, if keep_for > 0.0 { (terms.now + keep_for) as u64 } else { 0 });
    put_number(&mut said, 5, terms.trust);
    let mut answer = BytesMut::with_capacity(record.len() + said.len() + 32);
    put_number(&mut answer, 1, FOUND);
    put_octets(&mut answer, 2, record);
    put_number(&mut answer, 4, CACHED);
    put_octets(&mut answer, 5, &said);
    put_number(&mut answer, 7, version);
    let mut result = BytesMut::with_capacity(answer.len() + 8);
    put_octets(&mut result, 1, &answer);
    let mut frame = BytesMut::with_capacity(result.len() + 8);
    put_frame_head(&mut frame, result.len());
    frame.extend_from_slice(&result);
    Some(Usual { frame, keep_for })
}

/// Tells for how many seconds a record may be kept (infinite: it does not say); `None`: it is not a usual one, or not
/// the one that was asked for.
fn lifetime_of_record(octets: &[u8], wanted: Wanted<'_>, now: f64) -> Option<f64> {
    let mut longest = f64::INFINITY;
    let mut has_identifier = false;
    for each in Ordered::of(octets, 2) {
        match each? {
            (1, Payload::Octets(identifier)) => has_identifier = is_key(identifier, wanted),
            (2, Payload::Octets(value)) => longest = longest.min(lifetime_of_value(value, now)?),
            (3, text) => text.check_text()?,
            (4 | 5, Payload::Number(number)) => check_number(number, i64::MAX as u64)?,
            _ => return None,
        }
    }
    has_identifier.then_some(longest)
}

/// The same for a value, which must be for everybody.
fn lifetime_of_value(octets: &[u8], now: f64) -> Option<f64> {
    let mut longest = None;
    let mut permissions = 0;
    for each in Ordered::of(octets, 8) {
        match each? {
            (1, Payload::Number(number)) => check_number(number, u64::from(u32::MAX))?,
            (2, text) => text.check_text()?,
            (3, Payload::Octets(data)) if !data.is_empty() => {}
            (4, Payload::Number(seconds @ 0..=0xFFFF_FFFF)) => longest = Some(seconds as f64),
            // Either the one or the other.
            (5, Payload::Number(moment @ 0..=0x7FFF_FFFF_FFFF_FFFF)) if longest.is_none() => {
                longest = Some(moment as f64 - now);
            }
            (6, Payload::Number(number)) => check_number(number, i64::MAX as u64)?,
            (7, Payload::Number(number @ 1..=0xFFFF_FFFF)) => permissions = number,
            (8, Payload::Octets(reference)) => check_reference(reference)?,
            _ => return None,
        }
    }
    (permissions & PUBLIC_READ != 0).then_some(longest.unwrap_or(f64::INFINITY))
}

fn check_reference(octets: &[u8]) -> Option<()> {
    for each in Ordered::of(octets, 0) {
        match each? {
            (1, text) => text.check_text()?,
            (2, Payload::Number(number)) => check_number(number, u64::from(u32::MAX))?,
            _ => return None,
        }
    }
    Some(())
}

/// Gives whose word an answer is, by its provenance, and the prefix under which it is said: one within which it may be.
fn origin<'a>(octets: &'a [u8], wanted: Wanted<'_>) -> Option<(&'a [u8], &'a [u8])> {
    let mut fields = Ordered::of(octets, 0);
    let (1, Payload::Octets(authority)) = fields.next()?? else { return None };
    let (2, prefix) = fields.next()?? else { return None };
    let is_node =
        (1..=NODE_BYTES).contains(&authority.len()) && authority.iter().all(|octet| (b' '..=b'~').contains(octet));
    if !is_node || fields.next().is_some() {
        return None;
    }
    prefix.check_text()?;
    let Payload::Octets(prefix) = prefix else { return None };
    let folded = prefix.to_ascii_uppercase();
    let asked = wanted.key.split(|octet| *octet == b'/').next()?;
    (is_within(&folded, wanted.below) && is_within(asked, &folded)).then_some((authority, prefix))
}

/// Is this folded prefix the one above, or derived from it (by segments)?
fn is_within(prefix: &[u8], above: &[u8]) -> bool {
    prefix.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest[0] == b'.')
}

/// Is this a spelling of the key?
fn is_key(identifier: &[u8], wanted: Wanted<'_>) -> bool {
    if identifier == wanted.key {
        return true;
    }
    // Case rules are of ASCII letters alone, so that a spelling is as long as its key.
    let Some(slash) = wanted.key.iter().position(|octet| *octet == b'/') else { return false };
    let is_suffix_folded = !wanted.is_case_sensitive;
    identifier.len() == wanted.key.len()
        && std::str::from_utf8(identifier).is_ok()
        && identifier[..slash].to_ascii_uppercase() == wanted.key[..slash]
        && (identifier[slash..] == wanted.key[slash..]
            || is_suffix_folded && identifier[slash..].to_ascii_uppercase() == wanted.key[slash..])
}

/// What stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload<'a> {
    Number(u64),
    Octets(&'a [u8]),
}

impl Payload<'_> {
    /// Text that is there: protobuf writes none that is empty, and reads none that is not UTF-8.
    fn check_text(&self) -> Option<()> {
        matches!(self, Self::Octets(text) if !text.is_empty() && std::str::from_utf8(text).is_ok()).then_some(())
    }
}

/// Numbers that are 0 are not written either.
fn check_number(number: u64, most: u64) -> Option<()> {
    (1..=most).contains(&number).then_some(())
}

/// The fields of a message in the order of their numbers, each once but for one of them: as protobuf writes them, so
/// that the bytes may be passed on as they are.
struct Ordered<'a> {
    octets: &'a [u8],
    repeated: u64,
    last: u64,
}

impl<'a> Ordered<'a> {
    fn of(octets: &'a [u8], repeated: u64) -> Self {
        Self { octets, repeated, last: 0 }
    }
}

impl<'a> Iterator for Ordered<'a> {
    /// `None`: it is not such a message.
    type Item = Option<(u64, Payload<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.octets.is_empty() {
            return None;
        }
        let field = field(&mut self.octets).filter(|(number, _)| {
            let is_next = *number > self.last || *number == self.repeated && self.last == self.repeated;
            self.last = *number;
            is_next
        });
        Some(field)
    }
}

/// Takes a field off: its number, and a varint or bytes. `None`: there is something else.
fn field<'a>(octets: &mut &'a [u8]) -> Option<(u64, Payload<'a>)> {
    let tag = varint(octets)?;
    let payload = match tag & 7 {
        0 => Payload::Number(varint(octets)?),
        2 => {
            let length = usize::try_from(varint(octets)?).ok()?;
            let (part, rest) = octets.split_at_checked(length)?;
            *octets = rest;
            Payload::Octets(part)
        }
        _ => return None,
    };
    Some((tag >> 3, payload))
}

/// Takes a varint off that is as short as it can be, of nine bytes at most: longer ones are negative numbers.
fn varint(octets: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for (place, octet) in octets.iter().take(9).enumerate() {
        number |= u64::from(octet & 0x7F) << (7 * place);
        if *octet < 0x80 {
            *octets = &octets[place + 1..];
            return (*octet != 0 || place == 0).then_some(number);
        }
    }
    None
}

fn put_octets(into: &mut BytesMut, number: u8, octets: &[u8]) {
    into.put_u8(number << 3 | 2);
    put_varint(into, octets.len() as u64);
    into.extend_from_slice(octets);
}

/// Writes a number, unless it is 0.
fn put_number(into: &mut BytesMut, number: u8, value: u64) {
    if value > 0 {
        into.put_u8(number << 3);
        put_varint(into, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms<'_> = Terms { child: "88.1", protocol: 1, now: 1_800_000_000.25, positive_for: 100.0, trust: 2 };
    const WANTED: Wanted<'_> = Wanted { key: b"88.1.5/A", below: b"88.1", is_case_sensitive: false };

    fn message(fields: &[(u8, Payload<'_>)]) -> Vec<u8> {
        let mut octets = BytesMut::new();
        for (number, payload) in fields {
            match payload {
                Payload::Number(value) => {
                    octets.put_u8(number << 3);
                    put_varint(&mut octets, *value);
                }
                Payload::Octets(part) => put_octets(&mut octets, *number, part),
            }
        }
        octets.to_vec()
    }

    fn number(value: u64) -> Payload<'static> {
        Payload::Number(value)
    }

    fn value(fields: &[(u8, Payload<'_>)]) -> Vec<u8> {
        message(&[&[(1, number(1)), (2, Payload::Octets(b"URL")), (3, Payload::Octets(b"x"))], fields].concat())
    }

    fn record(identifier: &[u8], values: &[&[u8]]) -> Vec<u8> {
        let values = values.iter().map(|value| (2, Payload::Octets(value)));
        let fields: Vec<_> = [(1, Payload::Octets(identifier))].into_iter().chain(values).collect();
        message(&[&fields[..], &[(4, number(7)), (5, number(8))]].concat())
    }

    fn answer(record: &[u8], authority: &[u8], prefix: &[u8], behind: &[(u8, Payload<'_>)]) -> Vec<u8> {
        let provenance = message(&[(1, Payload::Octets(authority)), (2, Payload::Octets(prefix))]);
        let fields = [
            (1, number(FOUND)),
            (2, Payload::Octets(record)),
            (7, number(300)),
            (4, number(AUTHORITATIVE)),
            (5, Payload::Octets(&provenance)),
        ];
        message(&[&fields[..], behind].concat())
    }

    fn keep_for(fields: &[(u8, Payload<'_>)]) -> Option<f64> {
        let record = record(b"88.1.5/a", &[&value(fields)]);
        usual(&answer(&record, b"88.1", b"88.1", &[]), WANTED, TERMS).map(|said| said.keep_for)
    }

    #[test]
    fn an_answer_becomes_cached_by_one_more_hop_and_with_its_time() {
        let record = record(b"88.1.5/a", &[&value(&[(4, number(60)), (7, number(0b1110))])]);
        let said = usual(&answer(&record, b"88.1", b"88.1.5", &[]), WANTED, TERMS).expect("usual");
        assert!((said.keep_for - 60.0).abs() < 1e-9);
        let hop = message(&[(1, Payload::Octets(b"88.1")), (2, number(1)), (3, number(1_800_000_000_250))]);
        let provenance = message(&[
            (1, Payload::Octets(b"88.1")),
            (2, Payload::Octets(b"88.1.5")),
            (3, Payload::Octets(&hop)),
            (4, number(1_800_000_060)),
            (5, number(2)),
        ]);
        let made = message(&[
            (1, number(FOUND)),
            (2, Payload::Octets(&record)),
            (4, number(CACHED)),
            (5, Payload::Octets(&provenance)),
            (7, number(300)),
        ]);
        let result = message(&[(1, Payload::Octets(&made))]);
        assert_eq!(&said.frame[..], message(&[(1, Payload::Octets(&result))]));
    }

    #[test]
    fn the_shortest_lifetime_counts_and_a_forged_answer_is_not_kept() {
        let public = (7, number(2));
        assert_eq!(keep_for(&[public]), Some(100.0));
        assert_eq!(keep_for(&[(4, number(0)), public]), Some(0.0));
        assert_eq!(keep_for(&[(5, number(1_800_000_010)), public]), Some(9.75));
        assert_eq!(keep_for(&[(5, number(1_700_000_000)), public]), Some(0.0));
        let record = record(b"88.1.5/a", &[&value(&[public])]);
        let forged = Terms { trust: NOT_TRUSTED, ..TERMS };
        let said = usual(&answer(&record, b"88.1", b"88.1", &[]), WANTED, forged).expect("usual");
        assert_eq!(said.keep_for, 0.0);
    }

    #[test]
    fn whatever_else_a_value_says_is_left_to_python() {
        let public = (7, number(2));
        for odd in [
            &[][..],
            &[(7, number(1))],
            &[(7, number(0))],
            &[(4, number(1)), (5, number(1)), public],
            &[(4, number(1 << 32)), public],
            &[public, (4, number(1))],
            &[public, public],
            &[(6, number(0)), public],
            &[public, (8, Payload::Octets(b"\x0a\x00"))],
            &[public, (9, number(1))],
        ] {
            assert_eq!(keep_for(odd), None, "{odd:?}");
        }
        let reference: &[u8] = b"\x0a\x06\x38\x38.1/x\x10\x03";
        assert!(keep_for(&[public, (8, Payload::Octets(reference)), (8, Payload::Octets(reference))]).is_some());
    }

    #[test]
    fn whoever_says_what_was_not_asked_for_is_left_to_python() {
        let public = value(&[(7, number(2))]);
        let is_usual = |identifier: &[u8], authority: &[u8], prefix: &[u8], wanted| {
            usual(&answer(&record(identifier, &[&public]), authority, prefix, &[]), wanted, TERMS).is_some()
        };
        assert!(is_usual(b"88.1.5/A", b"88.1", b"88.1", WANTED));
        assert!(!is_usual(b"88.1.5/B", b"88.1", b"88.1", WANTED));
        assert!(!is_usual(b"88.1.5/AA", b"88.1", b"88.1", WANTED));
        assert!(is_usual(b"88.1.5/A", b"another node", b"88.1", WANTED));
        for authority in [&b""[..], b"a\nb", b"caf\xc3\xa9", &[b'x'; NODE_BYTES + 1]] {
            assert!(!is_usual(b"88.1.5/A", authority, b"88.1", WANTED), "{authority:?}");
        }
        for prefix in [&b""[..], b"88", b"88.2", b"88.15", b"88.1.6", b"88.1.\xff"] {
            assert!(!is_usual(b"88.1.5/A", b"88.1", prefix, WANTED), "{prefix:?}");
        }
        let strict = Wanted { key: b"CN.1/a", below: b"CN.1", is_case_sensitive: true };
        assert!(is_usual(b"cn.1/a", b"88.1", b"cn.1", strict));
        assert!(!is_usual(b"cn.1/A", b"88.1", b"cn.1", strict));
    }

    #[test]
    fn whatever_else_stands_in_an_answer_is_left_to_python() {
        let record = record(b"88.1.5/a", &[]);
        let whole = answer(&record, b"88.1", b"88.1", &[]);
        assert!(usual(&whole, WANTED, TERMS).is_some());
        for (number, payload) in
            [(1, number(1)), (3, Payload::Octets(b"")), (6, number(1)), (8, number(1)), (9, number(1))]
        {
            assert_eq!(usual(&answer(&record, b"88.1", b"88.1", &[(number, payload)]), WANTED, TERMS), None);
        }
        for end in 0..whole.len() {
            assert_eq!(usual(&whole[..end], WANTED, TERMS), None);
        }
        assert_eq!(usual(&vec![0; LONGEST + 1], WANTED, TERMS), None);
    }

    #[test]
    fn a_batch_is_split_where_it_is_nothing_but_answers() {
        let result = |field: u8, octets: &[u8]| message(&[(field, Payload::Octets(octets))]);
        let batch = |results: &[Vec<u8>]| {
            let fields: Vec<_> = results.iter().map(|each| (1, Payload::Octets(each))).collect();
            message(&fields)
        };
        assert_eq!(answers(b""), Some(Vec::new()));
        assert_eq!(answers(&batch(&[result(1, b"a"), result(1, b"")])), Some(vec![&b"a"[..], b""]));
        for odd in
            [batch(&[result(2, b"a")]), batch(&[Vec::new()]), batch(&[[result(1, b"a"), result(1, b"b")].concat()])]
        {
            assert_eq!(answers(&odd), None);
        }
    }
}
