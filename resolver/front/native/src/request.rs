//! Reading requests that are identifiers and nothing else. Everything else is read in Python.

use std::ops::Range;

/// The tag of field 1, bytes: `identifier` of a Resolve, each of `identifiers` of a BatchResolve.
const FIELD_ONE: u8 = 0x0A;

/// Options, behind the identifiers, that say nothing but what holds without them: none, or the mode that is the usual one.
/// Some clients always write them.
const USUAL_OPTIONS: [&[u8]; 3] = [b"\x12\x00", b"\x12\x02\x18\x00", b"\x12\x02\x18\x01"];

/// Longer ones are refused by whoever reads requests whole; they get no place here.
pub const IDENTIFIER_BYTES: usize = 2_048;

/// Gives the identifier of a request that is nothing else.
pub fn plain_one(octets: &[u8]) -> Option<&[u8]> {
    let (range, end) = field_at(octets, 0)?;
    (end == octets.len() || USUAL_OPTIONS.contains(&&octets[end..])).then(|| &octets[range])
}

/// Gives where the identifiers stand in a request that is 1 to `most` of them and nothing else.
pub fn plain_batch(octets: &[u8], most: usize) -> Option<Vec<Range<usize>>> {
    let mut ranges = Vec::with_capacity(octets.len() / 24);
    let mut at = 0;
    while at < octets.len() {
        if octets[at] != FIELD_ONE && USUAL_OPTIONS.contains(&&octets[at..]) {
            break;
        }
        let (range, end) = field_at(octets, at)?;
        if ranges.len() == most {
            return None;
        }
        ranges.push(range);
        at = end;
    }
    (!ranges.is_empty()).then_some(ranges)
}

/// Gives the service that a HealthCheckRequest names; empty: all of them. `None`: it is not such a request.
pub fn health_service(octets: &[u8]) -> Option<&str> {
    let mut service: &[u8] = b"";
    let mut at = 0;
    while at < octets.len() {
        let (range, end) = field_at(octets, at)?;
        (service, at) = (&octets[range], end);
    }
    std::str::from_utf8(service).ok()
}

fn field_at(octets: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    let [tag, first] = *octets.get(at..at + 2)? else { return None };
    if tag != FIELD_ONE {
        return None;
    }
    // No plain identifier has a length of more than two bytes.
    let (length, start) = if first < 0x80 {
        (usize::from(first), at + 2)
    } else {
        let second = *octets.get(at + 2)?;
        if second >= 0x80 || second == 0 {
            return None;
        }
        (usize::from(first & 0x7F) | usize::from(second) << 7, at + 3)
    };
    let end = start + length;
    (length <= IDENTIFIER_BYTES && end <= octets.len()).then_some((start..end, end))
}

/// Takes the tag and the length off a frame, which is one result of a batch: what is left is a unary response.
pub fn body_of_frame(frame: &[u8]) -> Option<&[u8]> {
    let (&tag, rest) = frame.split_first()?;
    let (mut length, mut shift) = (0_usize, 0);
    for (place, octet) in rest.iter().enumerate() {
        length |= usize::from(octet & 0x7F).checked_shl(shift)?;
        shift += 7;
        if *octet < 0x80 {
            let body = &rest[place + 1..];
            return (tag == FIELD_ONE && body.len() == length).then_some(body);
        }
        if place == 4 {
            break;
        }
    }
    None
}

/// Tells how many bytes a frame has around its body.
pub fn frame_head(body: usize) -> usize {
    let mut head = 2;
    let mut rest = body >> 7;
    while rest > 0 {
        head += 1;
        rest >>= 7;
    }
    head
}

/// Writes what stands before the body of a frame.
pub fn put_frame_head(into: &mut bytes::BytesMut, body: usize) {
    use bytes::BufMut;
    into.put_u8(FIELD_ONE);
    let mut rest = body;
    while rest >= 0x80 {
        into.put_u8((rest & 0x7F) as u8 | 0x80);
        rest >>= 7;
    }
    into.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(octets: &[u8]) -> Vec<u8> {
        let mut wire = bytes::BytesMut::new();
        put_frame_head(&mut wire, octets.len());
        wire.extend_from_slice(octets);
        wire.to_vec()
    }

    #[test]
    fn one_identifier_and_nothing_else_is_plain() {
        for length in [0, 1, 127, 128, 300, IDENTIFIER_BYTES] {
            let identifier = vec![b'x'; length];
            assert_eq!(plain_one(&field(&identifier)), Some(&identifier[..]));
        }
        for usual in USUAL_OPTIONS {
            assert_eq!(plain_one(&[b"\x0a\x01a", usual].concat()), Some(&b"a"[..]));
        }
        let odd: &[&[u8]] = &[
            b"",
            b"\x0a",
            b"\x0a\x02a",
            b"\x0a\x01ab",
            b"\x12\x00",
            b"\x12\x01a",
            b"\x0a\x81\x00a",
            b"\x0a\x01a\x12",
            b"\x0a\x01a\x12\x02\x18\x02",
            b"\x0a\x01a\x12\x02\x20\x01",
            b"\x0a\x01a\x12\x00\x12\x00",
            b"\x12\x00\x0a\x01a",
        ];
        for wire in odd {
            assert_eq!(plain_one(wire), None, "{wire:?}");
        }
        assert_eq!(plain_one(&field(&vec![b'x'; IDENTIFIER_BYTES + 1])), None);
    }

    #[test]
    fn a_batch_of_identifiers_and_nothing_else_is_plain() {
        let wire = [field(b"88.1/a"), field(b""), field(&[b'b'; 200])].concat();
        let ranges = plain_batch(&wire, 3).expect("plain");
        let identifiers: Vec<&[u8]> = ranges.iter().map(|range| &wire[range.clone()]).collect();
        assert_eq!(identifiers, [&b"88.1/a"[..], b"", &[b'b'; 200]]);
        assert_eq!(plain_batch(&wire, 2), None);
        assert_eq!(plain_batch(b"", 2), None);
        for usual in USUAL_OPTIONS {
            assert_eq!(plain_batch(&[&wire[..], usual].concat(), 3), Some(ranges.clone()));
            assert_eq!(plain_batch(usual, 3), None);
        }
        for odd in [&b"\x12\x02\x18\x03"[..], b"\x12\x02\x30\x01", b"\x12\x00\x12\x00", b"\x12\x00\x0a\x01a"] {
            assert_eq!(plain_batch(&[&wire[..], odd].concat(), 9), None);
        }
        assert_eq!(plain_batch(&wire[..wire.len() - 1], 9), None);
    }

    #[test]
    fn nothing_that_is_cut_off_reads_beyond_its_end() {
        let wire = [field(&[b'b'; 200]), field(b"a")].concat();
        for end in 0..wire.len() {
            let _ = plain_one(&wire[..end]);
            let _ = plain_batch(&wire[..end], 9);
            let _ = body_of_frame(&wire[..end]);
        }
    }

    #[test]
    fn frames_lose_and_get_back_their_heads() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
            let body = vec![7; length];
            let frame = field(&body);
            assert_eq!(body_of_frame(&frame), Some(&body[..]));
            assert_eq!(frame_head(length), frame.len() - length);
        }
        for odd in [&b""[..], b"\x0a", b"\x0a\x02a", b"\x12\x01a", b"\x0a\xff\xff\xff\xff\xff\xff"] {
            assert_eq!(body_of_frame(odd), None);
        }
    }

    #[test]
    fn health_names_a_service_or_none() {
        assert_eq!(health_service(b""), Some(""));
        assert_eq!(health_service(&field(b"a.B")), Some("a.B"));
        assert_eq!(health_service(b"\x0a\x01\xff"), None);
        assert_eq!(health_service(b"\x08\x01"), None);
    }
}
