//! The five bytes before a gRPC message, and gathering one message that comes in pieces.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, Bytes, BytesMut};
use flate2::bufread::GzDecoder;

use crate::settings::Refusal;

/// Bytes before a message: whether it is compressed, and its length.
pub const HEAD: usize = 5;

/// Room is made for this much of a message at first: a length is only a promise.
const FIRST_ROOM: usize = 64 * 1024;

/// Room for what is kept of requests, or of answers. Its clones are the same room.
#[derive(Clone)]
pub struct Budget {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// A part of the budget; it is given back when this is dropped.
#[derive(Debug)]
pub struct Charge {
    taken: Arc<AtomicUsize>,
    octets: usize,
}

impl Budget {
    pub fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// Takes so many bytes of the budget, if they are there.
    pub fn charge(&self, octets: usize) -> Option<Charge> {
        self.taken().checked_add(octets).filter(|after| *after <= self.most)?;
        Some(self.charge_anyway(octets))
    }

    /// Takes so many bytes, whether they are there or not: what exists is counted.
    pub fn charge_anyway(&self, octets: usize) -> Charge {
        self.taken.fetch_add(octets, Ordering::Relaxed);
        Charge { taken: Arc::clone(&self.taken), octets }
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    pub fn most(&self) -> usize {
        self.most
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.octets, Ordering::Relaxed);
    }
}

/// One message as it arrived.
#[derive(Debug)]
pub struct Inbound {
    pub is_compressed: bool,
    pub octets: Bytes,
}

/// A message on its way.
#[derive(Default)]
pub struct Gathering {
    whole: Option<Inbound>,
    pieces: BytesMut,
    charge: Option<Charge>,
}

impl Gathering {
    /// Takes a piece of the body. What is too large is refused on its length, before any of it is kept.
    pub fn add(&mut self, piece: Bytes, most: usize, budget: &Budget) -> Result<(), Refusal> {
        if piece.is_empty() {
            return Ok(());
        }
        if self.whole.is_some() {
            return Err(Refusal::MalformedFrame);
        }
        if self.pieces.is_empty()
            && let Some((is_compressed, length)) = head_of(&piece)?
        {
            refuse_too_large(length, most)?;
            // Nearly every request: all of it in one frame. Nothing is copied.
            if piece.len() == HEAD + length {
                let mut octets = piece;
                octets.advance(HEAD);
                self.whole = Some(Inbound { is_compressed, octets });
                return Ok(());
            }
        }
        // The head alone first, so that the length is judged before the rest is copied.
        let missing = HEAD.saturating_sub(self.pieces.len()).min(piece.len());
        self.pieces.extend_from_slice(&piece[..missing]);
        if let Some((_, length)) = head_of(&self.pieces)? {
            refuse_too_large(length, most)?;
            if self.pieces.len() + piece.len() - missing > HEAD + length {
                return Err(Refusal::MalformedFrame);
            }
            if self.charge.is_none() {
                self.charge = Some(budget.charge(length).ok_or(Refusal::Busy)?);
                self.pieces.reserve(length.min(FIRST_ROOM));
            }
            self.pieces.extend_from_slice(&piece[missing..]);
        }
        Ok(())
    }

    /// Gives the message, once the body has ended.
    pub fn end(mut self) -> Result<Inbound, Refusal> {
        if let Some(whole) = self.whole {
            return Ok(whole);
        }
        match head_of(&self.pieces)? {
            Some((is_compressed, length)) if self.pieces.len() == HEAD + length => {
                self.pieces.advance(HEAD);
                Ok(Inbound { is_compressed, octets: self.pieces.freeze() })
            }
            _ => Err(Refusal::MalformedFrame),
        }
    }
}

fn head_of(octets: &[u8]) -> Result<Option<(bool, usize)>, Refusal> {
    let Some((&[flag, a, b, c, d], _)) = octets.split_first_chunk() else { return Ok(None) };
    match flag {
        0 | 1 => Ok(Some((flag == 1, u32::from_be_bytes([a, b, c, d]) as usize))),
        _ => Err(Refusal::MalformedFrame),
    }
}

fn refuse_too_large(length: usize, most: usize) -> Result<(), Refusal> {
    if length > most { Err(Refusal::TooLarge) } else { Ok(()) }
}

/// How the messages of a call are compressed, as its headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    Gzip,
    Unknown,
}

impl Encoding {
    pub fn read(value: &[u8]) -> Self {
        match value {
            b"identity" => Self::Identity,
            b"gzip" => Self::Gzip,
            _ => Self::Unknown,
        }
    }
}

/// Gives a message's own bytes: a small compressed message can be a very large one, and is refused like that.
pub fn unpacked(inbound: Inbound, encoding: Encoding, most: usize) -> Result<Bytes, Refusal> {
    if !inbound.is_compressed {
        return Ok(inbound.octets);
    }
    match encoding {
        // gRPC: a compressed message without an encoding is an error of the caller.
        Encoding::Identity => return Err(Refusal::MalformedFrame),
        Encoding::Unknown => return Err(Refusal::Compressed),
        Encoding::Gzip => {}
    }
    let mut octets = Vec::new();
    let mut packed = &inbound.octets[..];
    let bound = most as u64 + 1;
    match GzDecoder::new(&mut packed).take(bound).read_to_end(&mut octets) {
        Ok(length) if length > most => Err(Refusal::TooLarge),
        // What stands behind would be lost: it is no message, as with grpcio.
        Ok(_) if packed.is_empty() => Ok(octets.into()),
        _ => Err(Refusal::MalformedFrame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    fn gathered(pieces: &[&[u8]]) -> Result<Bytes, Refusal> {
        let budget = Budget::new(100);
        let mut gathering = Gathering::default();
        for piece in pieces {
            gathering.add(Bytes::copy_from_slice(piece), 64, &budget)?;
        }
        gathering.end().map(|inbound| inbound.octets)
    }

    #[test]
    fn a_message_comes_whole_or_in_pieces() {
        let wire = b"\0\0\0\0\x03abc";
        assert_eq!(gathered(&[wire]), Ok(Bytes::from_static(b"abc")));
        for cut in 0..wire.len() {
            let (head, rest) = wire.split_at(cut);
            assert_eq!(gathered(&[head, b"", rest]), Ok(Bytes::from_static(b"abc")), "cut at {cut}");
        }
        let single: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(gathered(&single), Ok(Bytes::from_static(b"abc")));
        assert_eq!(gathered(&[b"\0\0\0\0\0"]), Ok(Bytes::new()));
    }

    #[test]
    fn what_is_not_one_message_is_refused() {
        let malformed = Err(Refusal::MalformedFrame);
        assert_eq!(gathered(&[]), malformed);
        assert_eq!(gathered(&[b"\0\0\0"]), malformed);
        assert_eq!(gathered(&[b"\0\0\0\0\x03ab"]), malformed);
        assert_eq!(gathered(&[b"\0\0\0\0\x03abcd"]), malformed);
        assert_eq!(gathered(&[b"\0\0\0\0\x03abc", b"\0\0\0\0\0"]), malformed);
        assert_eq!(gathered(&[b"\x02\0\0\0\x03abc"]), malformed);
    }

    #[test]
    fn what_is_too_large_is_refused_on_its_length() {
        assert_eq!(gathered(&[b"\0\0\0\0\x41"]), Err(Refusal::TooLarge));
        assert_eq!(gathered(&[b"\0", b"\xff\xff\xff\xff"]), Err(Refusal::TooLarge));
    }

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = Budget::new(100);
        let mut first = Gathering::default();
        assert_eq!(first.add(Bytes::from_static(b"\0\0\0\0\x40a"), 64, &budget), Ok(()));
        assert_eq!(budget.taken(), 64);
        let mut second = Gathering::default();
        assert_eq!(second.add(Bytes::from_static(b"\0\0\0\0\x40a"), 64, &budget), Err(Refusal::Busy));
        drop(first);
        assert_eq!(budget.taken(), 0);
    }

    fn pack(octets: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(octets).expect("a vector takes everything");
        encoder.finish().expect("a vector takes everything")
    }

    fn inbound(octets: Vec<u8>) -> Inbound {
        Inbound { is_compressed: true, octets: octets.into() }
    }

    #[test]
    fn compressed_messages_are_bounded_by_what_they_hold() {
        assert_eq!(unpacked(inbound(pack(b"abc")), Encoding::Gzip, 64), Ok(Bytes::from_static(b"abc")));
        assert_eq!(unpacked(inbound(pack(&[0; 65])), Encoding::Gzip, 64), Err(Refusal::TooLarge));
        assert_eq!(unpacked(inbound(pack(b"abc")), Encoding::Unknown, 64), Err(Refusal::Compressed));
        assert_eq!(unpacked(inbound(pack(b"abc")), Encoding::Identity, 64), Err(Refusal::MalformedFrame));
        assert_eq!(unpacked(inbound(b"abc".to_vec()), Encoding::Gzip, 64), Err(Refusal::MalformedFrame));
    }

    #[test]
    fn nothing_stands_behind_what_is_compressed() {
        for behind in [&pack(b"def")[..], b"\0"] {
            let octets = [&pack(b"abc")[..], behind].concat();
            assert_eq!(unpacked(inbound(octets), Encoding::Gzip, 64), Err(Refusal::MalformedFrame));
        }
    }
}
