//! Reading requests that are identifiers and how far to go for their answers. Everything else is read in Python.

use std::ops::Range;

/// The tag of field 1, bytes: `identifier` of a Resolve, each of `identifiers` of a BatchResolve.
const FIELD_ONE: u8 = 0x0A;

/// The tag of field 2, bytes: `options` of both.
const FIELD_TWO: u8 = 0x12;

/// Of options: the tag of `mode`, and what stands before `path`.
const MODE: u8 = 0x18;
const PATH: u8 = 0x3A;

/// Of a path: how many nodes it has been through at most, and through how many it may go.
const HOPS_MAX: usize = 8;

/// Longer ones are refused by whoever reads requests whole; they get no place here.
pub const IDENTIFIER_BYTES: usize = 2_048;

/// How far to go for answers that are not this node's own: what `mode` and `path` of the options say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Where the options stand in the request. Empty: what holds without any, which some clients always write.
    pub options: Range<usize>,
    /// They are counted apart (MODE_RECURSIVE).
    pub is_recursive: bool,
}

impl Way {
    /// Is it how nearly everybody asks?
    pub fn is_usual(&self) -> bool {
        self.options.is_empty()
    }
}

/// Gives the identifier of a request that is nothing else but its way.
pub fn plain_one(octets: &[u8]) -> Option<(&[u8], Way)> {
    let (range, end) = field_at(octets, 0)?;
    Some((&octets[range], way_at(octets, end)?))
}

/// Gives where the identifiers stand in a request that is 1 to `most` of them, and its way.
pub fn plain_batch(octets: &[u8], most: usize) -> Option<(Vec<Range<usize>>, Way)> {
    let mut ranges = Vec::with_capacity(octets.len() / 24);
    let mut at = 0;
    while at < octets.len() && octets[at] == FIELD_ONE {
        let (range, end) = field_at(octets, at)?;
        if ranges.len() == most {
            return None;
        }
        ranges.push(range);
        at = end;
    }
    let way = way_at(octets, at)?;
    (!ranges.is_empty()).then_some((ranges, way))
}

/// Reads the options behind the identifiers, which end the request, as everybody writes them. `None`: they say more, or
/// something that is to be refused.
fn way_at(octets: &[u8], at: usize) -> Option<Way> {
    let Some((&[FIELD_TWO, length], options)) = octets[at..].split_first_chunk::<2>() else {
        return (at == octets.len()).then(Way::default);
    };
    if length >= 0x80 || options.len() != usize::from(length) {
        return None;
    }
    let Some((&[MODE, mode @ 0..=3], rest)) = options.split_first_chunk::<2>() else {
        return options.is_empty().then(Way::default);
    };
    match rest {
        [] => {}
        [PATH, length, path @ ..] if path.len() == usize::from(*length) && is_path(path) => {}
        _ => return None,
    }
    // Where nobody is asked it does not matter how one came here.
    let is_usual = mode < 2;
    Some(Way { options: if is_usual { 0..0 } else { at + 2..octets.len() }, is_recursive: mode == 3 })
}

/// Is this a path that no node would refuse? Names that are not plain ASCII are left to those who know them.
fn is_path(mut octets: &[u8]) -> bool {
    let mut visited = 0;
    while let [FIELD_ONE, length, rest @ ..] = octets {
        let Some((name, rest)) = rest.split_at_checked(usize::from(*length)) else { return false };
        if name.is_empty() || visited == HOPS_MAX || !name.iter().all(u8::is_ascii_graphic) {
            return false;
        }
        (visited, octets) = (visited + 1, rest);
    }
    matches!(octets, [] | [0x10, 1..=8])
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
    put_varint(into, body as u64);
}

/// Writes a number as protobuf does.
pub fn put_varint(into: &mut bytes::BytesMut, number: u64) {
    use bytes::BufMut;
    let mut rest = number;
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

    /// Options that say no more than none do.
    const USUAL: [&[u8]; 5] =
        [b"", b"\x12\x00", b"\x12\x02\x18\x00", b"\x12\x02\x18\x01", b"\x12\x06\x18\x01\x3a\x02\x10\x01"];

    #[test]
    fn one_identifier_and_nothing_else_is_plain() {
        for length in [0, 1, 127, 128, 300, IDENTIFIER_BYTES] {
            let identifier = vec![b'x'; length];
            assert_eq!(plain_one(&field(&identifier)), Some((&identifier[..], Way::default())));
        }
        for usual in USUAL {
            assert_eq!(plain_one(&[b"\x0a\x01a", usual].concat()), Some((&b"a"[..], Way::default())));
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
            b"\x0a\x01a\x12\x02\x18\x04",
            b"\x0a\x01a\x12\x03\x18\x02",
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
        let (ranges, way) = plain_batch(&wire, 3).expect("plain");
        assert!(way.is_usual());
        let identifiers: Vec<&[u8]> = ranges.iter().map(|range| &wire[range.clone()]).collect();
        assert_eq!(identifiers, [&b"88.1/a"[..], b"", &[b'b'; 200]]);
        assert_eq!(plain_batch(&wire, 2), None);
        assert_eq!(plain_batch(b"", 2), None);
        for usual in USUAL {
            assert_eq!(plain_batch(&[&wire[..], usual].concat(), 3), Some((ranges.clone(), way.clone())));
            assert_eq!(plain_batch(usual, 3), None);
        }
        for odd in [&b"\x12\x02\x18\x04"[..], b"\x12\x02\x30\x01", b"\x12\x00\x12\x00", b"\x12\x00\x0a\x01a"] {
            assert_eq!(plain_batch(&[&wire[..], odd].concat(), 9), None);
        }
        assert_eq!(plain_batch(&wire[..wire.len() - 1], 9), None);
    }

    #[test]
    fn a_way_is_read_where_it_is_one() {
        let way = |options: &[u8]| {
            let wire = [&b"\x0a\x01a"[..], &[FIELD_TWO, options.len() as u8], options].concat();
            plain_one(&wire).map(|(_, way)| (wire[way.options].to_vec(), way.is_recursive))
        };
        let path = |nodes: &[&[u8]], behind: &[u8]| {
            let path = [nodes.iter().flat_map(|node| field(node)).collect(), behind.to_vec()].concat();
            [&[MODE, 3, PATH, path.len() as u8], &path[..]].concat()
        };
        assert_eq!(way(b"\x18\x02"), Some((b"\x18\x02".to_vec(), false)));
        for recursive in [
            b"\x18\x03".to_vec(),
            path(&[], b""),
            path(&[], b"\x10\x08"),
            path(&[b"top"], b"\x10\x02"),
            path(&[&b"88.1"[..]; 8], b""),
        ] {
            assert_eq!(way(&recursive), Some((recursive.clone(), true)));
        }
        for odd in [
            path(&[], b"\x10\x09"),
            path(&[], b"\x10\x00"),
            path(&[b""], b""),
            path(&["头".as_bytes()], b""),
            path(&[b"a b"], b""),
            path(&[&b"88.1"[..]; 9], b""),
            path(&[], b"\x10\x02\x0a\x01a"),
            path(&[], b"\x0a\x02a"),
            [&path(&[b"top"], b"\x10\x02")[..], b"\x40\x01"].concat(),
        ] {
            assert_eq!(way(&odd), None, "{odd:?}");
        }
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
