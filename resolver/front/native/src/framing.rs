//! The five bytes before a gRPC message, and gathering one message that comes in pieces.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::buf::Reader;
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

/// What a compressed message may hold whatever its size, beyond that how many times its size, and in all: identifiers do
/// not pack better, and a thousand are rarely longer. What does, or is, costs its sender next to nothing, and everybody
/// else a large message.
const UNPACKED: usize = 64 * 1024;
const UNPACKED_TIMES: usize = 100;
const UNPACKED_MOST: usize = 256 * 1024;

/// A compressed message. A small one can be a very large one: it is unpacked a piece at a time, and what is too large is
/// refused once that is seen.
pub struct Packed {
    decoder: GzDecoder<Reader<Bytes>>,
    octets: Vec<u8>,
    most: usize,
    charge: Option<Charge>,
}

impl Packed {
    /// Tells how much a file of this size may hold.
    pub fn most_of(packed: usize) -> usize {
        (UNPACKED_TIMES * packed).clamp(UNPACKED, UNPACKED_MOST)
    }

    pub fn new(octets: Bytes, encoding: Encoding) -> Result<Self, Refusal> {
        match encoding {
            // gRPC: a compressed message without an encoding is an error of the caller.
            Encoding::Identity => Err(Refusal::MalformedFrame),
            Encoding::Unknown => Err(Refusal::Compressed),
            Encoding::Gzip => {
                let most = Self::most_of(octets.len());
                Ok(Self { decoder: GzDecoder::new(octets.reader()), octets: Vec::new(), most, charge: None })
            }
        }
    }

    /// Unpacks as much as there is room for in `now`, of which that is taken. `None`: there is more.
    pub fn unpack(&mut self, now: &mut usize, most: usize, budget: &Budget) -> Option<Result<Bytes, Refusal>> {
        let most = most.min(self.most);
        let bound = (*now).min(most + 1 - self.octets.len());
        let came = (&mut self.decoder).take(bound as u64).read_to_end(&mut self.octets);
        match came {
            Ok(_) if self.octets.len() > most => Some(Err(Refusal::TooLarge)),
            Ok(came) if came == bound => {
                *now -= came;
                self.charge = None;
                self.charge = budget.charge(self.octets.len() + self.rest().len());
                if self.charge.is_some() { None } else { Some(Err(Refusal::Busy)) }
            }
            // What stands behind would be lost: it is no message, as with grpcio.
            Ok(came) if self.rest().is_empty() => {
                *now -= came;
                Some(Ok(std::mem::take(&mut self.octets).into()))
            }
            _ => Some(Err(Refusal::MalformedFrame)),
        }
    }

    /// Has it wait, in a copy: a small message would keep everything that was read together with it.
    pub fn kept(mut self) -> Box<Self> {
        let rest = self.decoder.get_mut().get_mut();
        *rest = Bytes::copy_from_slice(rest);
        Box::new(self)
    }

    fn rest(&self) -> &Bytes {
        self.decoder.get_ref().get_ref()
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

    /// Unpacks a message of at most 64 bytes, 7 at a time.
    fn unpacked(octets: Vec<u8>, encoding: Encoding) -> Result<Bytes, Refusal> {
        let budget = Budget::new(1_024);
        let mut packed = Packed::new(octets.into(), encoding)?;
        loop {
            if let Some(message) = packed.unpack(&mut 7, 64, &budget) {
                return message;
            }
        }
    }

    #[test]
    fn compressed_messages_are_bounded_by_what_they_hold() {
        assert_eq!(unpacked(pack(b"abc"), Encoding::Gzip), Ok(Bytes::from_static(b"abc")));
        assert_eq!(unpacked(pack(&[0; 65]), Encoding::Gzip), Err(Refusal::TooLarge));
        assert_eq!(unpacked(pack(b"abc"), Encoding::Unknown), Err(Refusal::Compressed));
        assert_eq!(unpacked(pack(b"abc"), Encoding::Identity), Err(Refusal::MalformedFrame));
        assert_eq!(unpacked(b"abc".to_vec(), Encoding::Gzip), Err(Refusal::MalformedFrame));
    }

    #[test]
    fn what_is_half_unpacked_is_counted_until_it_is_whole() {
        let file = pack(&[7; 60]);
        let budget = Budget::new(60 + file.len());
        let mut packed =
            Packed::new(file.clone().into(), Encoding::Gzip).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        assert_eq!(packed.unpack(&mut 0, 64, &budget), None);
        assert!((1..=file.len()).contains(&budget.taken()), "also what waits");
        let mut packed = packed.kept();
        let mut now = 50;
        assert_eq!(packed.unpack(&mut now, 64, &budget), None);
        assert_eq!(now, 0);
        assert!((50..50 + file.len()).contains(&budget.taken()));
        assert_eq!(packed.unpack(&mut 50, 64, &Budget::new(0)), Some(Ok(vec![7; 60].into())));
        drop(packed);
        assert_eq!(budget.taken(), 0);
        let mut packed = Packed::new(file.into(), Encoding::Gzip).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        assert_eq!(packed.unpack(&mut 50, 64, &Budget::new(49)), Some(Err(Refusal::Busy)));
    }

    #[test]
    fn what_packs_as_nothing_honest_does_is_refused() {
        let unpacked = |octets: &[u8]| {
            let mut packed = Packed::new(pack(octets).into(), Encoding::Gzip)?;
            packed.unpack(&mut (8 << 20), 4 << 20, &Budget::new(8 << 20)).expect("all of it")
        };
        assert!(unpacked(&[0; UNPACKED]).is_ok());
        assert_eq!(unpacked(&[0; UNPACKED + 1]), Err(Refusal::TooLarge));
        let numbered: Vec<u8> =
            (0..15_000).flat_map(|number| format!("\n\x1088.111.1/{number:06}").into_bytes()).collect();
        assert_eq!(unpacked(&numbered), Ok(numbered.clone().into()));
        assert_eq!(unpacked(&[&numbered[..], &numbered].concat()), Err(Refusal::TooLarge));
    }

    #[test]
    fn nothing_stands_behind_what_is_compressed() {
        for behind in [&pack(b"def")[..], b"\0"] {
            let octets = [&pack(b"abc")[..], behind].concat();
            assert_eq!(unpacked(octets, Encoding::Gzip), Err(Refusal::MalformedFrame));
        }
    }
}
