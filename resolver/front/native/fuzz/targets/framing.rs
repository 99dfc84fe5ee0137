//! Messages out of frames: however a frame is cut, it is what the rule says, and takes no more room than it may.

use bytes::Bytes;

use super::Tape;
use crate::framing::{Budget, Gathering, HEAD};
use crate::settings::Refusal;

type Framed = Result<(bool, Bytes), Refusal>;

/// Reads how large a message may be, how the frame is cut, and the frame.
pub fn framing(octets: &[u8]) {
    let mut tape = Tape(octets);
    let most = usize::from(tape.octet()) * 8;
    let count = usize::from(tape.octet() % 16);
    let cuts = tape.some(count);
    let wire = tape.rest();
    let whole = gathered(std::iter::once(wire), most);
    assert_eq!(whole, as_the_rule_says(wire, most));
    assert_eq!(gathered(pieces(wire, cuts).into_iter(), most), whole, "cut at {cuts:?}");
    assert_eq!(gathered(wire.chunks(1), most), whole, "byte by byte");
}

fn pieces<'a>(wire: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut tape = Tape(wire);
    let mut pieces: Vec<&[u8]> = cuts.iter().map(|cut| tape.some(usize::from(*cut))).collect();
    pieces.push(tape.rest());
    pieces
}

fn gathered<'a>(pieces: impl Iterator<Item = &'a [u8]>, most: usize) -> Framed {
    let budget = Budget::new(most);
    let mut gathering = Gathering::default();
    let mut taken = Vec::new();
    let all = || {
        for piece in pieces {
            gathering.add(Bytes::copy_from_slice(piece), most, &budget)?;
            assert!(budget.taken() <= most);
            taken.extend_from_slice(piece);
            assert!(promised(&taken).is_none_or(|whole| taken.len() <= whole), "what is too much is refused at once");
        }
        std::mem::take(&mut gathering).end()
    };
    let framed = all().map(|inbound| (inbound.is_compressed, inbound.octets));
    drop(gathering);
    assert_eq!(budget.taken(), 0, "what was taken of the budget is given back");
    framed
}

/// How long the frame is whose beginning this is.
fn promised(taken: &[u8]) -> Option<usize> {
    let (&[_, a, b, c, d], _) = taken.split_first_chunk::<HEAD>()?;
    Some(HEAD + u32::from_be_bytes([a, b, c, d]) as usize)
}

fn as_the_rule_says(wire: &[u8], most: usize) -> Framed {
    let Some((&[flag, a, b, c, d], message)) = wire.split_first_chunk::<HEAD>() else {
        return Err(Refusal::MalformedFrame);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    match flag {
        0 | 1 if length > most => Err(Refusal::TooLarge),
        0 | 1 if length == message.len() => Ok((flag == 1, Bytes::copy_from_slice(message))),
        _ => Err(Refusal::MalformedFrame),
    }
}
