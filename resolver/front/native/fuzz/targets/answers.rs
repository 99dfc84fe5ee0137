//! Answers of nodes below: what is made of one here says what that said, and to nobody who may not read it.

use super::{Field, Tape, fields};
use crate::usual::{Terms, Wanted, answers as split, usual};

const RECORD: u64 = 18;
const STANDING: u64 = 32;
const PROVENANCE: u64 = 42;
const VALUE: u64 = 18;
const PERMISSIONS: u64 = 56;
const EXPIRES_AT: u64 = 32;

const CACHED: u64 = 3;
const PUBLIC_READ: u64 = 2;

/// Reads the case rule, how much the answer is worth, and an answer; the same bytes are read as a batch of them.
pub fn answers(octets: &[u8]) {
    let mut tape = Tape(octets);
    let wanted = Wanted { key: b"88.1.5/A", below: b"88.1", is_case_sensitive: tape.octet() % 2 == 1 };
    let trust = 1 + u64::from(tape.octet() % 3);
    let terms = Terms { child: "88.1", protocol: 1, now: 1_800_000_000.5, positive_for: 100.0, trust };
    let message = tape.rest();
    if let Some(said) = usual(message, wanted, terms) {
        assert!((0.0..=terms.positive_for).contains(&said.keep_for));
        let result = only(&said.frame);
        let answer = only(result.content);
        let (before, after) = (all(message), all(answer.content));
        assert_eq!(find(&after, RECORD).content, find(&before, RECORD).content);
        assert_eq!(find(&after, STANDING).number, CACHED);
        let provenance = all(find(&after, PROVENANCE).content);
        assert_eq!(provenance[..2].iter().map(|field| field.content).collect::<Vec<_>>(), {
            all(find(&before, PROVENANCE).content).iter().map(|field| field.content).collect::<Vec<_>>()
        });
        let expires_at = provenance.iter().find(|field| field.tag == EXPIRES_AT).map(|field| field.number);
        assert_eq!(expires_at.is_some(), said.keep_for > 0.0);
        for value in all(find(&after, RECORD).content).iter().filter(|field| field.tag == VALUE) {
            assert_ne!(find(&all(value.content), PERMISSIONS).number & PUBLIC_READ, 0);
        }
        // It is nobody's own word any more.
        assert_eq!(usual(answer.content, wanted, terms), None);
    }
    if let Some(split) = split(message) {
        let results = all(message);
        assert_eq!(split, results.iter().map(|result| only(result.content).content).collect::<Vec<_>>());
    }
}

fn all(message: &[u8]) -> Vec<Field<'_>> {
    fields(message).expect("a message")
}

fn find<'a>(fields: &[Field<'a>], tag: u64) -> Field<'a> {
    *fields.iter().find(|field| field.tag == tag).expect("a field that is there")
}

fn only(message: &[u8]) -> Field<'_> {
    let fields = fields(message);
    let Some([field]) = fields.as_deref() else { panic!("not one field") };
    assert_eq!(field.tag, 10);
    *field
}
