//! How gRPC writes what stands in headers: texts, bytes and times.

use std::time::Duration;

use http::HeaderValue;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Writes a text as `grpc-message` does: what is not printable ASCII, and the percent sign, as `%XX`.
pub fn percent_encoded(text: &str) -> HeaderValue {
    let mut written = String::with_capacity(text.len());
    for octet in text.bytes() {
        if (0x20..0x7F).contains(&octet) && octet != b'%' {
            written.push(char::from(octet));
        } else {
            written.push('%');
            written.push(char::from(HEX[usize::from(octet >> 4)]));
            written.push(char::from(HEX[usize::from(octet & 15)]));
        }
    }
    HeaderValue::try_from(written).unwrap_or(HeaderValue::from_static(""))
}

/// Reads a text that is percent-encoded; what is not is left as it is, as gRPC has it.
pub fn percent_decoded(text: &[u8]) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, behind)) = rest.split_first() {
        let encoded = (first == b'%').then(|| behind.first_chunk::<2>()).flatten();
        let octet = encoded.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        octets.push(octet.unwrap_or(first));
        rest = if octet.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// Writes bytes in base64 without padding.
pub fn base64(octets: &[u8]) -> String {
    let mut written = String::with_capacity(octets.len().div_ceil(3) * 4);
    for chunk in octets.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            written.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    written
}

/// Reads base64, padded or not; `None` where it is neither.
pub fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|octet| *octet != b'=').map_or(0, |last| last + 1);
    let (mut octets, mut bits, mut held) = (Vec::with_capacity(end / 4 * 3 + 2), 0_u32, 0);
    for octet in &text[..end] {
        let value = match octet {
            b'A'..=b'Z' => octet - b'A',
            b'a'..=b'z' => octet - b'a' + 26,
            b'0'..=b'9' => octet - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            octets.push((bits >> held & 0xFF) as u8);
        }
    }
    // One letter alone holds no byte.
    (end % 4 != 1 && text.len() - end < 3).then_some(octets)
}

/// Reads the values of a `-bin` key: several may stand in one header, with commas between.
pub fn values_of(name: &str, value: &[u8]) -> Vec<Vec<u8>> {
    if !name.ends_with("-bin") {
        return vec![value.to_vec()];
    }
    // What is not base64 is handed on as it came: whoever asked for this key tells why it proves nothing.
    value.split(|octet| *octet == b',').map(|part| from_base64(part.trim_ascii()).unwrap_or(part.to_vec())).collect()
}

/// Writes a `grpc-timeout`, in eight digits at most: as exact as that allows, and never more than there is.
pub fn written_timeout(left: Duration) -> HeaderValue {
    const DIGITS: u128 = 100_000_000;
    let (count, unit) = match (left.as_micros(), left.as_millis()) {
        (micros, _) if micros < DIGITS => (micros, 'u'),
        (_, millis) if millis < DIGITS => (millis, 'm'),
        _ => (u128::from(left.as_secs()).min(DIGITS - 1), 'S'),
    };
    HeaderValue::try_from(format!("{count}{unit}")).unwrap_or(HeaderValue::from_static("0u"))
}

/// Reads a `grpc-timeout`: digits and a unit. By gRPC there are eight digits at most; other servers take more.
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 15 {
        return None;
    }
    let mut count = 0_u64;
    for digit in digits {
        count = count * 10 + u64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_percent_encoded() {
        assert_eq!(percent_encoded("as it is"), "as it is");
        assert_eq!(percent_encoded("100% ü\n"), "100%25 %C3%BC%0A");
    }

    #[test]
    fn texts_are_percent_decoded() {
        for text in ["as it is", "100% ü\n", ""] {
            assert_eq!(percent_decoded(percent_encoded(text).as_bytes()), text);
        }
        assert_eq!(percent_decoded(b"100% %zz %4 %41%"), "100% %zz %4 A%");
        assert_eq!(percent_decoded(b"%FF"), "\u{FFFD}");
    }

    #[test]
    fn bytes_go_both_ways() {
        for length in 0..70_u8 {
            let octets: Vec<u8> = (0..length).map(|octet| octet.wrapping_mul(37)).collect();
            assert_eq!(from_base64(base64(&octets).as_bytes()), Some(octets));
        }
        assert_eq!(base64(b"\xff\xfe"), "//4");
        assert_eq!(from_base64(b"//4="), Some(b"\xff\xfe".to_vec()));
        assert_eq!(from_base64(b"A"), None);
        assert_eq!(from_base64(b"A!"), None);
    }

    #[test]
    fn a_binary_key_may_have_several_values() {
        assert_eq!(values_of("a-bin", b"YQ, Yg=="), vec![b"a".to_vec(), b"b".to_vec()]);
        assert_eq!(values_of("a", b"YQ, Yg=="), vec![b"YQ, Yg==".to_vec()]);
        assert_eq!(values_of("a-bin", b"?"), vec![b"?".to_vec()]);
    }

    #[test]
    fn timeouts_are_written() {
        for (left, written) in [
            (Duration::ZERO, "0u"),
            (Duration::from_nanos(1_999), "1u"),
            (Duration::from_secs(99), "99000000u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::MAX, "99999999S"),
        ] {
            assert_eq!(written_timeout(left), written);
            assert!(timeout(written.as_bytes()).is_some_and(|read| read <= left));
        }
    }

    #[test]
    fn timeouts_are_read() {
        assert_eq!(timeout(b"5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout(b"99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(timeout(b"20u"), Some(Duration::from_micros(20)));
        for odd in [&b""[..], b"S", b"5", b"-5S", b"1234567890123456S", b"5s"] {
            assert_eq!(timeout(odd), None);
        }
    }
}
