//! What stands in headers: times, bytes and texts.

use crate::answers::Status;
use crate::framing::Encoding;
use crate::metadata::{base64, from_base64, percent_encoded, timeout, values_of};

/// Reads everything that a header can be, each out of the whole input.
pub fn metadata(octets: &[u8]) {
    assert_eq!(timeout(octets).map(|time| time.as_nanos()), nanoseconds(octets));

    assert_eq!(from_base64(base64(octets).as_bytes()).as_deref(), Some(octets));
    if let Some(read) = from_base64(octets) {
        let letters = octets.iter().filter(|octet| **octet != b'=').count();
        assert_eq!(read.len(), letters * 6 / 8);
        assert_eq!(from_base64(base64(&read).as_bytes()), Some(read));
    }

    let values = values_of("key-bin", octets);
    assert_eq!(values.len(), 1 + octets.iter().filter(|octet| **octet == b',').count());
    assert!(values.iter().map(Vec::len).sum::<usize>() <= octets.len());
    assert_eq!(values_of("key", octets), [octets]);

    let text = String::from_utf8_lossy(octets);
    let header = percent_encoded(&text);
    assert!(header.as_bytes().iter().all(|octet| (0x20..0x7F).contains(octet)));
    assert_eq!(percent_decoded(header.as_bytes()), text.as_bytes());

    let is_known = Encoding::read(octets) != Encoding::Unknown;
    assert_eq!(is_known, octets == b"gzip" || octets == b"identity");

    // What Python says beside an answer: what HTTP does not take is left out.
    let code = octets.first().map_or(0, |octet| u16::from(*octet));
    let status = Status::new(code, &text, &[("key-bin", octets), ("key", octets), (&text, octets)]);
    assert!(status.code <= 16);
    let headers = status.trailers();
    assert_eq!(status.response().headers().len(), headers.len() + 1);
    assert_eq!(headers.get("key-bin").and_then(|value| from_base64(value.as_bytes())).as_deref(), Some(octets));
}

/// Reads a timeout as it is written: up to 15 digits and a unit.
fn nanoseconds(octets: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(octets).ok()?;
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let is_number = (1..=15).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
    let count: u128 = if is_number { digits.parse().ok()? } else { return None };
    let seconds = 1_000_000_000;
    let unit = match &text[digits.len()..] {
        "H" => 3_600 * seconds,
        "M" => 60 * seconds,
        "S" => seconds,
        "m" => 1_000_000,
        "u" => 1_000,
        "n" => 1,
        _ => return None,
    };
    Some(count * unit)
}

fn percent_decoded(header: &[u8]) -> Vec<u8> {
    let mut parts = header.split(|octet| *octet == b'%');
    let mut octets = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let (code, rest) = part.split_at(2);
        let code = std::str::from_utf8(code).expect("ASCII");
        octets.push(u8::from_str_radix(code, 16).expect("two digits"));
        octets.extend_from_slice(rest);
    }
    octets
}
