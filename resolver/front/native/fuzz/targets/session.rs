//! A client's session, whose server says what it likes: each call ends once, and brings no more than it may.

use std::collections::HashSet;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};

use super::Tape;
use crate::answers::framed;
use crate::client::{Session, Token};

/// Reads how large a message may be, how many calls there are and which are cancelled, how the server's bytes are cut, and
/// those bytes.
pub fn session(octets: &[u8]) {
    let mut tape = Tape(octets);
    let limit = usize::from(tape.octet()) * 8;
    let said = tape.octet();
    let cut = usize::from(tape.octet()) + 1;
    let wire = tape.rest();
    let mut session = Session::new(Authority::from_static("localhost"), said & 0x80 != 0, limit).expect("a preface");
    let mut waiting: HashSet<Token> = (0..said % 4)
        .map(|_| session.call(PathAndQuery::from_static("/t.L/One"), framed(&[b"?"]), Duration::from_secs(1)))
        .collect();
    let (preface, _) = session.go_on();
    assert!(preface.starts_with(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
    let hear = |session: &mut Session, waiting: &mut HashSet<Token>| {
        for (token, ended) in session.go_on().1 {
            assert!(waiting.remove(&token), "a call ends once, and not after it was cancelled");
            assert!(ended.message.len() <= limit);
            assert!(ended.code == 0 || ended.message.is_empty());
        }
    };
    for (place, piece) in wire.chunks(cut).enumerate() {
        session.receive(piece);
        hear(&mut session, &mut waiting);
        if place == 1 && said & 0x40 != 0 {
            session.cancel(1);
            waiting.remove(&1);
        }
        if place == 2 && said & 0x20 != 0 {
            session.ping();
        }
    }
    session.end();
    hear(&mut session, &mut waiting);
    assert!(waiting.is_empty(), "when nothing comes any more all calls end");
    assert!(session.is_over());
}
