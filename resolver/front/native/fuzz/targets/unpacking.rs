//! Compressed messages: never more than they may hold, and nothing else than what was packed.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::bufread::DeflateDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, Crc};

use super::Tape;
use crate::framing::{Budget, Encoding, Packed};
use crate::settings::Refusal;

/// A gzip member's head without anything that may be left out (RFC 1952).
const HEAD: [u8; 10] = [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 0xFF];

/// A bound that nothing reaches which is told to be smaller than another.
const WIDE: usize = 1 << 20;

/// Reads how large a message may be, what the rest is, and the rest: a gzip file, a deflated stream, or what to pack.
pub fn unpacking(octets: &[u8]) {
    let mut tape = Tape(octets);
    let most = usize::from(tape.octet()) * 16;
    let kind = tape.octet() % 3;
    let rest = tape.rest();
    match kind {
        0 => any_file(rest, most),
        1 => any_stream(rest, most),
        _ => packed_and_unpacked(rest, most),
    }
}

fn any_file(file: &[u8], most: usize) {
    let (narrow, wide) = (read(file, most), read(file, WIDE));
    match (&narrow, &wide) {
        (Ok(message), _) => {
            assert!(message.len() <= most);
            assert!(narrow == wide);
        }
        // What is broken only behind the bound is not looked at.
        (Err(Refusal::TooLarge), Ok(message)) => assert!(message.len() > most),
        (Err(Refusal::TooLarge), Err(_)) => {}
        (Err(_), _) => assert!(narrow == wide),
    }
    if wide.is_ok() {
        assert_eq!(read(&[file, b"\0"].concat(), WIDE), Err(Refusal::MalformedFrame), "a byte more");
    }
    // Only gzip is unpacked.
    for (encoding, refusal) in [(Encoding::Identity, Refusal::MalformedFrame), (Encoding::Unknown, Refusal::Compressed)]
    {
        assert_eq!(Packed::new(Bytes::copy_from_slice(file), encoding).err(), Some(refusal));
    }
}

/// A file whose checksum is right, so that what is in it counts.
fn any_stream(stream: &[u8], most: usize) {
    let mut reader = stream;
    let mut message = Vec::new();
    let mut decoder = DeflateDecoder::new(&mut reader).take(WIDE as u64 + 1);
    let is_whole = decoder.read_to_end(&mut message).is_ok();
    let used = stream.len() - reader.len();
    if !is_whole || message.len() > WIDE.min(Packed::most_of(HEAD.len() + used + 8)) {
        return any_file(&[&HEAD, stream].concat(), most);
    }
    let used = &stream[..used];
    let mut sum = Crc::new();
    sum.update(&message);
    let file = [&HEAD, used, &sum.sum().to_le_bytes(), &sum.amount().to_le_bytes()].concat();
    assert_eq!(read(&file, WIDE).as_deref(), Ok(&message[..]));
    any_file(&file, most);
}

fn packed_and_unpacked(message: &[u8], most: usize) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(message).expect("a vector takes everything");
    let file = encoder.finish().expect("a vector takes everything");
    let expected = if message.len() > most { Err(Refusal::TooLarge) } else { Ok(message) };
    assert_eq!(read(&file, most).as_deref(), expected.as_ref().map(|message| *message));
    for end in 0..file.len().min(64) {
        assert_eq!(read(&file[..end], most.max(message.len())), Err(Refusal::MalformedFrame), "cut off at {end}");
    }
}

fn read(file: &[u8], most: usize) -> Result<Bytes, Refusal> {
    let budget = Budget::new(WIDE);
    // In pieces of one size and of another.
    let [first, second] = [1 + most, 17].map(|step| {
        let mut packed = Packed::new(Bytes::copy_from_slice(file), Encoding::Gzip)?;
        loop {
            if let Some(message) = packed.unpack(&mut step.clone(), most, &budget) {
                return message;
            }
        }
    });
    assert_eq!(first, second);
    first
}
